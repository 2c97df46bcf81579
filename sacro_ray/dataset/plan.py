"""What is to be done with a cohort, before any pixel is read: labels, splits, and which radiograph goes into which shard."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sacro_ray.config import Cohort, Experiment, Prepare
from sacro_ray.dataset.pseudonyms import Pseudonyms, key_of_pseudonyms
from sacro_ray.dataset.shards import key_of
from sacro_ray.dataset.splits import split_patients
from sacro_ray.dataset.tables import CohortRow, Value, read_cohort, read_readings
from sacro_ray.errors import UserError, listed
from sacro_ray.imaging.decode import Box
from sacro_ray.imaging.grading import Consensus, consensus

log = logging.getLogger("sacro_ray")
SPLITS = {"development": ("train", "validation"), "external_test": ("test",)}


@dataclass(frozen=True)
class PlannedRadiograph:
    """One radiograph with all that the tables say of it; `path` is the image file."""

    radiograph_id: str
    patient_id: str
    path: str
    box: Box | None
    subset: str
    label: int | None
    adjudicated: bool
    reclassified: bool
    readings: dict[str, int]
    baseline: dict[str, Value]
    simulated: bool

    @property
    def key(self) -> str:
        """The sample's WebDataset key."""
        return key_of(self.radiograph_id)


@dataclass(frozen=True)
class PlannedShard:
    """One tar file to be written: the unit of work, of resumption and of parallelism."""

    cohort: str
    split: str
    number: int
    radiographs: tuple[PlannedRadiograph, ...]

    @property
    def file(self) -> str:
        """Path relative to the cohort's folder."""
        return f"{self.split}/{self.number:06d}.tar"


@dataclass(frozen=True)
class CohortPlan:
    """A cohort, ready to be prepared.

    Attributes:
        received: Radiographs in cohort.csv.
        excluded: Reason a radiograph that the readings rule out.
        settings: What decides the outcome, for the manifest.
    """

    cohort: str
    role: str
    received: int
    shards: tuple[PlannedShard, ...]
    excluded: dict[str, str]
    settings: dict[str, Any]

    @property
    def files(self) -> list[str]:
        """The shards, by their paths relative to the cohort's folder."""
        return [shard.file for shard in self.shards]

    @property
    def radiographs(self) -> list[PlannedRadiograph]:
        """All radiographs that are to be read, in shard order."""
        return [radiograph for shard in self.shards for radiograph in shard.radiographs]

    @property
    def splits(self) -> dict[str, list[PlannedRadiograph]]:
        """The radiographs that are to be read, by split; a split may be empty."""
        members: dict[str, list[PlannedRadiograph]] = {split: [] for split in SPLITS[self.role]}
        for shard in self.shards:
            members[shard.split] += shard.radiographs
        return members

    @property
    def left_out(self) -> dict[str, str]:
        """Reason by radiograph that cannot be used. Discordant ones are a result, not a fault."""
        return {name: reason for name, reason in self.excluded.items() if reason != "discordant"}

    @property
    def digest(self) -> str:
        """SHA-256 of what the tables say, whatever the order of their rows and wherever the files lie."""
        rows = [{k: v for k, v in asdict(r).items() if k != "path"} for r in self.radiographs]
        text = json.dumps([self.cohort, self.role, rows, sorted(self.excluded.items())], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def plan_cohort(name: str, experiment: Experiment, prepared_seed: int | None = None, write: bool = True) -> CohortPlan:
    """Read the tables of a cohort, find each reference label, split the patients, and divide each split into shards.

    Args:
        name: The cohort's.
        experiment: `prepare.split_seed` decides the split; where there is none, the seed of the split that is there already, or else
            `seed`: another seed for the training moves no patient.
        prepared_seed: That of the split that is there already.
        write: Make the key and the key table of pseudonyms beside cohort.csv; without it, and without a key, ids stay as they are.

    Raises:
        UserError: Something in the tables cannot be right, or readers disagree without a third reading.
    """
    cohort, settings = experiment.cohorts[name], experiment.prepare
    seed = _split_seed(name, experiment, prepared_seed)
    rows = read_cohort(Path(cohort.table), cohort.role)
    readings, elsewhere = read_readings(Path(cohort.readings), cohort, [row.radiograph_id for row in rows])
    if elsewhere:
        log.warning(
            "%s: %d readings are of radiographs that %s does not hold; they are not used", name, elsewhere, cohort.table
        )
    outcomes = {
        row.radiograph_id: consensus(cohort.consensus, readings.get(row.radiograph_id, {}), cohort.readers) for row in rows
    }
    undecided = [radiograph for radiograph, outcome in outcomes.items() if outcome.outcome == "undecided"]
    if undecided:
        raise UserError(
            f"{cohort.readings}: the first two of readers = {cohort.readers} disagree and no third reading settles it, for "
            f'{len(undecided)} radiographs: {listed(undecided, 50)}. Add the third reader\'s reading, or use consensus = "agreement"'
        )
    excluded: dict[str, str] = {r: o.outcome for r, o in outcomes.items() if not _usable(o, cohort)}
    kept = [row for row in rows if row.radiograph_id not in excluded]
    planned: dict[str, list[PlannedRadiograph]] = {split: [] for split in SPLITS[cohort.role]}
    if cohort.role == "external_test":
        splits = {row.patient_id: "test" for row in kept}
    else:
        positives = {row.patient_id for row in kept if outcomes[row.radiograph_id].label == 1}
        labels = {row.patient_id: int(row.patient_id in positives) for row in kept}
        given = {row.patient_id: row.split for row in rows if row.split}
        splits = split_patients(labels, settings.validation_fraction, seed, given)
    for row in kept:
        planned[splits[row.patient_id]].append(
            _planned(row, outcomes[row.radiograph_id], readings.get(row.radiograph_id, {}), cohort)
        )
    if settings.pseudonymise and (write or key_of_pseudonyms(Path(cohort.table)).exists()):
        pseudonyms = Pseudonyms(Path(cohort.table))
        if write:
            pseudonyms.write_key_table((row.radiograph_id for row in rows), (row.patient_id for row in rows))
        planned = {split: [_renamed(radiograph, pseudonyms) for radiograph in members] for split, members in planned.items()}
        excluded = {pseudonyms.of("radiograph", radiograph): reason for radiograph, reason in excluded.items()}
    shards = [
        shard for split, members in planned.items() for shard in _divide(name, split, members, settings.samples_per_shard)
    ]
    return CohortPlan(name, cohort.role, len(rows), tuple(shards), excluded, _settings(cohort, settings, seed))


def _usable(outcome: Consensus, cohort: Cohort) -> bool:
    """A label, or, in an external test cohort, readers who differ: how the model calls these is a result of its own."""
    return outcome.outcome == "labelled" or (outcome.outcome == "discordant" and cohort.role == "external_test")


def _planned(row: CohortRow, outcome: Consensus, readings: Mapping[str, int], cohort: Cohort) -> PlannedRadiograph:
    return PlannedRadiograph(
        row.radiograph_id,
        row.patient_id,
        str(row.path),
        row.box,
        "concordant" if outcome.label is not None else "discordant",
        outcome.label,
        outcome.adjudicated,
        outcome.reclassified,
        {reader: readings[reader] for reader in cohort.readers if reader in readings},
        row.baseline,
        row.simulated,
    )


def _renamed(radiograph: PlannedRadiograph, pseudonyms: Pseudonyms) -> PlannedRadiograph:
    return replace(
        radiograph,
        radiograph_id=pseudonyms.of("radiograph", radiograph.radiograph_id),
        patient_id=pseudonyms.of("patient", radiograph.patient_id),
    )


def _divide(cohort: str, split: str, members: list[PlannedRadiograph], size: int) -> list[PlannedShard]:
    """Shards of nearly equal size. The order is a fixed shuffle by the digest of the id, so that every shard is a mixture."""
    ordered = sorted(members, key=lambda r: hashlib.sha256(r.radiograph_id.encode()).digest())
    count = -(-len(ordered) // size)
    borders = [len(ordered) * i // count for i in range(count + 1)] if count else []
    return [PlannedShard(cohort, split, i, tuple(ordered[borders[i] : borders[i + 1]])) for i in range(count)]


def _split_seed(name: str, experiment: Experiment, prepared_seed: int | None) -> int:
    wanted = experiment.prepare.split_seed
    if wanted is not None:
        return wanted
    if prepared_seed is None or prepared_seed == experiment.seed:
        return experiment.seed
    log.info(
        "%s: seed = %d, and the split of seed %d, with which it was prepared, is kept (prepare.split_seed draws another)",
        name, experiment.seed, prepared_seed,
    )  # fmt: skip
    return prepared_seed


def _settings(cohort: Cohort, settings: Prepare, seed: int) -> dict[str, Any]:
    prepare = settings.model_dump(mode="json", exclude={"shards", "split_seed"})
    return {**prepare, "seed": seed, **cohort.model_dump(mode="json", include={"rule", "consensus", "readers"})}


def same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ, of those that decide what a shard holds."""
    return sorted(k for k in one.keys() | other.keys() if k != "max_excluded_fraction" and one.get(k) != other.get(k))
