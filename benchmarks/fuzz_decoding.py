"""Damage real and made-up radiographs in many ways and decode them: `python benchmarks/fuzz_decoding.py FOLDER --mutations 20000`.

DICOM, PNG, TIFF and JPEG take turns. Prints one JSON line: for each kind mutations, outcomes by reason, and which errors of a decoder
the catch-all of `read_radiograph` met; then crashes (a process that died), hangs (over 20 s), unlisted errors, slowest.
A process of its own decodes, so that a crash is counted and the run goes on.
"""

import argparse
import io
import json
import logging
import multiprocessing
import os
import re
import signal
import time
import zlib
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from sacro_ray.config import Prepare
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph
from sacro_ray.imaging.exclusion import REASONS

HANG_SECONDS = 20
LARGEST_FILE = 300_000  # bytes: large films take their time to decode, and their headers are no other
MOST_FILES = 40  # of a kind from the folder
EVERY = Prepare(store_size=64, modalities=["CR", "DX", "RF", "RG", "SC", "OT", "US", "MR"])
KINDS = {"dicom": {".dcm"}, "png": {".png"}, "tiff": {".tif", ".tiff"}, "jpeg": {".jpg", ".jpeg"}}


def made_up() -> dict[str, list[bytes]]:
    """A film in the forms that pictures have: depths, channels, palettes, inks, layouts, compressions, orientations."""
    rng = np.random.default_rng(0)
    film = np.add.outer(np.arange(96) * 20, np.arange(80) * 12) + rng.integers(0, 300, (96, 80))
    deep, grey = film.astype(np.uint16), (film // 14).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6

    def pillow(picture: Image.Image, ending: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, ending, **options)
        return buffer.getvalue()

    def tiff(array: np.ndarray, **options: object) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **{"photometric": "minisblack", **options})
        return buffer.getvalue()

    plain = Image.fromarray(grey)
    cmyk = Image.fromarray(np.dstack([0 * grey] * 3 + [255 - grey]), "CMYK")
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    inks = np.dstack([255 - grey] * 3 + [0 * grey])
    compressions = ("deflate", "lzw", "packbits", "zstd", "lzma", "jpeg", "jpeg2000", "jpegxl", "png")
    thumbnail = io.BytesIO()
    with tifffile.TiffWriter(thumbnail) as file:
        file.write(grey, photometric="minisblack")
        file.write(grey[::4, ::4], photometric="minisblack", subfiletype=1)
    return {
        "png": [
            *(pillow(plain.convert(mode), "PNG") for mode in ("L", "1", "P", "RGB", "RGBA", "LA")),
            pillow(plain, "PNG", exif=exif.tobytes(), icc_profile=bytes(5000)),
            pillow(plain, "PNG", save_all=True, append_images=[plain.point(lambda value: 255 - value)]),
            *(imagecodecs.png_encode(np.dstack([deep] * channels).squeeze()) for channels in (1, 2, 3, 4)),
        ],
        "jpeg": [
            pillow(plain, "JPEG", quality=90, exif=exif.tobytes()),
            pillow(plain, "JPEG", progressive=True),
            pillow(plain.convert("RGB"), "JPEG", subsampling=2),
            pillow(cmyk, "JPEG"),
            pillow(plain, "MPO", save_all=True, append_images=[plain]),
        ],
        "tiff": [
            *(tiff(grey, compression=name) for name in compressions),
            *(tiff(deep.astype(kind)) for kind in ("uint16", "int16", "uint32", "float32", "float64")),
            tiff(deep, bigtiff=True, tile=(32, 32), compression="deflate", predictor=2),
            tiff(grey, photometric="palette", colormap=ramp),
            tiff(inks, photometric="separated"),
            tiff(np.stack([grey] * 3), photometric="rgb", planarconfig="separate", extratags=[(274, "H", 1, 3, True)]),
            tiff(deep.astype(">u2"), byteorder=">", photometric="miniswhite", rowsperstrip=7),
            thumbnail.getvalue(),
        ],
    }


def files_of(folder: Path) -> dict[str, list[bytes]]:
    """Files by kind: those of the folder, evenly chosen, and the made-up ones."""
    found = {}
    for kind, endings in KINDS.items():
        paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in endings and p.stat().st_size <= LARGEST_FILE]
        found[kind] = [path.read_bytes() for path in paths[:: -(-len(paths) // MOST_FILES) or 1]]
    return {kind: files + made_up().get(kind, []) for kind, files in found.items()}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Change bytes, lengths and tags, mostly in the header; cut, double or drop pieces."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 8))):
        reach = min(len(changed), int(rng.choice([len(changed), 3000, 300, 60])))
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
    return with_checksums(bytes(changed)) if rng.random() < 0.7 else bytes(changed)


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have right checksums, so that damage gets past them; anything else as it is."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, place = bytearray(data), 8
    while place + 12 <= len(mended):
        end = place + 8 + int.from_bytes(mended[place : place + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(mended)


class Caught(logging.Handler):
    """The kind of error that the catch-all last met."""

    kind = "-"

    def emit(self, record: logging.LogRecord) -> None:
        """Note the kind of error that the message names."""
        found = re.match(r"a decoder raised (\w+)", record.getMessage())
        self.kind = found[1] if found else self.kind


def decode_all(files: dict[str, list[bytes]], first: int, last: int, report: str) -> None:
    """Decode mutations `first` to `last`; write each outcome as a line, before and after."""
    caught, kinds = Caught(), list(files)
    logging.getLogger("sacro_ray").addHandler(caught)
    with open(report, "a", buffering=1) as log:
        for number in range(first, last):
            rng = np.random.default_rng(number)
            kind = kinds[number % len(kinds)]
            data = mutate(files[kind][number // len(kinds) % len(files[kind])], rng)
            log.write(f"{number} {kind} start - 0\n")
            signal.alarm(HANG_SECONDS)
            start, caught.kind = time.perf_counter(), "-"
            try:
                read_radiograph(data, EVERY)
                outcome = "decoded"
            except ExcludedRadiograph as error:
                outcome = error.reason
            except Exception as error:
                outcome = f"UNLISTED:{type(error).__name__}"
            signal.alarm(0)
            log.write(f"{number} {kind} {outcome} {caught.kind} {time.perf_counter() - start:.3f}\n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--mutations", type=int, default=20_000)
    options = arguments.parse_args()
    files, began = files_of(options.folder), time.perf_counter()
    report = f"/tmp/fuzz-{os.getpid()}.log"
    done, deaths = 0, []
    while done < options.mutations:
        process = multiprocessing.get_context("spawn").Process(target=decode_all, args=(files, done, options.mutations, report))
        process.start()
        process.join()
        last, _, outcome, _, _ = Path(report).read_text().splitlines()[-1].split()
        done = int(last) + 1
        if outcome == "start":
            deaths.append((int(last), "hang" if process.exitcode == -signal.SIGALRM else "crash"))
    rows = [line.split() for line in Path(report).read_text().splitlines() if " start " not in line]
    result = {
        "benchmark": "fuzz_decoding",
        "mutations": options.mutations,
        "crashes": [n for n, kind in deaths if kind == "crash"],
        "hangs": [n for n, kind in deaths if kind == "hang"],
        "unlisted": dict(Counter(row[2] for row in rows if row[2] != "decoded" and row[2] not in REASONS)),
        "slowest_s": max(float(row[4]) for row in rows),
        "total_s": round(time.perf_counter() - began),
        "kinds": {
            kind: {
                "files": len(files[kind]),
                "mutations": sum(row[1] == kind for row in rows),
                "outcomes": dict(Counter(row[2] for row in rows if row[1] == kind).most_common()),
                "caught": dict(Counter(row[3] for row in rows if row[1] == kind and row[3] != "-").most_common()),
            }
            for kind in files
        },
    }
    print(json.dumps(result))
    Path(report).unlink()


if __name__ == "__main__":
    main()
