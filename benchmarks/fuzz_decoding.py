"""Damage real and made-up DICOM files in many ways and decode them: `python benchmarks/fuzz_decoding.py FOLDER --mutations 10000`.

Prints one JSON line: mutations, outcomes by reason, crashes (a process that died), hangs (over 20 s), unlisted errors, slowest.
A process of its own decodes, so that a crash is counted and the run goes on.
"""

import argparse
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np

from sacro_ray.config import Prepare
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph
from sacro_ray.imaging.exclusion import REASONS

HANG_SECONDS = 20
LARGEST_FILE = 300_000  # bytes: large films take their time to decode, and their headers are no other
EVERY = Prepare(store_size=64, modalities=["CR", "DX", "RF", "RG", "SC", "OT", "US", "MR"])


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Change bytes, lengths and tags, mostly in the header; cut, double or drop pieces."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        reach = len(changed) if rng.random() < 0.4 else min(len(changed), 3000)
        place, kind = int(rng.integers(0, reach)), rng.random()
        if kind < 0.5:
            changed[place] = int(rng.integers(0, 256))
        elif kind < 0.6:
            changed[place : place + 4] = rng.integers(0, 256, 4).astype(np.uint8).tobytes()
        elif kind < 0.7:
            changed[place : place + 2] = rng.choice([b"\xff\xff", b"\0\0", b"\xff\x7f"])
        elif kind < 0.8:
            del changed[place : place + int(rng.integers(1, 64))]
        elif kind < 0.9:
            changed[place:place] = changed[place : place + int(rng.integers(1, 64))]
        else:
            del changed[int(rng.integers(place, len(changed) + 1)) :]
        if not changed:
            break
    return bytes(changed)


def decode_all(files: list[bytes], first: int, last: int, report: str) -> None:
    """Decode mutations `first` to `last`; write each outcome as a line, before and after."""
    with open(report, "a", buffering=1) as log:
        for number in range(first, last):
            rng = np.random.default_rng(number)
            data = mutate(files[number % len(files)], rng)
            log.write(f"{number} start 0\n")
            signal.alarm(HANG_SECONDS)
            start = time.perf_counter()
            try:
                read_radiograph(data, EVERY)
                outcome = "decoded"
            except ExcludedRadiograph as error:
                outcome = error.reason
            except Exception as error:
                outcome = f"UNLISTED:{type(error).__name__}"
            signal.alarm(0)
            log.write(f"{number} {outcome} {time.perf_counter() - start:.3f}\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--mutations", type=int, default=10_000)
    options = arguments.parse_args()
    files = [p.read_bytes() for p in sorted(options.folder.rglob("*.dcm")) if p.stat().st_size <= LARGEST_FILE]
    report = f"/tmp/fuzz-{os.getpid()}.log"
    done, deaths = 0, []
    while done < options.mutations:
        process = multiprocessing.get_context("spawn").Process(target=decode_all, args=(files, done, options.mutations, report))
        process.start()
        process.join()
        lines = Path(report).read_text().splitlines()
        last, outcome, _ = lines[-1].split()
        done = int(last) + 1
        if outcome == "start":
            deaths.append((int(last), "hang" if process.exitcode == -signal.SIGALRM else "crash"))
    rows = [line.split() for line in Path(report).read_text().splitlines() if " start " not in line]
    outcomes = Counter(row[1] for row in rows)
    slowest = max(rows, key=lambda row: float(row[2]))
    result = {
        "benchmark": "fuzz_decoding",
        "files": len(files),
        "mutations": options.mutations,
        "crashes": [n for n, kind in deaths if kind == "crash"],
        "hangs": [n for n, kind in deaths if kind == "hang"],
        "unlisted": {k: v for k, v in outcomes.items() if k != "decoded" and k not in REASONS},
        "slowest_s": float(slowest[2]),
        "outcomes": dict(outcomes.most_common()),
    }
    print(json.dumps(result))
    Path(report).unlink()


if __name__ == "__main__":
    main()
