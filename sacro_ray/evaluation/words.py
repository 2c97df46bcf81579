"""The sentences of the report and of the model card that are made of numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.tables import with_interval

NAMES = {"sensitivity": "favouring sensitivity", "specificity": "favouring specificity", "balanced": "balanced"}

SACROILIITIS = "definite radiographic sacroiliitis"

STUDY_PLACES = [
    {"published study": "Table 1, baseline characteristics", "this report": "Participants"},
    {"published study": "Fig. 2, ROC and precision-recall curves", "this report": "ROC and precision-recall"},
    {"published study": "Fig. 3, sensitivity and specificity over the cut-off", "this report": "Cut-offs"},
    {"published study": "Tables 2 and 3, confusion tables", "this report": "Confusion tables"},
    {"published study": "Results, readers and discordant radiographs", "this report": "Readers and model"},
    {"published study": "Fig. 4, Grad-CAM examples", "this report": "Examples and errors"},
]


def outcome(context: ReportContext) -> str:
    """What the network detects, by the rule of the cohorts: definite radiographic sacroiliitis, or a grade of at least N."""
    for manifest in context.manifests:
        rule = str(manifest.get("settings", {}).get("rule", ""))
        if rule.startswith("grade_at_least:"):
            return f"a radiographic grade of at least {rule.partition(':')[2]}"
    return SACROILIITIS


def summary(metrics: Mapping[str, Any], finding: str) -> list[str]:
    """What, on whom, how well; one paragraph a matter."""
    last = "test" if "test" in metrics else "validation"
    part = metrics[last]
    at = part["at_cutoff"]["balanced"]
    where = "the external test set" if last == "test" else "the validation set (no external test set was given)"
    first = (
        f"On {where}, {part['n']} radiographs of {part['patients']} patients, {part['positives']} with {finding}, "
        f"the network reached an AUC of {with_interval(part['auc'])}. At the balanced cut-off of {at['cutoff']:.3f}, chosen "
        f"on validation alone, sensitivity was {with_interval(at['sensitivity'])}, specificity {with_interval(at['specificity'])}, and "
        f"agreement with the reference {with_interval(at['agreement'])}, Cohen's kappa {with_interval(at['kappa'])}."
    )
    paragraphs = [first]
    pairs = metrics["readers"].get(last, {})
    if pairs:
        human = [
            f"{pair.replace('|', ' and ')} {with_interval(v['kappa'])}"
            for pair, v in pairs.items()
            if not pair.endswith("|model")
        ]
        model = [f"{pair.split('|')[0]} {with_interval(v['kappa'])}" for pair, v in pairs.items() if pair.endswith("|model")]
        between = f"Between readers, Cohen's kappa was: {'; '.join(human)}. " if human else ""
        paragraphs.append(f"{between}Between the network and each reader: {'; '.join(model)}.")
    if last == "test" and part["discordant"]["n"]:
        calls = part["discordant"]["at_cutoff"]["balanced"]
        paragraphs.append(
            f"The readers differed on {part['discordant']['n']} further radiographs; the network called {calls['positive']} of them "
            f"positive and {calls['negative']} negative. They have no reference "
            "label and count, beside this, in the readers' agreement alone."
        )
    return [*paragraphs, "Numbers in parentheses are 95 % confidence intervals."]


def in_short(split: str, part: Mapping[str, Any]) -> str:
    """One line on a split for the terminal."""
    at = part["at_cutoff"]["balanced"]
    return (
        f"{split}, n = {part['n']}: AUC {with_interval(part['auc'])}; at the balanced cut-off {at['cutoff']:.3f}: sensitivity "
        f"{with_interval(at['sensitivity'])}, specificity {with_interval(at['specificity'])}, kappa {with_interval(at['kappa'])}"
    )


def partitions(manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    """How radiographs came into training, validation and test, by the manifests of prepared cohorts."""
    divided = [manifest for manifest in manifests if "train" in manifest["splits"]]
    if not divided:
        return []
    known = [manifest["settings"].get("validation_fraction") for manifest in divided]
    if None in known:
        return []  # shards of another program
    shares = sorted({float(share) for share in known})
    tests = [str(manifest["cohort"]) for manifest in manifests if "test" in manifest["splits"]]
    paragraph = (
        f"Training and validation are drawn by chance, patient by patient, from {_and(str(m['cohort']) for m in divided)}, with an "
        f"expected share of validation of {_and(f'{100 * share:g} %' for share in shares)}; a split that a cohort's table gives is kept. "
        "Within a cohort no patient is in two of these sets."
    )
    return [paragraph + (f" The external test set ({_and(tests)}) had no part in training." if tests else "")]


def _and(words: Iterable[str]) -> str:
    return " and ".join(words)


def methods() -> list[str]:
    """How the numbers were computed, in short."""
    return [
        "A radiograph is called positive when its score is at least the cut-off. The cut-offs come from the validation set alone, by "
        "repeated stratified cross-validation (median of the repeats); the test set never moves them. Validation numbers "
        "are therefore optimistic.",
        "Intervals: AUC DeLong; proportions Wilson; kappa, average precision and Brier score bootstrap percentile, patients resampled.",
        "A score ranks radiographs. Read it as a probability only as far as the calibration curve allows: training with mixup and label "
        "smoothing draws scores towards the middle.",
    ]
