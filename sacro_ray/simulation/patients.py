"""Baseline characteristics of the study's Table 1, drawn so that means, standard deviations and shares agree with it.

Each characteristic keeps its own distribution; a Gaussian copula ties it to the damage of the joints, and to
age or disease activity.
"""

import numpy as np
from scipy import special

from sacro_ray.simulation.studies import Amount, Share, Study

Baseline = dict[str, str | float | int | None]


def sample_baseline(rng: np.random.Generator, study: Study, damage_score: float) -> Baseline:
    """Draw one patient's characteristics.

    Args:
        rng: The source of chance.
        study: Its Table 1.
        damage_score: The patient's structural damage as a standard normal score.

    Returns:
        Column to value, in the order of the table; yes-or-no characteristics are 1 or 0, unknown ones None.
    """
    shared = {"age": float(rng.standard_normal()), "activity": float(rng.standard_normal())}
    male = _is_positive(rng, study.male, damage_score)
    amounts = {name: _amount(rng, amount, damage_score, shared[amount.shared]) for name, amount in study.amounts.items()}
    # Nobody has had symptoms for longer than since childhood.
    amounts["symptom_duration_years"] = min(amounts["symptom_duration_years"], amounts["age_years"] - 8.0)
    shares: dict[str, int | None] = {}
    for name, share in study.shares.items():
        positive, known = _is_positive(rng, share, damage_score), rng.random() < share.known
        shares[name] = int(positive) if known else None
    site = str(rng.choice(list(study.sites), p=list(study.sites.values())))
    baseline: Baseline = {
        "age_years": int(amounts.pop("age_years")),
        "sex": "male" if male else "female",
        "symptom_duration_years": amounts.pop("symptom_duration_years"),
        "hla_b27": shares.pop("hla_b27"),
    }
    return {**baseline, **amounts, **shares, "site": site}


def _is_positive(rng: np.random.Generator, share: Share, damage_score: float) -> bool:
    score = share.severity_correlation * damage_score + np.sqrt(1 - share.severity_correlation**2) * rng.standard_normal()
    return bool(score > -special.ndtri(share.positive))


def _amount(rng: np.random.Generator, amount: Amount, damage_score: float, shared_score: float) -> float:
    explained = amount.severity_correlation**2 + amount.shared_correlation**2
    score = amount.severity_correlation * damage_score + amount.shared_correlation * shared_score
    score += np.sqrt(1.0 - explained) * rng.standard_normal()
    return round(float(_quantile(amount, float(special.ndtr(score)))), amount.decimals)


def _quantile(amount: Amount, probability: float) -> float:
    """Quantile of the distribution that has the published mean and standard deviation."""
    mean, sd = amount.mean - amount.low, amount.sd
    if amount.shape == "lognormal":
        sigma = np.sqrt(np.log1p((sd / mean) ** 2))
        return float(amount.low + mean * np.exp(sigma * special.ndtri(probability) - sigma**2 / 2))
    if amount.shape == "gamma":
        return float(amount.low + special.gammaincinv((mean / sd) ** 2, probability) * sd**2 / mean)
    assert amount.high is not None
    width = amount.high - amount.low
    centre, variance = mean / width, (sd / width) ** 2
    total = centre * (1 - centre) / variance - 1
    return float(amount.low + width * special.betaincinv(centre * total, (1 - centre) * total, probability))
