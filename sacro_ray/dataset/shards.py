"""WebDataset shards: one tar file of PNG and JSON members, written byte by byte the same for the same input, and read back."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.staging import cohort_folder

# zlib level of the PNG members: 1 is 5 times faster to write than 6 and 4 % larger on radiographs.
PNG_LEVEL = 1


@dataclass(frozen=True)
class Sample:
    """One radiograph of a shard.

    Attributes:
        key: WebDataset key, without a dot.
        png: The PNG member.
        record: The JSON member: radiograph_id, patient_id, cohort, split, subset, label, readings, baseline, ...
    """

    key: str
    png: bytes
    record: dict[str, Any]

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """Decode: uint8, shape (height, width), MONOCHROME2 sense."""
        return np.asarray(Image.open(io.BytesIO(self.png), formats=["PNG"]))


def key_of(radiograph_id: str) -> str:
    """A WebDataset key: the id itself where it is plain, else its plain part and a digest.

    A dot would end the key early: identifiers such as DICOM UIDs would all collapse into one sample.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", radiograph_id):
        return radiograph_id
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", radiograph_id)[:40]
    return f"{plain}-{hashlib.sha256(radiograph_id.encode()).hexdigest()[:16]}"


def png_bytes(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a grey image, shape (height, width), uint8, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def add_sample(tar: tarfile.TarFile, key: str, png: bytes, record: dict[str, Any]) -> None:
    """Append `<key>.png` and `<key>.json`, with no time, owner or mode of this machine in the headers."""
    for ending, data in (("png", png), ("json", json.dumps(record, ensure_ascii=False, sort_keys=True).encode())):
        member = tarfile.TarInfo(f"{key}.{ending}")
        member.size, member.mode = len(data), 0o644
        tar.addfile(member, io.BytesIO(data))


def shard_paths(shards_root: str | Path, cohort: str, split: str) -> list[Path]:
    """The shards of a split, in order, as the manifest names them, on this machine's disk; none where the cohort has no such split.

    Raises:
        UserError: The cohort is not prepared, or lies in a bucket and cannot be fetched.
    """
    manifest = read_manifest(shards_root, cohort)
    if split not in manifest.splits:
        return []
    folder = cohort_folder(shards_root, cohort)
    return [folder / shard.file for shard in manifest.splits[split].shards]


def read_samples(shards_root: str | Path, cohort: str, split: str) -> Iterator[Sample]:
    """All samples of a split, in shard order, each once, whatever process or worker asks.

    Raises:
        UserError: The cohort is not prepared.
    """
    paths = shard_paths(shards_root, cohort, split)
    yield from iterate_shards(paths)


def iterate_shards(paths: list[Path]) -> Iterator[Sample]:
    """All samples of these shards, in order, through WebDataset with decoders for PNG and JSON alone: nothing is unpickled."""
    import webdataset

    if not paths:
        return
    every = webdataset.WebDataset(
        [str(path) for path in paths], shardshuffle=False, nodesplitter=_all, workersplitter=_all, empty_check=False
    )
    for sample in every:
        yield Sample(sample["__key__"], sample["png"], json.loads(sample["json"]))


def _all(source: Any) -> Any:
    yield from source
