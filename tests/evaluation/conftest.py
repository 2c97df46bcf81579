from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sacro_ray.config import Evaluation, build_experiment
from sacro_ray.evaluation.context import Example, ReportContext
from sacro_ray.evaluation.pipeline import evaluate_predictions

COHORT = {
    "table": "c.csv",
    "readings": "r.csv",
    "rule": "modified_new_york",
    "consensus": "agreement",
    "readers": ["one", "two"],
}
CONFIG = build_experiment(
    {"name": "simulated", "cohorts": {"V": {**COHORT, "role": "development"}, "T": {**COHORT, "role": "external_test"}}}
).as_toml()

# One pixel, grey.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c6368000000820081dd436af40000000049454e44ae426082"
)


def binormal(n: int, share: float, shift: float, seed: int, prefix: str) -> pd.DataFrame:
    """Predictions of a model whose scores are normal in each class, through a logistic; patients 0, 0, 1, 2, 3, ..."""
    generator = np.random.default_rng(seed)
    label = (generator.random(n) < share).astype(int)
    label[:2] = [0, 1]
    score = 1 / (1 + np.exp(-(generator.normal(size=n) + shift * (label - 0.5))))
    return pd.DataFrame(
        {
            "radiograph_id": [f"{prefix}{i}" for i in range(n)],
            "patient_id": [f"patient {max(0, i - 1)}" for i in range(n)],
            "cohort": prefix,
            "split": "validation" if prefix == "V" else "test",
            "subset": "concordant",
            "probability": score.round(6),
            "label": label.astype(float),
        }
    )


def make_validation() -> pd.DataFrame:
    table = binormal(90, 0.6, 2.5, 1, "V")
    table["reader:local"] = np.where(np.arange(90) % 4 == 0, 1 - table["label"], table["label"])
    return table


def make_external() -> pd.DataFrame:
    """100 radiographs with two readers, who differ on every fifth: those have no label."""
    table = binormal(100, 0.6, 2.0, 2, "T")
    differ = np.arange(100) % 5 == 4
    table["reader:one"] = table["label"]
    table["reader:two"] = table["label"].where(~differ, 1 - table["label"])
    table["subset"] = np.where(differ, "discordant", "concordant")
    table["label"] = table["label"].mask(differ)
    return table


def make_context(validation: pd.DataFrame, external: pd.DataFrame) -> ReportContext:
    """A run that knows everything about itself."""
    generator = np.random.default_rng(3)
    training = pd.DataFrame(
        {"radiograph_id": [f"L{i}" for i in range(60)], "cohort": "V", "split": "train", "label": [0.0, 1.0] * 30}
    )
    columns = list(training.columns)
    baseline = pd.concat([validation[columns], external[columns], training]).reset_index(drop=True)
    baseline["age_years"] = generator.normal(35, 10, len(baseline)).round()
    baseline["sex"] = generator.choice(["female", "male"], len(baseline))
    baseline["hla_b27"] = generator.choice([0.0, 1.0, np.nan], len(baseline), p=[0.3, 0.6, 0.1])
    baseline["site"] = generator.choice(["A", "B", "C"], len(baseline), p=[0.5, 0.42, 0.08])
    history = pd.DataFrame(
        {
            "epoch": range(1, 9), "stage": [1] * 4 + [2] * 4, "size_px": [128] * 4 + [224] * 4,
            "phase": ["frozen", "unfrozen", "unfrozen", "unfrozen"] * 2, "lr": 0.001, "train_loss": np.linspace(0.7, 0.3, 8),
            "val_auc": [0.6, 0.7, 0.8, 0.78, 0.81, 0.84, 0.86, 0.85], "best_val_auc": [0.6, 0.7, 0.8, 0.8, 0.81, 0.84, 0.86, 0.86],
        }
    )  # fmt: skip
    groups = ("true_positive", "true_negative", "false_positive", "false_negative")
    return ReportContext(
        title="simulated run",
        config=CONFIG,
        history=history,
        manifests=[
            {"cohort": "V", "received": 155, "excluded": [{"radiograph_id": "V95", "reason": "not_a_radiograph"}] * 5,
             "settings": {"validation_fraction": 0.6},
             "splits": {"train": {"radiographs": 60, "patients": 60, "positives": 30, "shards": []},
                        "validation": {"radiographs": 90, "patients": 89, "positives": 50, "adjudicated": 20, "shards": []}}},
            {"cohort": "T", "received": 100, "excluded": [],
             "splits": {"test": {"radiographs": 100, "patients": 99, "positives": 50, "discordant": 20, "shards": []}}},
        ],
        baseline=baseline,
        examples=[Example(f"T{i}", group, 0.5, PNG, PNG) for i, group in enumerate(groups * 2)],
        simulated=True,
        robustness=[
            {"perturbation": "unchanged", "auc": 0.85, "low": 0.78, "high": 0.92, "change": 0.0},
            {"perturbation": "rotation 5°", "auc": 0.83, "low": 0.75, "high": 0.91, "change": -0.02},
        ],
        versions={"torch": "0"},
        data_digest="abc",
    )  # fmt: skip


@pytest.fixture
def validation() -> pd.DataFrame:
    return make_validation()


@pytest.fixture
def external() -> pd.DataFrame:
    return make_external()


@pytest.fixture
def context(validation: pd.DataFrame, external: pd.DataFrame) -> ReportContext:
    return make_context(validation, external)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that knows everything, with a fixed cut-off; its folder is not to be changed."""
    tables = make_validation(), make_external()
    quick = Evaluation(bootstrap_repetitions=100, cutoff_repeats=3)
    return evaluate_predictions(*tables, quick, 0, tmp_path_factory.mktemp("report"), {"half": 0.5}, make_context(*tables))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of validation predictions alone, whose reader has a name with tags in it; its folder is not to be changed."""
    table = make_validation().rename(columns={"reader:local": "reader:<script>alert(1)</script>"})
    quick = Evaluation(bootstrap_repetitions=100, cutoff_repeats=3)
    return evaluate_predictions(table, None, quick, 0, tmp_path_factory.mktemp("bare"), {})


@pytest.fixture(scope="session")
def reference() -> Path:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the reference predictions are not beside the repository (../shared/reference)")
    return folder
