"""Baseline characteristics: Table 1 of the cohorts, and performance in each subgroup."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sacro_ray.evaluation.agreement import ConfusionTable
from sacro_ray.evaluation.discrimination import auc_delong
from sacro_ray.evaluation.estimates import Bools
from sacro_ray.evaluation.predictions import sample_of
from sacro_ray.evaluation.tables import Cell, Table

BASELINE = "baseline:"
"""Before the name of a column of cohort.csv, which may be any, `label` and `cohort` among them: it never meets a column of ours."""
NOT_CHARACTERISTICS = ("radiograph_id", "patient_id", "cohort", "split", "subset", "label")
# As the field writes them (study, Table 1).
ABBREVIATIONS = {
    "asdas": "ASDAS", "b27": "B27", "basdai": "BASDAI", "basfi": "BASFI", "bmi": "BMI", "crp": "CRP", "csdmard": "csDMARD",
    "csdmards": "csDMARDs", "hla": "HLA", "ibd": "IBD", "nsaid": "NSAID", "nsaids": "NSAIDs", "spa": "SpA", "tnf": "TNF",
}  # fmt: skip
UNITS = {"years": "years", "mm": "mm", "px": "px", "mg_l": "mg/l", "kg": "kg", "kg_m2": "kg/m²"}
MOST_CATEGORIES = 12  # rarer ones are taken together as "other"
SPLIT_NAMES = {"train": "training"}
FEWEST_VALUES = 5  # numbers with fewer distinct values are categories


def characteristics(baseline: pd.DataFrame) -> list[str]:
    """The columns that describe patients."""
    return [str(column) for column in baseline.columns if column not in NOT_CHARACTERISTICS]


def readable(name: str) -> str:
    """A column's name as it is shown: `baseline:age_years` becomes `Age, years`."""
    text, shown_unit = name.removeprefix(BASELINE).strip(), ""
    for ending, unit in UNITS.items():
        if text.lower().endswith(f"_{ending}"):
            text, shown_unit = text[: -len(ending) - 1], f", {unit}"
    words = [ABBREVIATIONS.get(word.lower(), word) for word in text.replace("_", " ").split()]
    if words and words[0] not in ABBREVIATIONS.values():
        words[0] = words[0][:1].upper() + words[0][1:]
    return " ".join(words).replace("HLA B27", "HLA-B27").replace("ASDAS CRP", "ASDAS-CRP") + shown_unit


def table_1(baseline: pd.DataFrame) -> Table:
    """Baseline characteristics by cohort, and by split of a cohort (study, Table 1).

    Mean (SD) of numbers, n (%) of categories, and how many are missing.

    Args:
        baseline: `radiograph_id`, `cohort`, `split` if known, and one column per characteristic; one row per radiograph.
    """
    cohorts = dict(_partitions(baseline))
    heads = {name: f"{name} (n = {len(part)})" for name, part in cohorts.items()}
    rows: list[dict[str, Cell]] = []

    def add(label: str, cells: Mapping[str, str]) -> None:
        rows.append({"characteristic": label, **{heads[name]: cells[name] for name in cohorts}})

    if "label" in baseline:
        add("Reference positive, n (%)", {n: _share(part["label"], 1.0) for n, part in cohorts.items()})
    for column in characteristics(baseline):
        numbers = _numbers(baseline[column])
        if numbers is not None and set(numbers.dropna().unique()) <= {0.0, 1.0}:
            add(f"{readable(column)}, n (%)", {n: _share(numbers[part.index], 1.0) for n, part in cohorts.items()})
        elif numbers is not None:
            add(f"{readable(column)}, mean (SD)", {n: _mean(numbers[part.index]) for n, part in cohorts.items()})
        else:
            texts = _texts(baseline[column])
            for category in _common(texts):
                add(
                    f"{readable(column)}: {category}, n (%)",
                    {n: _share(texts[part.index], category) for n, part in cohorts.items()},
                )
    return Table(
        "table_1", "Baseline characteristics", rows, "Shares are of the radiographs for which the characteristic is known."
    )


def _partitions(baseline: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each cohort by name and, where it has several, each of its splits."""
    for cohort, part in baseline.groupby("cohort", sort=False):
        name = str(cohort)
        yield name, part
        splits = list(part.groupby("split", sort=False)) if "split" in part else []
        if len(splits) > 1:
            for split, members in splits:
                yield f"{name}, {SPLIT_NAMES.get(str(split), str(split))}", members


def subgroup_rows(test: pd.DataFrame, baseline: pd.DataFrame, cutoff: float, small: int) -> list[dict[str, Cell]]:
    """AUC, sensitivity and specificity in each category, and in each quarter of a number.

    Args:
        test: Radiographs with labels, as `check_predictions` returns them.
        baseline: `radiograph_id`, `cohort`, and one column per characteristic.
        cutoff: The balanced one.
        small: Groups with fewer radiographs are marked.
    """
    joined = test.merge(baseline.drop(columns=["split", "label"], errors="ignore"), on=["cohort", "radiograph_id"], how="left")
    rows = [_row("All", "", test, cutoff, small)]
    columns = [*(["cohort"] if len(test["cohort"].unique()) > 1 else []), *characteristics(baseline)]
    for column in columns:
        groups = list(_groups(joined[column]))
        if len(groups) > 1:
            rows += [_row(readable(column), name, joined[member], cutoff, small) for name, member in groups]
    return rows


def _row(characteristic: str, group: str, table: pd.DataFrame, cutoff: float, small: int) -> dict[str, Cell]:
    sample = sample_of(table)
    rates = ConfusionTable.of(sample.labels, sample.probabilities >= cutoff).proportions()
    positives = int(sample.labels.sum())
    both = 0 < positives < len(sample)
    undefined: dict[str, Any] = {"estimate": None, "low": None, "high": None}
    return {
        "characteristic": characteristic,
        "group": group,
        "n": len(sample),
        "positive": positives,
        "AUC": auc_delong(sample.labels, sample.probabilities).as_dict() if both else undefined,
        "sensitivity": rates["sensitivity"].as_dict(),
        "specificity": rates["specificity"].as_dict(),
        "remark": f"fewer than {small}" if len(sample) < small else "",
    }


def _groups(values: "pd.Series[Any]") -> Iterator[tuple[str, Bools]]:
    numbers = _numbers(values)
    if numbers is not None and numbers.nunique() >= FEWEST_VALUES:
        edges = np.unique(np.quantile(numbers.dropna(), [0, 0.25, 0.5, 0.75, 1]))
        quarter = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, edges.size - 2)
        for i in range(edges.size - 1):
            last = i == edges.size - 2
            name = f"{edges[i]:.4g} to {'' if last else 'below '}{edges[i + 1]:.4g}"
            yield name, ((quarter == i) & numbers.notna()).to_numpy()
        missing = numbers.isna()
    else:
        texts = _texts(values)
        if numbers is not None and set(numbers.dropna().unique()) <= {0.0, 1.0}:
            texts = texts.map({"0": "no", "1": "yes"})
        common = _common(texts)
        for category in common:
            yield category, (texts == category).to_numpy()
        rest = ~texts.isin(common) & texts.notna()
        if rest.any():
            yield "other", rest.to_numpy()
        missing = texts.isna()
    if missing.any():
        yield "not known", missing.to_numpy()


def _numbers(values: "pd.Series[Any]") -> "pd.Series[float] | None":
    """The column as numbers, blanks as not a number; None where it is not numeric throughout."""
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    return numbers if numbers.notna().any() and (numbers.notna() | _texts(values).isna()).all() else None


def _texts(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """The column as text, whole numbers without a decimal point, blanks as missing."""
    texts = values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore").astype(
        object
    )
    return texts.where(texts.notna() & (texts != ""), None)


def _common(texts: "pd.Series[Any]") -> list[str]:
    counts = texts.value_counts()
    return sorted(str(name) for name in sorted(counts.index, key=lambda name: (-counts[name], name))[:MOST_CATEGORIES])


def _share(values: "pd.Series[Any]", wanted: object) -> str:
    known = values.notna()
    if not known.any():
        return f"– [{len(values)} missing]"
    count = int((values[known] == wanted).sum())
    return f"{count} ({100 * count / known.sum():.1f})" + _missing(values)


def _mean(values: "pd.Series[float]") -> str:
    if values.notna().sum() < 2:
        return f"– [{int(values.isna().sum())} missing]"
    return f"{values.mean():.1f} ({values.std(ddof=1):.1f})" + _missing(values)


def _missing(values: "pd.Series[Any]") -> str:
    return f" [{int(values.isna().sum())} missing]" if values.isna().any() else ""
