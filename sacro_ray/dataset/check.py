"""What the tables of an experiment promise, before a pixel is read: remarks on its cohorts, and `prepare --check`, which writes nothing."""

import logging
from collections import Counter
from collections.abc import Mapping

from sacro_ray.config import Experiment, Prepare
from sacro_ray.dataset.completion import difference, prepared_seed
from sacro_ray.dataset.files import read_file
from sacro_ray.dataset.manifest import is_complete, manifest_in
from sacro_ray.dataset.plan import CohortPlan, plan_cohort
from sacro_ray.dataset.progress import Progress
from sacro_ray.errors import UserError, listed
from sacro_ray.imaging.decode import check_radiograph
from sacro_ray.imaging.exclusion import REASONS, ExcludedRadiograph
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")


def plan_experiment(experiment: Experiment, write: bool = True) -> dict[str, CohortPlan]:
    """The plan of each cohort, by name, with warnings of what will trouble a training or an evaluation.

    Args:
        experiment: Whose tables are read.
        write: As for `plan_cohort`.

    Raises:
        UserError: Something in the tables cannot be right, or leaves out too many radiographs.
    """
    location = experiment.prepare.shards
    plans = {
        name: plan_cohort(name, experiment, prepared_seed(as_given(below(location, name))), write)
        for name in experiment.cohorts
    }
    for plan in plans.values():
        refuse_too_many(plan, plan.left_out, experiment.prepare)
    _warn_of_shared_patients(plans)
    _warn_of_few_labels(plans, experiment.evaluation.cutoff_folds)
    return plans


def check_experiment(experiment: Experiment) -> None:
    """Say what `prepare` would do: read the tables, look for the files and at their headers, and write nothing.

    Raises:
        UserError: As `prepare` would, as far as no pixel is needed for it.
    """
    for name, plan in plan_experiment(experiment, write=False).items():
        by_header = _left_out_by_header(plan, experiment.prepare)
        excluded = {**plan.excluded, **by_header}
        lines = [f"{name}: {plan.received} radiographs received, {len(excluded)} would be left out before a pixel is read"]
        for reason, count in sorted(Counter(excluded.values()).items()):
            named = listed(radiograph for radiograph, why in excluded.items() if why == reason)
            lines.append(f"  {reason} {count} ({REASONS[reason]}): {named}")
        for split, members in plan.splits.items():
            kept = [member for member in members if member.radiograph_id not in by_header]
            labels, patients = Counter(member.label for member in kept), len({member.patient_id for member in kept})
            discordant = f", {labels[None]} without a label" if labels[None] else ""
            lines.append(
                f"  {split}: {len(kept)} radiographs of {patients} patients, {labels[1]} positive, {labels[0]} negative{discordant}"
            )
        lines.append(f"  {_state(plan, below(experiment.prepare.shards, name))}")
        log.info("%s", "\n".join(lines))
        refuse_too_many(plan, {**plan.left_out, **by_header}, experiment.prepare)


def refuse_too_many(plan: CohortPlan, excluded: Mapping[str, str], settings: Prepare) -> None:
    """Raise a UserError where more radiographs of a cohort cannot be used than the settings allow; `excluded` has reasons by id."""
    share = len(excluded) / plan.received
    if share > settings.max_excluded_fraction:
        raise UserError(
            f"cohort {plan.cohort}: {len(excluded)} of {plan.received} radiographs cannot be used ({share:.1%}, at most "
            f"prepare.max_excluded_fraction = {settings.max_excluded_fraction:.1%}): "
            f"{listed(f'{name} ({reason})' for name, reason in excluded.items())}. Correct the tables or files, or raise the limit"
        )


def _left_out_by_header(plan: CohortPlan, settings: Prepare) -> dict[str, str]:
    """Reasons by radiograph_id."""
    excluded = {}
    progress = Progress(f"{plan.cohort}, headers", len(plan.radiographs))
    for radiograph in plan.radiographs:
        try:
            check_radiograph(read_file(radiograph.path), settings)
        except OSError:
            excluded[radiograph.radiograph_id] = "unreadable_file"
        except ExcludedRadiograph as error:
            excluded[radiograph.radiograph_id] = error.reason
        progress.advance(1)
    return excluded


def _state(plan: CohortPlan, folder: str) -> str:
    """What stands in the way of preparing it, or is done already; image files are not compared."""
    place = as_given(folder)
    if not is_complete(place):
        return f"{folder} is not there yet, or not complete: prepare writes what is missing"
    problem = difference(plan, manifest_in(place), files=False)
    if problem is None:
        return f"{folder} is complete, from the same tables and settings"
    return f"{folder} {problem}: prepare refuses, prepare --replace writes again what has changed"


def _warn_of_few_labels(plans: Mapping[str, CohortPlan], enough: int) -> None:
    """Training, cut-offs and every interval need both classes; each split is counted over all cohorts.

    Args:
        plans: Of an experiment.
        enough: Radiographs of a class below which there is a warning: as many folds choose the cut-offs.
    """
    counts: dict[str, Counter[int | None]] = {}
    for plan in plans.values():
        for split, members in plan.splits.items():
            counts.setdefault(split, Counter()).update(member.label for member in members)
    for split, labels in counts.items():
        positive, negative = labels[1], labels[0]
        if not positive or not negative:
            log.warning(
                "%s has %d positive and %d negative radiographs: training, AUC and cut-offs need both; look at the rule and the readings",
                split, positive, negative,
            )  # fmt: skip
        elif min(positive, negative) < enough:
            log.warning(
                "%s has %d positive and %d negative radiographs: with fewer than %d of either, AUC and cut-offs mean little",
                split, positive, negative, enough,
            )  # fmt: skip


def _warn_of_shared_patients(plans: Mapping[str, CohortPlan]) -> None:
    """Numbers may coincide between sites, so this is a warning; and no patient is named."""
    patients = {name: {r.patient_id for r in plan.radiographs} for name, plan in plans.items()}
    names = list(plans)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if shared := patients[one] & patients[other]:
                log.warning(
                    "%d patient_ids occur in both %s and %s; make sure that these are different people", len(shared), one, other
                )
