"""How fast is `prepare`, and does its memory grow: `python benchmarks/prepare.py`, one JSON line.

Films are made up: 12 of 16 bits, 1500 x 1200 pixels, a third each uncompressed, RLE and JPEG 2000 lossless; every third MONOCHROME1.
The plain loop over the same files, in the same run, before and after: pydicom reads and windows, Pillow shrinks and writes a PNG.
Rates count from a Ray that runs, to the finished manifest; hashes, JSON, shards, contact sheets and leak checks included.
Memory: largest resident size of the driver and of a worker, MiB, over small films.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from sacro_ray.config import build_experiment

STORE_PX = 1024


def write_film(path: Path, height: int, width: int, seed: int) -> None:
    """A smooth body with grain, as DX."""
    rng = np.random.default_rng(seed)
    body = np.asarray(
        Image.fromarray(rng.random((12, 10)).astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    )
    pixels = np.clip(body * 3000 + 500 + rng.normal(0, 12, body.shape), 0, 4095).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(seed)])
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, "DX"
    inverted = seed % 3 == 2
    film.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    film.Rows, film.Columns, film.SamplesPerPixel, film.PixelRepresentation = height, width, 1, 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.WindowCenter, film.WindowWidth = 2048, 4096
    film.PixelData = (4095 - pixels if inverted else pixels).tobytes()
    if seed // 3 % 3:
        film.compress(RLELossless if seed // 3 % 3 == 1 else JPEG2000Lossless)
    film.save_as(path, enforce_file_format=True)


def write_cohort(folder: Path, count: int, height: int, width: int) -> None:
    """Films and both tables."""
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        write_film(folder / f"images/{i}.dcm", height, width, i)
    rows = [f"f{i},p{i},images/{i}.dcm" for i in range(count)]
    (folder / "cohort.csv").write_text("\n".join(["radiograph_id,patient_id,path", *rows]))
    (folder / "readings.csv").write_text("\n".join(["radiograph_id,reader,grade", *(f"f{i},a,{i % 4}" for i in range(count))]))


def plain_loop(files: list[Path], out: Path) -> float:
    """Images a second of pydicom and Pillow in one process."""
    out.mkdir()
    start = time.perf_counter()
    for path in files:
        film = pydicom.dcmread(path)
        grey = apply_voi_lut(apply_modality_lut(film.pixel_array, film), film).astype(np.float64)
        grey = grey * (255 / (2**film.BitsStored - 1))
        if film.PhotometricInterpretation == "MONOCHROME1":
            grey = 255 - grey
        image = Image.fromarray(np.rint(grey).astype(np.uint8))
        image.thumbnail((STORE_PX, STORE_PX), Image.Resampling.BICUBIC, reducing_gap=None)
        image.save(out / f"{path.stem}.png")
    return len(files) / (time.perf_counter() - start)


def experiment(folder: Path, shards: Path, samples_per_shard: int):
    cohort = {
        "table": str(folder / "cohort.csv"),
        "readings": str(folder / "readings.csv"),
        "role": "development",
        "rule": "grade_at_least:2",
        "consensus": "agreement",
        "readers": ["a"],
    }
    settings = {"shards": str(shards), "store_size": STORE_PX, "samples_per_shard": samples_per_shard}
    return build_experiment({"name": "benchmark", "cohorts": {"ours": cohort}, "prepare": settings})


def prepare(folder: Path, shards: Path, workers: int, count: int) -> float:
    """Images a second of `prepare` on a Ray with so many processors that already runs."""
    import ray

    from sacro_ray.cluster.prepare_driver import prepare_cohorts

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    start = time.perf_counter()
    prepare_cohorts(experiment(folder, shards, 16))
    seconds = time.perf_counter() - start
    ray.shutdown()
    return count / seconds


def resident_mib(pid: str) -> float:
    """Memory of a process that is not shared with others, MiB."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) / 1024
    except (OSError, KeyError):
        return 0.0


def memory_case(folder: Path, shards: Path, count: int) -> None:
    """Prepare in this process and print the largest sizes seen."""
    peaks = {"driver": 0.0, "worker": 0.0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peaks["driver"] = max(peaks["driver"], resident_mib("self"))
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    name = path.read_bytes()
                except OSError:
                    continue
                if name.startswith(b"ray::") and b"_shard_task" in name:
                    peaks["worker"] = max(peaks["worker"], resident_mib(path.parent.name))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    prepare(folder, shards, 2, count)
    stop.set()
    thread.join()
    peaks["driver_high_water"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({name: round(value, 1) for name, value in peaks.items()}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--films", type=int, default=120, help="films of the timed part")
    arguments.add_argument("--parts", nargs="+", choices=["speed", "memory"], default=["speed", "memory"])
    arguments.add_argument("--memory", nargs=3, metavar=("FOLDER", "SHARDS", "COUNT"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.memory:
        memory_case(Path(options.memory[0]), Path(options.memory[1]), int(options.memory[2]))
        return

    result: dict[str, object] = {"benchmark": "prepare", "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        if "speed" in options.parts:
            result |= speed(Path(name), options.films)
        if "memory" in options.parts:
            result["peak_memory_mib"] = memory(Path(name))
    print(json.dumps(result))


def speed(base: Path, count: int) -> dict[str, object]:
    """Plain loop, one worker, two workers, plain loop."""
    write_cohort(base / "films", count, 1500, 1200)
    files = sorted((base / "films/images").iterdir())
    load = [os.getloadavg()[0]]
    before = plain_loop(files, base / "plain_1")
    one = prepare(base / "films", base / "one", 1, count)
    two = prepare(base / "films", base / "two", 2, count)
    after = plain_loop(files, base / "plain_2")
    load.append(os.getloadavg()[0])
    plain = (before + after) / 2
    return {
        "films": count,
        "load_average_before_and_after": [round(value, 1) for value in load],
        "plain_images_per_s": round(plain, 2),
        "plain_before_and_after": [round(before, 2), round(after, 2)],
        "one_worker_images_per_s": round(one, 2),
        "two_workers_images_per_s": round(two, 2),
        "one_worker_over_plain": round(one / plain, 2),
        "two_workers_over_plain": round(two / plain, 2),
    }


def memory(base: Path) -> dict[int, dict[str, float]]:
    """Peaks at 500 and at 2000 films, each in a process of its own."""
    peaks = {}
    for count in (500, 2000):
        write_cohort(base / f"small_{count}", count, 300, 240)
        command = [
            sys.executable,
            __file__,
            "--memory",
            str(base / f"small_{count}"),
            str(base / f"shards_{count}"),
            str(count),
        ]
        peaks[count] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return peaks


if __name__ == "__main__":
    main()
