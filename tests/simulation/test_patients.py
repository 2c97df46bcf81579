"""Baseline characteristics against Table 1 of the study."""

import numpy as np
import pandas as pd
import pytest

from sacro_ray.simulation.cohort import sample_patient
from sacro_ray.simulation.studies import GESPIC, PROOF

COLUMNS = [
    "age_years", "sex", "symptom_duration_years", "hla_b27", "crp_mg_l", "asdas_crp", "basdai", "basfi", "peripheral_arthritis",
    "uveitis", "psoriasis", "ibd", "family_history", "nsaid", "csdmard", "systemic_steroid", "tnf_inhibitor", "site",
]  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    """Both cohorts at full size, each of four seeds."""
    return {
        study.name: pd.DataFrame(
            sample_patient(study, number, seed).baseline for seed in range(4) for number in range(1, study.radiographs + 1)
        )
        for study in (PROOF, GESPIC)
    }


@pytest.mark.parametrize("study", [PROOF, GESPIC], ids=lambda study: study.name)
def test_means_standard_deviations_and_shares_are_those_of_table_1(study, tables):
    table = tables[study.name]
    assert list(table.columns) == COLUMNS
    for name, amount in study.amounts.items():
        error = amount.sd / np.sqrt(len(table))
        assert table[name].mean() == pytest.approx(amount.mean, abs=5 * error), name
        # The tail of a lognormal makes its sample standard deviation vary most.
        assert table[name].std() == pytest.approx(amount.sd, rel=0.25 if amount.shape == "lognormal" else 0.06), name
    for name, share in study.shares.items():
        assert table[name].mean() == pytest.approx(share.positive, abs=4 * np.sqrt(0.25 / len(table))), name
        assert table[name].notna().mean() == pytest.approx(share.known, abs=0.03), name
    assert (table["sex"] == "male").mean() == pytest.approx(study.male.positive, abs=4 * np.sqrt(0.25 / len(table)))


@pytest.mark.parametrize("study", [PROOF, GESPIC], ids=lambda study: study.name)
def test_values_are_possible(study, tables):
    table = tables[study.name]
    assert table["age_years"].between(18, 80).all()
    assert (table["symptom_duration_years"] < table["age_years"]).all()
    assert ((table[["basdai", "basfi"]] >= 0) & (table[["basdai", "basfi"]] <= 10)).all(axis=None)
    assert (table["crp_mg_l"] >= 0).all()
    assert set(table["site"]) == set(study.sites)


def test_published_columns_are_skewed(tables):
    for table in tables.values():
        for name in ("symptom_duration_years", "crp_mg_l"):
            assert table[name].median() < table[name].mean(), name


def test_hla_b27_is_unknown_in_proof_only(tables):
    assert tables["proof"]["hla_b27"].isna().any()
    assert tables["gespic"]["hla_b27"].notna().all()
