"""The manifest: what a prepared cohort holds, from whom, how it was made, and what was left out."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from sacro_ray.dataset.files import sha256_of
from sacro_ray.dataset.store import Store
from sacro_ray.disk import write_atomically
from sacro_ray.errors import UserError
from sacro_ray.locations import below, in_store, safe_name

SCHEMA_VERSION = 1
NAME = "manifest.json"


def _within(name: str) -> str:
    if not safe_name(name):
        raise ValueError("a shard lies in its cohort's folder")
    return name


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Shard(_Part):
    """One tar file: its path relative to the cohort's folder, SHA-256, samples and bytes."""

    file: Annotated[str, AfterValidator(_within)]
    sha256: str
    samples: int
    bytes: int


class Split(_Part):
    """One split. `negatives`, `positives` and `discordant` (without a label) add up to `radiographs`."""

    radiographs: int
    patients: int
    positives: int
    negatives: int
    discordant: int
    adjudicated: int
    reclassified: int
    shards: list[Shard]


class Excluded(_Part):
    """A radiograph that was left out; `reason` is a key of `sacro_ray.imaging.exclusion.REASONS`."""

    radiograph_id: str
    reason: str


class PartInputs(_Part):
    """What one shard was made of: SHA-256 of its part of the plan, and of its image files."""

    plan: str
    sources: str


class Manifest(_Part):
    """A prepared cohort.

    Attributes:
        received: Radiographs in cohort.csv; those of the splits and those excluded add up to it.
        settings: The preparation's settings and the cohort's rule, consensus and readers.
        inputs: SHA-256 of the two tables and of all image files.
        parts: What each shard was made of, by its file; of cohorts that an older version has prepared it is empty.
        simulated: At least one radiograph was drawn by a program.
        remarks: How many radiographs were kept with which remark, such as `no_window`, by remark.
    """

    schema_version: int
    cohort: str
    role: str
    simulated: bool
    received: int
    splits: dict[str, Split]
    excluded: list[Excluded]
    settings: dict[str, Any]
    inputs: dict[str, str]
    remarks: dict[str, int] = {}
    parts: dict[str, PartInputs] = {}

    @property
    def digest(self) -> str:
        """One SHA-256 over the shards' SHA-256 of all splits, in order."""
        lines = [shard.sha256 for name in sorted(self.splits) for shard in self.splits[name].shards]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def excluded_by_reason(self) -> dict[str, int]:
        """How many were left out for which reason, by reason."""
        return dict(sorted(Counter(entry.reason for entry in self.excluded).items()))

    def as_json(self) -> str:
        """The file's text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def read_manifest(shards_root: str | Path, cohort: str) -> Manifest:
    """The manifest of a prepared cohort.

    Raises:
        UserError: The cohort is not prepared, only half prepared, or its manifest is not one.
    """
    return manifest_in(below(shards_root, cohort))


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write the manifest, last of all: it marks the cohort as complete."""
    return write_atomically(folder / NAME, manifest.as_json().encode())


def is_complete(cohort_folder: str | Path) -> bool:
    """Whether the folder of a cohort, or its address, holds a manifest."""
    return _manifest_text(cohort_folder) is not None


def _manifest_text(cohort_folder: str | Path) -> bytes | None:
    if in_store(cohort_folder):
        return Store(str(cohort_folder)).read(NAME)
    path = Path(cohort_folder) / NAME
    return path.read_bytes() if path.exists() else None


def manifest_in(cohort_folder: str | Path) -> Manifest:
    """The manifest in the folder of a cohort, or at its address; the errors of `read_manifest`."""
    text = _manifest_text(cohort_folder)
    if text is None:
        cohort = str(cohort_folder).rpartition("/")[2]
        raise UserError(f"no prepared cohort {cohort} at {cohort_folder}; run prepare with this experiment first")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise UserError(
            f"{below(cohort_folder, NAME)} is not a manifest of this version ({error.error_count()} problems); "
            "prepare the cohort again"
        ) from None


def verify(folder: str | Path) -> Manifest:
    """Check every shard of a prepared cohort, on the disk or in a bucket, against its manifest.

    Raises:
        UserError: There is no manifest, or a shard is missing, changed or unknown to it; the message lists the files.
    """
    manifest = manifest_in(folder)
    known = {shard.file: shard for split in manifest.splits.values() for shard in split.shards}
    sizes, digest_of = _stored(str(folder)) if in_store(folder) else _on_disk(Path(folder))
    present = sizes.keys()
    problems = [f"{name} is missing" for name in sorted(known.keys() - present)]
    problems += [f"{name} is not in the manifest" for name in sorted(present - known.keys())]
    for name in sorted(known.keys() & present):
        size = sizes[name]
        if size != known[name].bytes:
            problems.append(f"{name} has {size} bytes, not {known[name].bytes}")
        elif digest_of(name) != known[name].sha256:
            problems.append(f"{name} has changed (SHA-256)")
    if problems:
        raise UserError(
            f"{folder} does not match its manifest: {'; '.join(problems[:20])}. prepare --replace writes again what is wrong"
        )
    return manifest


Contents = tuple[Mapping[str, int], Callable[[str], str]]
"""Bytes of each shard by name, and how to get at its SHA-256."""


def _on_disk(folder: Path) -> Contents:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.glob("*/*.tar")}
    return {name: path.stat().st_size for name, path in paths.items()}, lambda name: sha256_of(paths[name])


def _stored(address: str) -> Contents:
    store = Store(address)
    return {name: size for name, size in store.sizes().items() if name.endswith(".tar") and name.count("/") == 1}, store.digest
