"""The two studies that are simulated: size, readers, Table 1, sites. Published figures carry their source; the rest is calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sacro_ray.simulation.acquisition import DIGITAL, DIGITISED_FILM, Style


@dataclass(frozen=True)
class Amount:
    """A continuous characteristic of Table 1.

    Attributes:
        mean: Published mean.
        sd: Published standard deviation.
        low: Smallest possible value.
        high: Largest possible value; None: no bound.
        shape: "lognormal" and "gamma" are skewed and start at `low`; "beta" lies between the bounds.
        decimals: Places stored.
        severity_correlation: With the structural damage of the joints (plausible, not published).
        shared: What it shares with other characteristics: the patient's age, or the disease activity of the day.
        shared_correlation: With that.
    """

    mean: float
    sd: float
    low: float
    high: float | None
    shape: Literal["lognormal", "gamma", "beta"]
    decimals: int
    severity_correlation: float
    shared: Literal["age", "activity"]
    shared_correlation: float


@dataclass(frozen=True)
class Share:
    """A yes-or-no characteristic of Table 1: published share, how many are known, plausible correlation with structural damage."""

    positive: float
    severity_correlation: float = 0.0
    known: float = 1.0


@dataclass(frozen=True)
class Study:
    """A simulated study.

    Attributes:
        name: Folder and cohort name.
        title: In words, for the DICOM header.
        stream: Number of its stream of chance; never reused.
        radiographs: Full size.
        readers: Reader to bias on the logit scale of severity (positive: grades higher).
        third_reader: True: the third reader reads only where the first two disagree.
        location: Mean of the latent severity on the logit scale.
        reader_noise: Standard deviation of a reading on the logit scale, half of its variance shared by both joints of a radiograph.
        male: Share of men.
        amounts, shares: Table 1.
        sites: Site to share of radiographs.
        style: How the radiographs are taken.
    """

    name: str
    title: str
    stream: int
    radiographs: int
    readers: Mapping[str, float]
    third_reader: bool
    location: float
    reader_noise: float
    male: Share
    amounts: Mapping[str, Amount]
    shares: Mapping[str, Share]
    sites: Mapping[str, float]
    style: Style


# Table 1 of the study. `location`, biases and noise are calibrated on 100,000 simulated patients, so that the published agreement comes
# out (Results, first two paragraphs): 27.8 % of local and first central readings differ, in 11.8 % of all radiographs the central
# readers overrule the local one, 65.9 % are positive at the end.
PROOF = Study(
    name="proof",
    title="PROOF-like",
    stream=1,
    radiographs=1553,
    readers={"local": 0.138, "central_1": -0.903, "central_2": 0.0},
    third_reader=True,
    location=0.739,
    reader_noise=1.592,
    male=Share(983 / 1553, 0.25),
    amounts={
        "age_years": Amount(34.7, 10.5, 18.0, 80.0, "beta", 0, 0.0, "age", 1.0),
        "symptom_duration_years": Amount(4.7, 6.8, 0.0, None, "gamma", 1, 0.2, "age", 0.6),
        "crp_mg_l": Amount(15.6, 23.0, 0.0, None, "lognormal", 1, 0.2, "activity", 0.5),
        "asdas_crp": Amount(2.9, 1.1, 0.6, 6.5, "beta", 1, 0.1, "activity", 0.85),
        "basdai": Amount(4.5, 2.3, 0.0, 10.0, "beta", 1, 0.0, "activity", 0.85),
        "basfi": Amount(3.3, 2.5, 0.0, 10.0, "beta", 1, 0.1, "activity", 0.7),
    },
    shares={
        "hla_b27": Share(836 / 1294, 0.15, known=1294 / 1553),  # 836 are 64.6 % of 1294: 259 are not known
        "peripheral_arthritis": Share(503 / 1553),
        "uveitis": Share(151 / 1553, 0.1),
        "psoriasis": Share(106 / 1553),
        "ibd": Share(40 / 1553),
        "family_history": Share(291 / 1553),
        "nsaid": Share(1204 / 1553),
        "csdmard": Share(539 / 1553),
        "systemic_steroid": Share(119 / 1553),
        "tnf_inhibitor": Share(234 / 1553, 0.1),
    },
    sites={"P1": 0.3, "P2": 0.25, "P3": 0.2, "P4": 0.15, "P5": 0.1},
    style=DIGITAL,
)

# Results, second paragraph: 48.7 % positive and 28.2 % negative to both readers, 23.1 % discordant; kappa 0.53 (which the three shares
# reach only where one reader grades higher than the other).
GESPIC = Study(
    name="gespic",
    title="GESPIC-like",
    stream=2,
    radiographs=458,
    readers={"central_a": 0.472, "central_b": -0.472},
    third_reader=False,
    location=0.265,
    reader_noise=1.115,
    male=Share(243 / 458, 0.25),
    amounts={
        "age_years": Amount(35.7, 10.3, 18.0, 80.0, "beta", 0, 0.0, "age", 1.0),
        "symptom_duration_years": Amount(4.0, 2.7, 0.0, None, "gamma", 1, 0.2, "age", 0.6),
        "crp_mg_l": Amount(11.5, 18.2, 0.0, None, "lognormal", 1, 0.2, "activity", 0.5),
        "asdas_crp": Amount(2.6, 1.0, 0.6, 6.5, "beta", 1, 0.1, "activity", 0.85),
        "basdai": Amount(3.9, 2.1, 0.0, 10.0, "beta", 1, 0.0, "activity", 0.85),
        "basfi": Amount(2.8, 2.3, 0.0, 10.0, "beta", 1, 0.1, "activity", 0.7),
    },
    shares={
        "hla_b27": Share(359 / 458, 0.15),
        "peripheral_arthritis": Share(65 / 458),
        "uveitis": Share(79 / 458, 0.1),
        "psoriasis": Share(49 / 458),
        "ibd": Share(12 / 458),
        "family_history": Share(147 / 458),
        "nsaid": Share(305 / 458),
        "csdmard": Share(107 / 458),
        "systemic_steroid": Share(40 / 458),
        "tnf_inhibitor": Share(11 / 458, 0.1),
    },
    sites={"G1": 0.5, "G2": 0.3, "G3": 0.2},
    style=DIGITISED_FILM,
)
