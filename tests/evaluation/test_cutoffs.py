import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sacro_ray.config import Evaluation
from sacro_ray.evaluation.cutoffs import RULES, choose, cross_validated_cutoffs
from sacro_ray.evaluation.discrimination import operating_points
from sacro_ray.evaluation.predictions import check_predictions
from sacro_ray.evaluation.remarks import cutoff_remarks
from sacro_ray.serving.answers import Call

scored = st.lists(st.tuples(st.booleans(), st.integers(0, 15)), min_size=4, max_size=40).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)


def rates(labels: np.ndarray, scores: np.ndarray, cutoff: float) -> tuple[float, float]:
    called = scores >= cutoff
    return float(called[labels].mean()), float((~called[~labels]).mean())


@settings(deadline=None)
@given(scored, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_no_other_cutoff_serves_the_rule_better(rows: list[tuple[bool, int]], target: float) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    scores = scores / 15
    points = operating_points(labels, scores)
    every = [rates(labels, scores, cutoff) for cutoff in [*np.unique(scores), 1.1]]
    sensitivity, specificity = rates(labels, scores, choose(points, "sensitivity", target))
    assert sensitivity >= target
    assert (specificity, sensitivity) == max((spec, sens) for sens, spec in every if sens >= target)
    sensitivity, specificity = rates(labels, scores, choose(points, "specificity", target))
    assert specificity >= target
    assert (sensitivity, specificity) == max((sens, spec) for sens, spec in every if spec >= target)
    sensitivity, specificity = rates(labels, scores, choose(points, "balanced", 0))
    assert sensitivity + specificity == pytest.approx(max(sens + spec for sens, spec in every))


def test_a_score_at_the_cutoff_is_positive() -> None:
    labels, scores = np.array([0, 0, 1, 1], bool), np.array([0.2, 0.4, 0.6, 0.8])
    points = operating_points(labels, scores)
    assert [choose(points, rule, 0.95) for rule in RULES] == [0.6, 0.6, 0.6]


def test_equally_good_balanced_cutoffs_go_to_the_least_difference() -> None:
    # At 0.8: sensitivity 0.5, specificity 1; at 0.4: 1 and 0.5; at 0.6: 0.75 and 0.75. All sum to 1.5.
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    scores = np.array([0.9, 0.8, 0.6, 0.6, 0.4, 0.4, 0.1, 0.1])
    points = operating_points(labels, scores)
    assert choose(points, "balanced", 0) == 0.6


def test_targets_hold_on_the_validation_set_and_patients_stay_together(validation) -> None:
    labels = validation["label"].to_numpy() == 1
    scores = validation["probability"].to_numpy()
    patients = np.arange(90) // 3
    given_settings = Evaluation(cutoff_repeats=7, target_sensitivity=0.9, target_specificity=0.85)
    chosen = {c.name: c for c in cross_validated_cutoffs(labels, scores, patients, given_settings, 0)}
    assert list(chosen) == list(RULES)
    assert rates(labels, scores, chosen["sensitivity"].value)[0] >= 0.9
    assert rates(labels, scores, chosen["specificity"].value)[1] >= 0.85
    for cutoff in chosen.values():
        assert cutoff.lowest <= cutoff.highest
        assert 0 <= cutoff.held_out_sensitivity <= 1
        assert 0 <= cutoff.held_out_specificity <= 1


def test_the_seed_decides_and_the_order_of_the_radiographs_hardly_matters(validation) -> None:
    labels, scores = validation["label"].to_numpy() == 1, validation["probability"].to_numpy()
    patients = np.arange(90)
    first = cross_validated_cutoffs(labels, scores, patients, Evaluation(), 3)
    assert first == cross_validated_cutoffs(labels, scores, patients, Evaluation(), 3)
    order = np.random.default_rng(0).permutation(90)
    turned = cross_validated_cutoffs(labels[order], scores[order], patients, Evaluation(), 3)
    for one, other in zip(first, turned, strict=True):
        assert abs(int((scores >= one.value).sum()) - int((scores >= other.value).sum())) <= 3


@pytest.mark.parametrize(("positives", "said"), [(1, "without cross-validation"), (3, "3 folds")])
def test_a_small_class_means_fewer_folds_and_a_remark(positives: int, said: str) -> None:
    labels = np.arange(20) < positives
    scores = np.linspace(0.9, 0.1, 20)
    chosen = cross_validated_cutoffs(labels, scores, np.arange(20), Evaluation(), 0)
    table = pd.DataFrame({"radiograph_id": range(20), "probability": scores, "label": labels.astype(int)})
    (remark,) = cutoff_remarks(check_predictions(table, "validation"), Evaluation())
    assert said in remark
    assert rates(labels, scores, chosen[0].value)[0] == 1


def test_every_patient_positive_and_negative_is_no_obstacle() -> None:
    # Two radiographs a patient, one positive: there is one stratum of patients only.
    labels = np.tile([True, False], 15)
    scores = np.where(labels, 0.8, 0.2) + np.linspace(0, 0.1, 30)
    chosen = cross_validated_cutoffs(labels, scores, np.repeat(np.arange(15), 2), Evaluation(), 0)
    assert all(rates(labels, scores, cutoff.value) == (1, 1) for cutoff in chosen)


def test_a_cutoff_above_a_score_of_1_is_one_that_the_page_accepts() -> None:
    # The negative has the highest score there is: the target specificity of 1 is reached only where none is positive.
    labels, scores = np.array([0, 0, 1, 1], bool), np.array([1.0, 0.2, 0.6, 0.8])
    cutoff = choose(operating_points(labels, scores), "specificity", 1.0)
    assert cutoff == 1.0000000000000002
    assert rates(labels, scores, cutoff) == (0, 1)
    assert Call(cutoff=cutoff, definite=False).cutoff == cutoff
