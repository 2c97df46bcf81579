"""What there is to score: the images of a folder or a glob, the rows of a cohort.csv, the samples of shards; in a fixed order."""

import glob
import json
import logging
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sacro_ray.dataset.tables import read_cohort
from sacro_ray.errors import UserError
from sacro_ray.imaging.decode import Box, looks_like_image

log = logging.getLogger("sacro_ray")


@dataclass(frozen=True)
class Item:
    """One radiograph to score.

    Attributes:
        input: Its name in the results: the path relative to the folder, or the radiograph_id.
        path: The file, or the shard that holds it.
        box: The table's crop: left, top, right, bottom, pixels of the file's image, right and bottom exclusive.
        offset: In a shard, where the prepared PNG starts, bytes; None for a file of its own, which is still to be prepared.
        size: In a shard, the PNG's length, bytes.
        stamp: What changes with the file: its length, and for a file of its own its time of change.
    """

    input: str
    path: str
    box: Box | None = None
    offset: int | None = None
    size: int | None = None
    stamp: str = ""


def list_items(given: str, without: Path) -> list[Item]:
    """All radiographs of an input, those of folders sorted by path.

    Args:
        given: A folder, a glob, an image file, a cohort.csv, a shard, or a folder of shards.
        without: A folder that is not searched: that of the results.

    Raises:
        UserError: There is nothing at the path, or no image in it.
    """
    path = Path(given)
    if path.is_dir():
        shards = _shards_in(path)
        items = [item for shard in shards for item in _samples(shard)] if shards else _images(_files_below(path, without), path)
    elif path.is_file() and path.suffix.lower() == ".csv":
        items = [
            Item(row.radiograph_id, str(row.path), row.box, stamp=_stamp(row.path))
            for row in read_cohort(path, "external_test")
        ]
    elif path.is_file() and path.suffix.lower() == ".tar":
        items = list(_samples(path))
    elif path.is_file():
        items = _images([path], path.parent)
    elif glob.has_magic(given):
        found = sorted(Path(name) for name in glob.glob(given, recursive=True))
        items = _images([name for name in found if name.is_file() and without not in name.resolve().parents], _fixed_part(path))
    else:
        raise UserError(f"nothing at {given}; give a folder, a glob in quotes, an image file, a cohort.csv or shards")
    if not items:
        raise UserError(
            f"no image in {given}: nothing with a known image ending or a DICOM header; give the folder of the radiographs"
        )
    return items


def _files_below(folder: Path, without: Path) -> Iterator[Path]:
    """All files below a folder, sorted by path; links to folders are not followed, for they may lead in a circle."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False):
            yield path
        elif path.resolve() != without:
            yield from _files_below(path, without)


def _images(files: Iterable[Path], root: Path) -> list[Item]:
    items: list[Item] = []
    others = 0
    for file in files:
        if looks_like_image(file):
            items.append(Item(file.relative_to(root).as_posix(), str(file.absolute()), stamp=_stamp(file)))
        else:
            others += 1
    if others:
        log.info("%d other files are left alone (no known image ending and no DICOM header)", others)
    return items


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return "unreadable"
    return f"{status.st_size} {status.st_mtime_ns}"


def _fixed_part(pattern: Path) -> Path:
    """The folders of a glob up to its first wildcard."""
    first = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    return Path(*pattern.parts[:first])


def _shards_in(folder: Path) -> list[Path]:
    """The shards of a split's, a cohort's or all cohorts' folder: they lie two below their manifest. None in a folder of images."""
    for pattern in ("*.tar", "*/*.tar", "*/*/*.tar"):
        shards = [shard for shard in folder.absolute().glob(pattern) if (shard.parent.parent / "manifest.json").is_file()]
        if shards:
            return sorted(shard for shard in shards if not shard.name.startswith("."))
    return []


def _samples(shard: Path) -> Iterator[Item]:
    """The samples of a shard with the places of their PNG members, so that each can be read alone."""
    try:
        with tarfile.open(shard, "r:") as tar:
            png: dict[str, tuple[int, int]] = {}
            for member in tar:
                key, _, ending = member.name.partition(".")
                if ending == "png":
                    png[key] = (member.offset_data, member.size)
                elif ending == "json" and key in png:
                    content = tar.extractfile(member)
                    record = json.loads(content.read()) if content else {}
                    offset, size = png.pop(key)
                    name = str(record.get("radiograph_id", key))
                    yield Item(name, str(shard.absolute()), None, offset, size, stamp=str(size))
    except (tarfile.TarError, ValueError):
        raise UserError(
            f"{shard} is no shard of prepare (a tar file of PNG and JSON members); prepare the cohort again"
        ) from None
