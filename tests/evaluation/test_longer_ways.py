"""The same numbers by longer ways: definitions written out, and SciPy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from sacro_ray.evaluation.agreement import kappa, mcnemar
from sacro_ray.evaluation.bootstrap import stream
from sacro_ray.evaluation.calibration import calibration_bins, expected_calibration_error, net_benefit
from sacro_ray.evaluation.discrimination import auc_change, auc_delong
from sacro_ray.evaluation.estimates import proportion
from sacro_ray.evaluation.predictions import Sample

Z = float(norm.ppf(0.975))
pairs_of_scores = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), min_size=6, max_size=60).filter(
    lambda rows: 2 <= sum(label for label, *_ in rows) <= len(rows) - 2
)


@settings(deadline=None)
@given(pairs_of_scores)
def test_delong_by_all_pairs_of_radiographs(rows: list[tuple[bool, int, int]]) -> None:
    """DeLong 1988, equations 5 to 7: the covariance of two AUCs from the kernel of every case with every control."""
    labels = np.array([row[0] for row in rows])
    scores = np.array([row[1:] for row in rows], dtype=float) / 9
    cases, controls = scores[labels].T, scores[~labels].T
    kernel = (cases[:, :, None] > controls[:, None, :]) + 0.5 * (cases[:, :, None] == controls[:, None, :])
    areas = kernel.mean((1, 2))
    covariance = np.cov(kernel.mean(2)) / labels.sum() + np.cov(kernel.mean(1)) / (~labels).sum()
    for which in (0, 1):
        half = Z * math.sqrt(covariance[which, which])
        found = auc_delong(labels, scores[:, which])
        expected = [areas[which], max(0.0, areas[which] - half), min(1.0, areas[which] + half)]
        assert [found.estimate, found.low, found.high] == pytest.approx(expected, abs=1e-12)
    half = Z * math.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    change = auc_change(labels, scores[:, 0], scores[:, 1])
    difference = areas[1] - areas[0]
    assert [change.estimate, change.low, change.high] == pytest.approx(
        [difference, difference - half, difference + half], abs=1e-7
    )


@settings(deadline=None)
@given(st.integers(1, 400), st.data())
def test_wilson_is_scipys(total: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, total))
    found, scipys = proportion(successes, total), binomtest(successes, total).proportion_ci(method="wilson")
    assert [found.low, found.high] == pytest.approx([scipys.low, scipys.high], abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_by_the_binomial_distribution(rows: list[tuple[bool, bool, bool]]) -> None:
    reference, first, second = np.array(rows).T
    found = mcnemar(reference, first, second)
    fewer, total = min(found["only_first_right"], found["only_second_right"]), int((first != second).sum())
    assert found["only_first_right"] + found["only_second_right"] == total
    assert found["p_value"] == pytest.approx(min(1.0, 2 * binom.cdf(fewer, total, 0.5)), abs=1e-12)


def test_calibration_error_and_net_benefit_by_their_definitions() -> None:
    generator = np.random.default_rng(3)
    labels, scores = generator.random(300) < 0.6, generator.random(300)
    sample = Sample(labels, scores, np.arange(300))
    groups = np.array_split(np.argsort(scores), 10)
    expected = sum(len(g) / 300 * abs(labels[g].mean() - scores[g].mean()) for g in groups)
    assert expected_calibration_error(calibration_bins(sample)) == pytest.approx(expected, abs=1e-12)
    for threshold in (0.1, 0.33, 0.5, 0.77):
        called, odds = scores >= threshold, threshold / (1 - threshold)
        model, everyone = net_benefit(sample, np.array([threshold]))
        assert model[0] == pytest.approx((np.sum(called & labels) - np.sum(called & ~labels) * odds) / 300, abs=1e-12)
        assert everyone[0] == pytest.approx(labels.mean() - (1 - labels.mean()) * odds, abs=1e-12)


def test_the_kappa_bootstrap_against_fleiss_standard_error() -> None:
    """Fleiss, Cohen and Everitt 1969: the large-sample standard error of kappa, from the table's shares."""
    generator = np.random.default_rng(1)
    reference = generator.random(2000) < 0.6
    calls = np.where(generator.random(2000) < 0.85, reference, ~reference)
    shares = np.bincount(2 * reference + calls, minlength=4).reshape(2, 2) / 2000
    rows, columns = shares.sum(1), shares.sum(0)
    observed, chance = float(np.trace(shares)), float(rows @ columns)
    agreeing = sum(shares[i, i] * ((1 - chance) - (rows[i] + columns[i]) * (1 - observed)) ** 2 for i in (0, 1))
    differing = (1 - observed) ** 2 * sum(shares[i, 1 - i] * (columns[i] + rows[1 - i]) ** 2 for i in (0, 1))
    last = (observed * chance - 2 * chance + observed) ** 2
    error = math.sqrt((agreeing + differing - last) / (2000 * (1 - chance) ** 4))
    found = kappa(reference, calls, np.arange(2000), 20_000, stream(0, "kappa"))
    assert found.estimate == pytest.approx((observed - chance) / (1 - chance), abs=1e-12)
    assert (found.high - found.low) / (2 * Z) == pytest.approx(error, rel=0.03)
