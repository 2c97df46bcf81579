"""One shard written: the work of one task, and the note it leaves so that it need not be done again."""

import hashlib
import json
import tarfile
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sacro_ray import __version__
from sacro_ray.config import Prepare
from sacro_ray.dataset.files import read_file, sha256_of
from sacro_ray.dataset.half_finished import WORKING
from sacro_ray.dataset.leaks import perceptual_hash, pixel_digest
from sacro_ray.dataset.plan import PlannedRadiograph, PlannedShard
from sacro_ray.dataset.shards import add_sample, png_bytes
from sacro_ray.disk import whole, write_atomically
from sacro_ray.imaging.decode import Radiograph, read_radiograph
from sacro_ray.imaging.exclusion import ExcludedRadiograph


class Written(BaseModel):
    """What is kept of a radiograph in a shard: enough for counts and leak checks, no pixel."""

    model_config = ConfigDict(frozen=True)
    radiograph_id: str
    split: str
    pixel_sha256: str
    perceptual_hash: str
    greyscale: str
    notes: list[str]
    simulated: bool
    stored_sha256: str


class Part(BaseModel):
    """The note of a finished shard; `sha256` is None where all its radiographs were excluded and there is no file."""

    model_config = ConfigDict(frozen=True)
    file: str
    sha256: str | None
    bytes: int
    written: list[Written]
    excluded: dict[str, str]
    sources: str
    plan: str


def write_shard(
    shard: PlannedShard,
    folder: Path,
    settings: Prepare,
    poison: Collection[str] = (),
    before_each: Callable[[], None] = lambda: None,
) -> Part:
    """Read every radiograph of a shard and write the tar file, under a temporary name until it is complete; then the note.

    One radiograph is in memory at a time. The bytes depend on nothing but the files, the plan and the settings.

    Args:
        shard: What to write.
        folder: The cohort's folder, `shards/<cohort>`.
        settings: The preparation's.
        poison: Radiographs whose decoder died before; excluded without another try.
        before_each: Called before each radiograph.
    """
    target = folder / shard.file
    written: list[Written] = []
    excluded: dict[str, str] = {}
    sources = hashlib.sha256()
    with whole(target) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for radiograph in shard.radiographs:
            before_each()
            data = _read(radiograph.path)
            _add_source(sources, radiograph.radiograph_id, data)
            try:
                if data is None:
                    raise ExcludedRadiograph("unreadable_file")
                if radiograph.radiograph_id in poison:
                    raise ExcludedRadiograph("decoder_crashed")
                image = read_radiograph(data, settings, radiograph.box, digest=True)
            except ExcludedRadiograph as error:
                excluded[radiograph.radiograph_id] = error.reason
                continue
            add_sample(tar, radiograph.key, png_bytes(image.pixels), record_of(shard, radiograph, image, settings))
            written.append(
                Written(
                    radiograph_id=radiograph.radiograph_id,
                    split=shard.split,
                    pixel_sha256=pixel_digest(image.pixels),
                    perceptual_hash=perceptual_hash(image.pixels),
                    greyscale=image.greyscale,
                    notes=list(image.notes),
                    simulated=image.simulated or radiograph.simulated,
                    stored_sha256=image.stored_sha256,
                )
            )
    digest, size = (sha256_of(target), target.stat().st_size) if written else (None, 0)
    if not written:
        target.unlink()
    part = Part(
        file=shard.file, sha256=digest, bytes=size, written=written, excluded=excluded, sources=sources.hexdigest(),
        plan=shard_digest(shard, settings),
    )  # fmt: skip
    write_atomically(_note_path(folder, shard), part.model_dump_json(indent=1).encode())
    return part


def finished_part(shard: PlannedShard, folder: Path) -> Part | None:
    """The note of a shard that an earlier run finished, if the tar file and all its source files are still the same."""
    try:
        part = Part.model_validate_json(_note_path(folder, shard).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    if part.sha256 is not None and not ((folder / part.file).is_file() and sha256_of(folder / part.file) == part.sha256):
        return None
    return part if part.sources == sources_digest(shard) else None


# Of the settings those that decide who is in a shard, which it says itself, and those that change nothing in it.
NOT_IN_A_SHARD = {
    "shards", "validation_fraction", "split_seed", "samples_per_shard", "max_excluded_fraction", "duplicates", "pseudonymise",
}  # fmt: skip


def shard_digest(shard: PlannedShard, settings: Prepare) -> str:
    """SHA-256 of all that decides what a shard holds, but for the image files: rows of the tables, settings, this version."""
    rows = [{key: value for key, value in asdict(radiograph).items() if key != "path"} for radiograph in shard.radiographs]
    text = json.dumps(
        [__version__, shard.cohort, shard.split, rows, settings.model_dump(mode="json", exclude=NOT_IN_A_SHARD)], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def sources_digest(shard: PlannedShard) -> str:
    """One SHA-256 over the ids and contents of a shard's image files."""
    digest = hashlib.sha256()
    for radiograph in shard.radiographs:
        _add_source(digest, radiograph.radiograph_id, _read(radiograph.path))
    return digest.hexdigest()


def record_of(shard: PlannedShard, radiograph: PlannedRadiograph, image: Radiograph, settings: Prepare) -> dict[str, Any]:
    """The JSON member of a sample. Of a DICOM header it holds the allowed fields alone."""
    return {
        "radiograph_id": radiograph.radiograph_id,
        "patient_id": radiograph.patient_id,
        "cohort": shard.cohort,
        "split": shard.split,
        "subset": radiograph.subset,
        "label": radiograph.label,
        "readings": radiograph.readings,
        "adjudicated": radiograph.adjudicated,
        "reclassified": radiograph.reclassified,
        "baseline": radiograph.baseline,
        "height": image.pixels.shape[0],
        "width": image.pixels.shape[1],
        "spacing_mm": list(image.spacing_mm) if image.spacing_mm else None,
        "greyscale": image.greyscale,
        "notes": list(image.notes),
        "source_height": image.source_size[0],
        "source_width": image.source_size[1],
        # What was kept, and the table's box, which `crop = "collimation"` cuts further.
        "crop": list(image.box),
        "box": list(radiograph.box) if radiograph.box and settings.crop != "none" else None,
        "header": image.header,
        "simulated": image.simulated or radiograph.simulated,
    }


def without(part: Part, folder: Path, shard: PlannedShard, dropped: Collection[str]) -> Part:
    """Write a shard again without some of its radiographs; they become excluded as duplicates."""
    keys = {radiograph.key for radiograph in shard.radiographs if radiograph.radiograph_id in dropped}
    target = folder / part.file
    with (
        whole(target) as temporary,
        tarfile.open(target) as old,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for member in old:
            if member.name.split(".")[0] not in keys:
                new.addfile(member, old.extractfile(member))
    kept = [entry for entry in part.written if entry.radiograph_id not in dropped]
    digest, size = (sha256_of(target), target.stat().st_size) if kept else (None, 0)
    if not kept:
        target.unlink()
    excluded = {
        **part.excluded,
        **{entry.radiograph_id: "duplicate" for entry in part.written if entry.radiograph_id in dropped},
    }
    changed = part.model_copy(update={"sha256": digest, "bytes": size, "written": kept, "excluded": excluded})
    write_atomically(_note_path(folder, shard), changed.model_dump_json(indent=1).encode())
    return changed


def note_name(shard: PlannedShard) -> str:
    """The note that says that this shard is finished, below its cohort's folder."""
    return f"{WORKING}/{shard.split}-{shard.number:06d}.json"


def _note_path(folder: Path, shard: PlannedShard) -> Path:
    return folder / note_name(shard)


def _read(path: str) -> bytes | None:
    try:
        return read_file(path)
    except OSError:
        return None


def _add_source(digest: "hashlib._Hash", radiograph_id: str, data: bytes | None) -> None:
    digest.update(json.dumps([radiograph_id, hashlib.sha256(data).hexdigest() if data is not None else None]).encode() + b"\n")
