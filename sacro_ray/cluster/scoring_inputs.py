"""What there is to score: the images of a folder or a glob, the rows of a cohort.csv, the samples of shards; in a fixed order."""

import glob
import hashlib
import json
import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sacro_ray.dataset.tables import read_cohort
from sacro_ray.errors import UserError, listed
from sacro_ray.imaging.decode import IMAGE_ENDINGS, Box, looks_like_image
from sacro_ray.learning.boxes import kept_share
from sacro_ray.locations import hidden

log = logging.getLogger("sacro_ray")
Whole = Literal["scored", "marked", "refused"]
"""Of a radiograph that is not cut to a box: scored like any other, scored with the remark `not_cropped`, or the error `no_box`."""


MARKER = "scoring.json"
"""In the folder of the results: the note of what was scored, with which network."""
FILES = {"overlay": "overlays/{:08d}.png", "secondary_capture": "dicom/{:08d}_sc.dcm", "report": "dicom/{:08d}_sr.dcm"}
"""Column by column, where a radiograph's file goes: named by its place in the input, never by anything of the patient's."""
OF_SCORING_NAME = re.compile("|".join(pattern.replace("{:08d}", r"\d{8}") for pattern in FILES.values()))
CLOSED = "folders that cannot be read"
OF_SCORING, NO_IMAGES = "results of an earlier scoring", "files without a known image ending or a DICOM header"


@dataclass(frozen=True)
class Item:
    """One radiograph to score.

    Attributes:
        input: Its name in the results: the path relative to the folder (`as_text`), or the radiograph_id.
        path: The file, or the shard that holds it.
        box: The table's crop: left, top, right, bottom, pixels of the file's image, right and bottom exclusive.
        offset: In a shard, where the prepared PNG starts, bytes; None for a file of its own, which is still to be prepared.
        size: In a shard, the PNG's length, bytes.
        stamp: What changes with the file: its length, and for a file of its own its time of change.
        cut: In a shard: it was cut to a box of its table when it was prepared.
        whole: What becomes of it where it is not cut to a box, see `scoring_boxes`.
    """

    input: str
    path: str
    box: Box | None = None
    offset: int | None = None
    size: int | None = None
    stamp: str = ""
    cut: bool = False
    whole: Whole = "scored"


def list_items(given: str, without: Path) -> list[Item]:
    """All radiographs of an input, those of folders sorted by path.

    Args:
        given: A folder, a glob, an image file, a cohort.csv, a shard, or a folder of shards.
        without: A folder that is not searched: that of the results.

    Raises:
        UserError: There is nothing at the path, or no image in it.
    """
    path, left = Path(given), Counter[str]()
    if os.path.isdir(path):
        shards = _shards_in(path)
        items = (
            [item for shard in shards for item in _samples(shard)]
            if shards
            else _images(_files_below(path, without, left), path, left)
        )
    elif os.path.isfile(path) and path.suffix.lower() == ".csv":
        items = [
            Item(row.radiograph_id, str(row.path), row.box, stamp=_stamp(row.path))
            for row in read_cohort(path, "external_test")
        ]
    elif os.path.isfile(path) and path.suffix.lower() == ".tar":
        items = list(_samples(path))
    elif os.path.isfile(path):
        items = _images([path], path.parent, left)
    elif glob.has_magic(given):
        found = sorted(Path(name) for name in glob.glob(given, recursive=True))
        files = (name for name in found if not os.path.isdir(name) and without not in Path(os.path.realpath(name)).parents)
        items = _images(files, _fixed_part(path), left)
    else:
        raise UserError(f"nothing at {hidden(given)}; give a folder, a glob in quotes, an image file, a cohort.csv or shards")
    if not items:
        there = "; ".join(f"{count} {what}" for what, count in left.most_common()) or "no file at all"
        raise UserError(
            f"no image in {given}: {there}. Give the folder of the radiographs: {', '.join(sorted(IMAGE_ENDINGS))} or DICOM"
        )
    for what, count in left.items():
        log.info("left out: %d %s", count, what)
    return items


def as_text(name: str) -> str:
    r"""A file's name as UTF-8 can hold it, reversibly.

    Bytes of a name that are not UTF-8 become \xNN, NN in hexadecimal, and so does a backslash that stands before such letters already.
    """
    literal = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", name)
    return os.fsencode(literal).decode("utf-8", "backslashreplace")


def _files_below(folder: Path, without: Path, left: Counter[str]) -> Iterator[Path]:
    """All files below a folder, sorted by path; links to folders are not followed, for they may lead in a circle."""
    closed: list[str] = []
    yield from _walk(folder, without, closed)
    if closed:
        left[CLOSED] = len(closed)
        log.warning(
            "%d folders cannot be read, and nothing in them is scored: %s",
            len(closed),
            listed(as_text(name) for name in closed),
        )


def _walk(folder: Path, without: Path, closed: list[str]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        closed.append(str(folder))
        return
    for entry in entries:
        path = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False):
            yield path
        elif path.resolve() != without:
            yield from _walk(path, without, closed)


def _images(files: Iterable[Path], root: Path, left: Counter[str]) -> list[Item]:
    """The images among the files; what was left out, and why, is counted."""
    items: list[Item] = []
    for file in files:
        if is_of_scoring(file):
            left[OF_SCORING] += 1
        elif looks_like_image(file):
            items.append(Item(as_text(file.relative_to(root).as_posix()), str(file.absolute()), stamp=_stamp(file)))
        else:
            left[NO_IMAGES] += 1
    return items


def is_of_scoring(file: Path) -> bool:
    """Whether a file is a result of `score`: named as those are, in a folder that lies beside the note of what was scored."""
    if not OF_SCORING_NAME.fullmatch(f"{file.parent.name}/{file.name}"):
        return False
    try:
        note = json.loads((file.absolute().parents[1] / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(note, dict) and {"run", "checkpoint", "files"} <= note.keys()


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
        shards = [shard for shard in folder.absolute().glob(pattern) if os.path.isfile(shard.parent.parent / "manifest.json")]
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
                    cut = {"crop", "source_width", "source_height"} <= record.keys() and kept_share(record) is not None
                    yield Item(name, str(shard.absolute()), None, offset, size, stamp=str(size), cut=cut)
    except (tarfile.TarError, ValueError):
        raise UserError(
            f"{shard} is no shard of prepare (a tar file of PNG and JSON members); prepare the cohort again"
        ) from None


def input_digest(items: Sequence[Item]) -> str:
    """One SHA-256 over what is to be scored: names, places and stamps of all files, in order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps([item.input, item.path, item.box, item.offset, item.stamp]).encode() + b"\n")
    return digest.hexdigest()
