"""`prepare --replace`: open a complete cohort again, so that only those of its shards are written that have changed.

What is there becomes a half-finished cohort of the new plan: each shard that the plan leaves as it is gets the note of a finished one, and
the manifest goes. From then on it is a preparation like any other that was stopped: a kill at any time leaves the old cohort, the new one,
or one without a manifest, which the same command completes.
"""

import csv
import logging
from pathlib import Path

from pydantic import ValidationError

from sacro_ray.config import Prepare
from sacro_ray.dataset.completion import INDEX, NEAR
from sacro_ray.dataset.half_finished import PLAN, WORKING, plan_note
from sacro_ray.dataset.manifest import NAME as MANIFEST
from sacro_ray.dataset.manifest import manifest_in
from sacro_ray.dataset.parts import Part, Written, note_name, shard_digest
from sacro_ray.dataset.plan import SPLITS, CohortPlan
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import write_atomically
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")


def reopen(plan: CohortPlan, folder: str | Path, settings: Prepare, problem: str) -> None:
    """Make a complete cohort a half-finished one, and say what is replaced and why.

    Args:
        plan: What is to be there.
        folder: The cohort's, or its address.
        settings: The preparation's.
        problem: How what is there differs from the plan.
    """
    with WorkingFolder(folder) as here:
        here.bring(MANIFEST, INDEX)
        kept = kept_parts(plan, here.path, settings)
        log.warning(
            "%s is replaced, for it %s; %d of %d shards are written again",
            folder, problem, len(plan.shards) - len(kept), len(plan.shards),
        )  # fmt: skip
        here.remove(WORKING)  # notes for another plan, of a replacement that was killed before it had begun
        for note, part in kept.items():
            write_atomically(here.path / note, part.model_dump_json(indent=1).encode())
        write_atomically(here.path / PLAN, plan_note(plan.settings, plan.digest))
        here.send()
        sheets = [f"contact_{split}.png" for splits in SPLITS.values() for split in splits]
        for name in (NEAR, MANIFEST, *sheets):
            (here.path / name).unlink(missing_ok=True)
            if here.store is not None:
                here.store.delete(name)


def kept_parts(plan: CohortPlan, folder: Path, settings: Prepare) -> dict[str, Part]:
    """The notes, by name, of the shards that a complete cohort has as the plan wants them; whether its files are the same is not looked at.

    None of a cohort whose manifest or index cannot be read. A shard from which duplicates were dropped is not kept: what they
    were duplicates of may have gone.
    """
    try:
        manifest = manifest_in(folder)
        with (folder / INDEX).open(newline="", encoding="utf-8") as file:
            rows = [{**row, "notes": str(row["notes"]).split()} for row in csv.DictReader(file)]
        index = {entry.radiograph_id: entry for entry in map(Written.model_validate, rows)}
    except (UserError, OSError, ValueError, KeyError, ValidationError):
        return {}
    stored = {shard.file: shard for split in manifest.splits.values() for shard in split.shards}
    reasons = {entry.radiograph_id: entry.reason for entry in manifest.excluded}
    kept = {}
    for shard in plan.shards:
        inputs, ids = manifest.parts.get(shard.file), [radiograph.radiograph_id for radiograph in shard.radiographs]
        excluded = {name: reasons.get(name, "duplicate") for name in ids if name not in index}
        if inputs is None or inputs.plan != shard_digest(shard, settings) or "duplicate" in excluded.values():
            continue
        tar = stored.get(shard.file)
        kept[note_name(shard)] = Part(
            file=shard.file, sha256=tar.sha256 if tar else None, bytes=tar.bytes if tar else 0,
            written=[index[name] for name in ids if name in index], excluded=excluded, sources=inputs.sources, plan=inputs.plan,
        )  # fmt: skip
    return kept
