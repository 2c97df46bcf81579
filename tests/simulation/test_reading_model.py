"""The calibrated reading model against the published agreement of the readers, at full size and without a picture."""

import numpy as np
import pytest

from sacro_ray.imaging.grading import modified_new_york
from sacro_ray.simulation.cohort import sample_patient
from sacro_ray.simulation.reading import grades_of, severity_of
from sacro_ray.simulation.studies import GESPIC, PROOF

SEEDS = range(4)


def definite(study, seed):
    """Reader to calls of each patient, NaN where they did not read: float (n,)."""
    patients = [sample_patient(study, number, seed) for number in range(1, study.radiographs + 1)]
    return {
        reader: np.array(
            [modified_new_york(*p.readings[reader].tolist()) if reader in p.readings else np.nan for p in patients]
        )
        for reader in study.readers
    }


@pytest.fixture(scope="module")
def proof():
    return [definite(PROOF, seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def gespic():
    return [definite(GESPIC, seed) for seed in SEEDS]


def proof_figures(calls):
    differ = calls["local"] != calls["central_1"]
    final = np.where(differ, calls["central_2"], calls["local"])
    return {"disagreement": differ.mean(), "reclassified": (final != calls["local"]).mean(), "positive": final.mean()}


def gespic_figures(calls):
    a, b = calls["central_a"], calls["central_b"]
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return {
        "positive": (a * b).mean(),
        "negative": ((1 - a) * (1 - b)).mean(),
        "discordant": (a != b).mean(),
        "kappa": 1 - (a != b).mean() / (1 - chance),
    }


# Study, Results: 432 of 1553 disagree, 183 are reclassified, 1023 are positive. Tolerances are three standard errors at full size.
@pytest.mark.parametrize(("figure", "published", "tolerance"), [
    ("disagreement", 432 / 1553, 0.034),
    ("reclassified", 183 / 1553, 0.025),
    ("positive", 1023 / 1553, 0.036),
])  # fmt: skip
def test_proof_like_readers_agree_as_published(proof, figure, published, tolerance):
    values = [proof_figures(calls)[figure] for calls in proof]
    assert values == pytest.approx([published] * len(values), abs=tolerance)
    assert np.mean(values) == pytest.approx(published, abs=tolerance / np.sqrt(len(values)))


# Study, Results: 223, 129 and 106 of 458, kappa 0.53 with an interval of 0.46 to 0.61.
@pytest.mark.parametrize(("figure", "published", "tolerance"), [
    ("positive", 223 / 458, 0.07),
    ("negative", 129 / 458, 0.063),
    ("discordant", 106 / 458, 0.059),
    ("kappa", 0.53, 0.115),
])  # fmt: skip
def test_gespic_like_readers_agree_as_published(gespic, figure, published, tolerance):
    values = [gespic_figures(calls)[figure] for calls in gespic]
    assert values == pytest.approx([published] * len(values), abs=tolerance)
    assert np.mean(values) == pytest.approx(published, abs=tolerance / np.sqrt(len(values)))


def test_third_reader_reads_disagreements_only(proof):
    for calls in proof:
        assert np.array_equal(np.isnan(calls["central_2"]), calls["local"] == calls["central_1"])


def test_both_readers_of_gespic_read_everything(gespic):
    assert not any(np.isnan(calls[reader]).any() for calls in gespic for reader in calls)


def test_grades_are_rounded_severity():
    latent = np.linspace(-6, 6, 101)
    assert np.all((severity_of(latent) > 0) & (severity_of(latent) < 4))
    assert np.array_equal(grades_of(latent), np.clip(np.round(severity_of(latent)), 0, 4))
    assert set(grades_of(latent).tolist()) == {0, 1, 2, 3, 4}
