"""Close a prepared cohort: duplicates, the index, the manifest, the flow of radiographs; and recognise one that is closed."""

import csv
import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from sacro_ray.config import Prepare
from sacro_ray.dataset.half_finished import end_folder, noted_settings
from sacro_ray.dataset.leaks import Seen, duplicates, near_duplicates, refuse_pixels_in_two_splits, same_films
from sacro_ray.dataset.manifest import (
    SCHEMA_VERSION,
    Excluded,
    Manifest,
    PartInputs,
    Shard,
    Split,
    is_complete,
    manifest_in,
    verify,
    write_manifest,
)
from sacro_ray.dataset.parts import Part, sources_digest, without
from sacro_ray.dataset.plan import SPLITS, CohortPlan, PlannedRadiograph, same_settings
from sacro_ray.disk import read_kept, whole_lines, write_atomically
from sacro_ray.errors import UserError, listed
from sacro_ray.imaging.exclusion import REASONS
from sacro_ray.imaging.remarks import REMARKS

log = logging.getLogger("sacro_ray")
INDEX, NEAR = "index.csv", "near_duplicates.csv"
INDEX_COLUMNS = (
    "radiograph_id", "split", "pixel_sha256", "perceptual_hash", "greyscale", "stored_sha256", "simulated", "notes",
)  # fmt: skip


@dataclass(frozen=True)
class Indexed:
    """A line of a prepared cohort's index."""

    radiograph_id: str
    split: str
    pixel_sha256: str
    perceptual_hash: str
    stored_sha256: str


def prepared_seed(folder: str | Path) -> int | None:
    """The seed of the split that a cohort's folder, or address, holds, complete or half-finished; None where none can be read."""
    try:
        settings = manifest_in(folder).settings if is_complete(folder) else noted_settings(folder)
    except UserError:
        return None
    return settings.get("seed")


def unchanged(plan: CohortPlan, folder: str | Path, reopen: Callable[[str], None] | None = None) -> bool:
    """Whether the cohort is complete with the same inputs and settings, verified down to every byte.

    Args:
        plan: What is to be there.
        folder: The cohort's, or its address.
        reopen: Called with the difference where the cohort is complete and has one; without it that is an error.

    Raises:
        UserError: It is complete, but from other inputs or settings, or its shards do not match its manifest.
    """
    if not is_complete(folder):
        return False
    try:
        problem = difference(plan, verify(folder))
    except UserError as error:
        if reopen is None:
            raise
        problem = f"is damaged: {error}"
    if problem is None:
        end_folder(folder)
        return True
    if reopen is None:
        raise UserError(
            f"{folder} {problem}, and prepare overwrites nothing unasked. Give --replace, which writes again what has changed, or "
            "set prepare.shards to a new folder"
        )
    reopen(problem)
    return False


def difference(plan: CohortPlan, manifest: Manifest, files: bool = True) -> str | None:
    """How a complete cohort differs from the plan, or None.

    Args:
        plan: What is to be there.
        manifest: Of what is there.
        files: Whether to read the image files, too.
    """
    changed = same_settings(manifest.settings, plan.settings)
    if changed:
        shown = {"seed": "split_seed"}
        given = ", ".join(
            f"{shown.get(name, name)} = {plan.settings.get(name)!r}, then {manifest.settings.get(name)!r}" for name in changed
        )
        return f"was prepared with other settings ({given})"
    if manifest.inputs["tables"] != plan.digest:
        return "was prepared from other tables or image files: the tables differ"
    if files and manifest.inputs != _inputs(plan, _sources(plan)):
        return "was prepared from other tables or image files: the files differ"
    return None


def complete_cohort(
    plan: CohortPlan, folder: Path, parts: list[Part], settings: Prepare, bring: Callable[[str], None] = lambda file: None
) -> Manifest:
    """Check the finished shards for duplicates, then write index and manifest, and take the working notes away.

    Args:
        plan: What was to be prepared.
        folder: The cohort's.
        parts: The notes of all its shards.
        settings: The preparation's.
        bring: Called with a shard's file before it is written again, where the shards may lie elsewhere.

    Raises:
        UserError: The same pixels are in two splits.
    """
    written = [entry for part in parts for entry in part.written]
    groups = duplicates(written)
    refuse_pixels_in_two_splits(plan.cohort, [*groups, *same_films(written)])
    if groups:
        parts = _handle_duplicates(plan, folder, parts, groups, settings, bring)
    _write_index(folder, parts)
    manifest = _manifest(plan, parts)
    write_manifest(folder, manifest)
    end_folder(folder)
    return manifest


def read_index(folder: Path) -> list[Indexed]:
    """The index of a prepared cohort, a line a radiograph."""
    text = read_kept(folder / INDEX, whole_lines, f"Delete {folder} and prepare the cohort again")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [Indexed(**{f.name: row.get(f.name, "") for f in fields(Indexed)}) for row in rows]


FLOW = ("radiographs", "patients", "positives", "negatives", "discordant", "adjudicated", "reclassified")


def log_flow(manifest: Manifest) -> None:
    """Say what came in, what was left out and why, and what is where."""
    lines = [f"{manifest.cohort}: {manifest.received} radiographs received, {len(manifest.excluded)} excluded"]
    lines += [f"  {reason:<22}{count:>7}  {REASONS.get(reason, '')}" for reason, count in manifest.excluded_by_reason().items()]
    noted = [note for note in manifest.remarks if note in REMARKS]
    lines += [f"  {note:<22}{manifest.remarks[note]:>7}  kept; {REMARKS[note]}" for note in noted]
    lines.append(f"  {'':<13}" + "".join(f"{name:>12}" for name in manifest.splits))
    lines += [f"  {row:<13}" + "".join(f"{getattr(split, row):>12}" for split in manifest.splits.values()) for row in FLOW]
    log.info("\n".join(lines))


def write_near_duplicates(root: Path, cohorts: Sequence[str], anew: bool = False) -> None:
    """List pairs of pictures that look alike, within and between the cohorts of an experiment; warn of those across splits.

    Each cohort's folder gets its pairs, `near_duplicates.csv`; a list that is there already stays.

    Args:
        root: The folder of all shards.
        cohorts: Prepared cohorts.
        anew: Replace the lists that are there: a cohort was replaced, and lists of others name its radiographs, too.
    """
    missing = [cohort for cohort in cohorts if anew or not (root / cohort / NEAR).exists()]
    if not missing:
        return
    entries = [(cohort, entry) for cohort in cohorts for entry in read_index(root / cohort)]
    pairs = [(entries[i], entries[j], bits) for i, j, bits in near_duplicates([entry.perceptual_hash for _, entry in entries])]
    for cohort in missing:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(
            [f"{column}_{side}" for side in "ab" for column in ("cohort", "radiograph_id", "split")] + ["differing_bits"]
        )
        for (a_cohort, a), (b_cohort, b), bits in pairs:
            if cohort in (a_cohort, b_cohort):
                writer.writerow([a_cohort, a.radiograph_id, a.split, b_cohort, b.radiograph_id, b.split, bits])
        write_atomically(root / cohort / NEAR, buffer.getvalue().encode())
    if pairs:
        across = [
            f"{a.radiograph_id} ({a_cohort}, {a.split}) ~ {b.radiograph_id} ({b_cohort}, {b.split})"
            for (a_cohort, a), (b_cohort, b), _ in pairs
            if (a_cohort, a.split) != (b_cohort, b.split)
        ]
        named = f": {listed(across)}" if across else ""
        log.warning("%d pairs of pictures look alike (%s), %d of them across splits%s", len(pairs), NEAR, len(across), named)


def _handle_duplicates(
    plan: CohortPlan, folder: Path, parts: list[Part], groups: list[list[Seen]], settings: Prepare, bring: Callable[[str], None]
) -> list[Part]:
    pairs = listed(" = ".join(entry.radiograph_id for entry in group) for group in groups)
    dropped = {entry.radiograph_id for group in groups for entry in group[1:]}
    fate = "the first of each is kept" if settings.duplicates == "drop" else 'all are kept; duplicates = "drop" keeps the first'
    log.warning("%s: %d pictures occur more than once within a split (%s): %s", plan.cohort, len(groups), fate, pairs)
    if settings.duplicates == "warn":
        return parts
    kept = list(parts)
    for number, part in enumerate(parts):
        if dropped & {entry.radiograph_id for entry in part.written}:
            bring(part.file)
            kept[number] = without(part, folder, plan.shards[number], dropped)
    return kept


def _sources(plan: CohortPlan) -> list[str]:
    """Digests of the image files of each shard; in threads, for reading and hashing both let the others run."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(sources_digest, plan.shards))


def _inputs(plan: CohortPlan, sources: list[str]) -> dict[str, str]:
    return {"tables": plan.digest, "files": hashlib.sha256("\n".join(sources).encode()).hexdigest()}


def _manifest(plan: CohortPlan, parts: list[Part]) -> Manifest:
    planned = {radiograph.radiograph_id: radiograph for radiograph in plan.radiographs}
    splits = {name: _split([p for p in parts if p.file.startswith(f"{name}/")], planned) for name in SPLITS[plan.role]}
    excluded = dict(plan.excluded)
    for part in parts:
        excluded |= part.excluded
    return Manifest(
        schema_version=SCHEMA_VERSION,
        cohort=plan.cohort,
        role=plan.role,
        simulated=any(entry.simulated for part in parts for entry in part.written),
        received=plan.received,
        splits=splits,
        excluded=[Excluded(radiograph_id=name, reason=reason) for name, reason in sorted(excluded.items())],
        settings=plan.settings,
        inputs=_inputs(plan, [part.sources for part in parts]),
        remarks=dict(sorted(Counter(note for part in parts for entry in part.written for note in entry.notes).items())),
        parts={part.file: PartInputs(plan=part.plan, sources=part.sources) for part in parts},
    )


def _split(parts: list[Part], planned: dict[str, PlannedRadiograph]) -> Split:
    members = [planned[entry.radiograph_id] for part in parts for entry in part.written]
    labels = Counter(member.label for member in members)
    return Split(
        radiographs=len(members),
        patients=len({member.patient_id for member in members}),
        positives=labels[1],
        negatives=labels[0],
        discordant=labels[None],
        adjudicated=sum(member.adjudicated for member in members),
        reclassified=sum(member.reclassified for member in members),
        shards=[Shard(file=p.file, sha256=p.sha256, samples=len(p.written), bytes=p.bytes) for p in parts if p.sha256],
    )


def _write_index(folder: Path, parts: list[Part]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    for part in parts:
        lines = [
            entry.model_dump() | {"simulated": int(entry.simulated), "notes": " ".join(entry.notes)} for entry in part.written
        ]
        writer.writerows([line[column] for column in INDEX_COLUMNS] for line in lines)
    write_atomically(folder / INDEX, buffer.getvalue().encode())
