"""The manifest: what a prepared cohort holds, from whom, how it was made, and what was left out."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sacro_ray.dataset.files import sha256_of, write_atomically
from sacro_ray.errors import UserError

SCHEMA_VERSION = 1
NAME = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Shard(_Part):
    """One tar file: its path relative to the cohort's folder, SHA-256, samples and bytes."""

    file: str
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


class Manifest(_Part):
    """A prepared cohort.

    Attributes:
        received: Radiographs in cohort.csv; those of the splits and those excluded add up to it.
        settings: The preparation's settings and the cohort's rule, consensus and readers.
        inputs: SHA-256 of the two tables and of all image files.
        simulated: At least one radiograph was drawn by a program.
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
    path = Path(shards_root) / cohort / NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"no prepared cohort {cohort} at {path.parent}; run prepare with this experiment first") from None
    except ValidationError as error:
        raise UserError(
            f"{path} is not a manifest of this version ({error.error_count()} problems); prepare the cohort again"
        ) from None


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write the manifest, last of all: it marks the cohort as complete."""
    return write_atomically(folder / NAME, manifest.as_json().encode())


def verify(folder: Path) -> Manifest:
    """Check every shard of a prepared cohort against its manifest.

    Raises:
        UserError: There is no manifest, or a shard is missing, changed or unknown to it; the message lists the files.
    """
    manifest = read_manifest(folder.parent, folder.name)
    known = {shard.file: shard for split in manifest.splits.values() for shard in split.shards}
    present = {str(path.relative_to(folder)) for path in folder.glob("*/*.tar")}
    problems = [f"{name} is missing" for name in sorted(known.keys() - present)]
    problems += [f"{name} is not in the manifest" for name in sorted(present - known.keys())]
    for name in sorted(known.keys() & present):
        size = (folder / name).stat().st_size
        if size != known[name].bytes:
            problems.append(f"{name} has {size} bytes, not {known[name].bytes}")
        elif sha256_of(folder / name) != known[name].sha256:
            problems.append(f"{name} has changed (SHA-256)")
    if problems:
        raise UserError(
            f"{folder} does not match its manifest: {'; '.join(problems[:20])}. Delete the folder and prepare the cohort again"
        )
    return manifest
