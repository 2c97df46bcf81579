import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from sacro_ray.evaluation.agreement import ConfusionTable, cohen_kappa, kappa, mcnemar
from sacro_ray.evaluation.bootstrap import patient_weights, resampled_counts, stream
from sacro_ray.evaluation.calibration import brier, calibration_bins, expected_calibration_error, net_benefit
from sacro_ray.evaluation.discrimination import auc_change, auc_delong, average_precision, operating_points
from sacro_ray.evaluation.estimates import percentile_interval, proportion
from sacro_ray.evaluation.predictions import Sample
from sacro_ray.evaluation.robustness import robustness_rows

scored = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=4, max_size=60).filter(
    lambda rows: 0 < sum(label for label, _ in rows) < len(rows)
)


def arrays(rows: list[tuple[bool, int]]) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = zip(*rows, strict=True)
    return np.array(labels), np.array(scores) / 20


@settings(deadline=None)
@given(scored)
def test_auc_and_average_precision_are_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(rows)
    patients = np.arange(labels.size)
    assert auc_delong(labels, scores).estimate == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    found = average_precision(labels, scores, patients, 3, stream(0, "x")).estimate
    assert found == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@settings(deadline=None)
@given(scored)
def test_intervals_hold_their_estimate_and_turning_the_classes_round_mirrors_the_auc(rows: list[tuple[bool, int]]) -> None:
    labels, scores = arrays(rows)
    area, mirrored = auc_delong(labels, scores), auc_delong(~labels, scores)
    assert area.estimate + mirrored.estimate == pytest.approx(1)
    if area.low is not None and area.high is not None:
        assert 0 <= area.low <= area.estimate + 1e-12
        assert area.estimate - 1e-12 <= area.high <= 1
        assert area.low == pytest.approx(1 - mirrored.high, abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_proportion_and_mirrors(total: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, total))
    found, mirrored = proportion(successes, total), proportion(total - successes, total)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_wilson_of_a_published_example() -> None:
    # Newcombe 1998, Table I: 81 of 263, without continuity correction.
    found = proportion(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert proportion(0, 0).estimate is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_is_scikit_learns_and_undefined_where_both_always_say_the_same(pairs: list[tuple[bool, bool]]) -> None:
    first, second = np.array(pairs).T
    found = kappa(first, second, np.arange(first.size), 20, stream(0, "k")).estimate
    if len({*first, *second}) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second, labels=[False, True]), abs=1e-12)


def test_kappa_of_cohens_own_example() -> None:
    # Two raters, 50 cases, 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5, kappa 0.4 (hand-worked).
    assert cohen_kappa(np.array([[15, 10, 5, 20]]))[0] == pytest.approx(0.4)


def test_confusion_table_names_its_cells() -> None:
    table = ConfusionTable.of(np.array([0, 0, 0, 1, 1], bool), np.array([0, 0, 1, 0, 1], bool))
    assert (table.tn, table.fp, table.fn, table.tp) == (2, 1, 1, 1)
    rates = {name: rate.estimate for name, rate in table.proportions().items()}
    assert rates == pytest.approx({"sensitivity": 1 / 2, "specificity": 2 / 3, "ppv": 1 / 2, "npv": 2 / 3, "agreement": 3 / 5})


def test_resampling_patterns_equals_resampling_radiographs() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 2)
    cells = generator.integers(0, 4, 120)
    cells[1::2] = np.where(generator.random(60) < 0.7, cells[::2], cells[1::2])  # a patient's radiographs resemble each other
    fast = resampled_counts(cells, 4, patients, 20_000, stream(0, "a"))
    slow = np.concatenate(
        [weights @ np.eye(4)[cells] for weights in patient_weights(patients, 20_000, stream(0, "b"))]
    )  # each row: one resample of whole patients
    assert (fast.sum(axis=1) == 120).all()
    assert (slow.sum(axis=1) == 120).all()
    assert fast.mean(axis=0) == pytest.approx(slow.mean(axis=0), abs=0.2)
    assert np.cov(fast.T) == pytest.approx(np.cov(slow.T), abs=2.0)
    independent = resampled_counts(cells, 4, np.arange(120), 20_000, stream(0, "c"))
    assert fast.var(axis=0).sum() > 1.3 * independent.var(axis=0).sum()


def test_a_statistics_stream_is_its_own() -> None:
    assert (stream(0, "kappa").random(3) == stream(0, "kappa").random(3)).all()
    assert (stream(0, "kappa").random(3) != stream(0, "auc").random(3)).all()
    assert (stream(0, "kappa").random(3) != stream(1, "kappa").random(3)).all()


def test_percentile_interval_leaves_out_what_is_not_defined() -> None:
    repetitions = np.append(np.arange(101, dtype=float), np.nan)
    found = percentile_interval(50.0, repetitions, "m", 7)
    assert (found.low, found.high, found.n) == (pytest.approx(2.5), pytest.approx(97.5), 7)
    assert percentile_interval(math.nan, repetitions, "m", 7).estimate is None


def test_operating_points_by_hand() -> None:
    points = operating_points(np.array([0, 1, 0, 1], bool), np.array([0.1, 0.4, 0.4, 0.8]))
    assert points.cutoff.tolist() == [0.8, 0.4, 0.1]
    assert points.tp.tolist() == [1, 2, 2]
    assert points.fp.tolist() == [0, 1, 2]
    assert points.sensitivity.tolist() == [0.5, 1, 1]
    assert points.specificity.tolist() == [1, 0.5, 0]


def test_mcnemar_by_hand() -> None:
    reference = np.zeros(10, bool)
    reader, model = np.zeros(10, bool), np.zeros(10, bool)
    reader[:6], model[5:7] = True, True  # the reader errs on 0-5, the model on 5 and 6
    found = mcnemar(reference, reader, model)
    assert (found["only_first_right"], found["only_second_right"]) == (1, 5)
    assert found["p_value"] == pytest.approx(2 * (1 + 6) / 2**6)
    assert mcnemar(reference, reader, reader)["p_value"] == 1


def test_brier_calibration_and_net_benefit_by_hand() -> None:
    labels = np.array([0, 1, 0, 1], bool)
    sample = Sample(labels, np.array([0.2, 0.2, 0.8, 0.8]), np.arange(4))
    assert brier(sample, 10, stream(0, "b")).estimate == pytest.approx((0.04 + 0.64 + 0.64 + 0.04) / 4)
    bins = calibration_bins(sample)
    assert [(group.mean_probability, group.observed.estimate, group.observed.n) for group in bins] == [
        (pytest.approx(0.2), 0.5, 2),
        (pytest.approx(0.8), 0.5, 2),
    ]
    assert expected_calibration_error(bins) == pytest.approx(0.3)
    model, everyone = net_benefit(sample, np.array([0.5, 0.8, 0.9]))
    # At 0.5 one true and one false positive weigh the same; at 0.8 (score 0.8 counts) a false positive weighs 4; at 0.9 none is called.
    assert model == pytest.approx([0, (1 - 4) / 4, 0])
    assert everyone == pytest.approx([0, (2 - 2 * 4) / 4, (2 - 2 * 9) / 4])


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["auc", "average_precision", "kappa", "kappa_clustered", "sensitivity", "brier"])
def test_intervals_cover_the_truth_in_95_of_100_samples(statistic: str) -> None:
    """Nominal coverage within 93 to 97 %, in samples of the study's size from a binormal model."""
    generator = np.random.default_rng(11)
    truth = _truth(statistic)
    covered = []
    for i in range(1500):
        low, high = _interval(statistic, generator, i)
        covered.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def _draw(generator: np.random.Generator, n: int, clustered: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    patients = np.repeat(np.arange(n // 2), 2) if clustered else np.arange(n)
    count = patients.max() + 1
    labels = generator.random(count) < 0.6
    noise = generator.normal(size=count)
    own = generator.normal(size=n)
    score = (0.8 * noise[patients] + 0.6 * own if clustered else own) + 1.8 * (labels[patients] - 0.5)
    return labels[patients], 1 / (1 + np.exp(-score)), patients


def _truth(statistic: str) -> float:
    labels, scores, _ = _draw(np.random.default_rng(5), 4_000_000, False)
    calls = scores >= 0.5
    if statistic == "auc":
        return auc_delong(labels, scores).estimate
    if statistic == "average_precision":
        return average_precision_score(labels, scores)
    if statistic.startswith("kappa"):
        return float(cohen_kappa(np.bincount(2 * labels + calls, minlength=4)[None])[0])
    return float(calls[labels].mean()) if statistic == "sensitivity" else float(np.mean((scores - labels) ** 2))


def _interval(statistic: str, generator: np.random.Generator, i: int) -> tuple[float, float]:
    labels, scores, patients = _draw(generator, 360, statistic == "kappa_clustered")
    calls = scores >= 0.5
    if statistic == "auc":
        found = auc_delong(labels, scores)
    elif statistic == "average_precision":
        found = average_precision(labels, scores, patients, 400, stream(i, "ap"))
    elif statistic.startswith("kappa"):
        found = kappa(labels, calls, patients, 1000, stream(i, "k"))
    elif statistic == "sensitivity":
        found = ConfusionTable.of(labels, calls).proportions()["sensitivity"]
    else:
        found = brier(Sample(labels, scores, patients), 400, stream(i, "b"))
    return found.low, found.high


def test_the_paired_change_of_auc(validation: pd.DataFrame) -> None:
    labels, scores = validation["label"].to_numpy() == 1, validation["probability"].to_numpy()
    generator = np.random.default_rng(0)
    near, far = scores + generator.normal(0, 0.02, scores.size), generator.random(scores.size)
    same = auc_change(labels, scores, scores)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    for other in (near, far):
        change, back = auc_change(labels, scores, other), auc_change(labels, other, scores)
        assert change.estimate == pytest.approx(auc_delong(labels, other).estimate - auc_delong(labels, scores).estimate)
        assert change.low == pytest.approx(-back.high)
    # Scores that hardly differ err together: their change is known far better than either AUC.
    areas = auc_delong(labels, scores)
    assert auc_change(labels, scores, near).high - auc_change(labels, scores, near).low < 0.5 * (areas.high - areas.low)


def test_the_paired_change_is_the_bootstraps() -> None:
    labels, first, _ = _draw(np.random.default_rng(4), 400, False)
    second = first + np.random.default_rng(5).normal(0, 0.1, 400)
    generator = np.random.default_rng(6)
    changes = []
    for _ in range(400):
        chosen = generator.integers(0, 400, 400)
        changes.append(auc_change(labels[chosen], first[chosen], second[chosen]).estimate)
    found = auc_change(labels, first, second)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(changes), rel=0.15)


def test_robustness_rows_start_with_the_unchanged_images(validation: pd.DataFrame) -> None:
    labels, scores = validation["label"].to_numpy() == 1, validation["probability"].to_numpy()
    rows = robustness_rows(labels, scores, {"turned": 1 - scores})
    assert [row["perturbation"] for row in rows] == ["unchanged", "turned"]
    assert rows[0]["change"] == 0
    assert rows[1]["auc"] == pytest.approx(1 - rows[0]["auc"])
    assert rows[1]["change"] == pytest.approx(rows[1]["auc"] - rows[0]["auc"])
