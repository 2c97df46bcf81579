"""Prediction tables: read, check, and turned into arrays. Everything that can be wrong with one is said here, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sacro_ray.errors import UserError, listed
from sacro_ray.evaluation.estimates import Bools, Floats, Ints

PREDICTION_COLUMNS = ("radiograph_id", "patient_id", "cohort", "split", "subset", "probability", "label")
REQUIRED = ("radiograph_id", "probability", "label")
READER = "reader:"


@dataclass(frozen=True)
class Sample:
    """Radiographs with a reference label, as arrays of shape (n,)."""

    labels: Bools
    probabilities: Floats
    patients: Ints

    def __len__(self) -> int:
        return int(self.labels.size)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a table of predictions and check it; see `check_predictions` for what comes back.

    Raises:
        UserError: The file is missing, empty or no CSV, or its content is wrong.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"no predictions at {path}; give a CSV with the columns {', '.join(REQUIRED)}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path} is empty; it must be a CSV with the columns {', '.join(REQUIRED)}") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV in UTF-8: {error}") from None
    return check_predictions(table, str(path))


def check_predictions(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check a table of predictions and put it into its one form.

    Args:
        table: At least `radiograph_id`, `probability` and `label`; values may be text or numbers.
        source: How messages name the table.

    Returns:
        The columns `PREDICTION_COLUMNS`, then `reader:NAME` columns, in the order of the table: identifiers as text, `probability`
        0 to 1, `label` and readings 0, 1 or not a number (none). A radiograph without `patient_id` is its own patient. Without a
        column `subset`, radiographs without a label are `discordant`, the others `concordant`.

    Raises:
        UserError: A column is missing, the table has no rows, a radiograph stands in it twice, a probability is no number from 0 to 1,
            a label or a reading is neither 0, 1 nor blank, or a subset is neither `concordant` nor `discordant`.
    """
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise UserError(f"{source}: no column {', '.join(missing)}; predictions need {', '.join(REQUIRED)}")
    if not len(table):
        raise UserError(f"{source} has no rows; it must hold one row a radiograph")
    ids = _text(table["radiograph_id"])
    if (ids == "").any():
        raise UserError(f"{source}: radiograph_id is blank in {int((ids == '').sum())} row(s); each radiograph needs its own")
    cohorts = _text(table["cohort"]) if "cohort" in table else pd.Series("", index=table.index)
    twice = ids[pd.DataFrame({"cohort": cohorts, "id": ids}).duplicated()].unique()
    if len(twice):
        raise UserError(f"{source}: radiograph_id must be unique, given more than once: {listed(twice)}")
    result = pd.DataFrame({"radiograph_id": ids})
    patients = _text(table["patient_id"]) if "patient_id" in table else pd.Series("", index=table.index)
    result["patient_id"] = patients.where(patients != "", ids)
    result["cohort"] = cohorts
    result["split"] = _text(table["split"]) if "split" in table else ""
    label = _zero_or_one(table["label"], ids, "label", source)
    subset = _text(table["subset"]) if "subset" in table else pd.Series("", index=table.index)
    result["subset"] = subset.mask(subset == "", label.map({0.0: "concordant", 1.0: "concordant"}).fillna("discordant"))
    strange = sorted(set(result["subset"]) - {"concordant", "discordant"})
    if strange:
        raise UserError(f"{source}: subset is {listed(strange)}; allowed are concordant and discordant")
    result["probability"] = _probability(table["probability"], ids, source)
    result["label"] = label
    for name in (str(column) for column in table.columns if str(column).startswith(READER)):
        if name in (READER, READER + "model"):
            raise UserError(f"{source}: a column is named {name}; name it reader:NAME, and not after the model")
        result[name] = _zero_or_one(table[name], ids, name, source)
    return result.reset_index(drop=True)


def refuse_overlap(validation: pd.DataFrame, test: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a radiograph that stands in both tables, the same by these columns.

    Raises:
        UserError: With the radiographs' ids.
    """
    columns = list(columns)
    shared = validation[columns].merge(test[columns], on=columns)["radiograph_id"].unique()
    if len(shared):
        raise UserError(
            f"{len(shared)} radiograph(s) stand in validation and in test: {listed(shared)}; a test set shares no radiograph with "
            "validation (where other radiographs merely bear the same id, give them distinct ids)"
        )


def labelled(table: pd.DataFrame, source: str) -> Sample:
    """The radiographs that have a reference label.

    Args:
        table: As `check_predictions` returns it.
        source: How messages name the table.

    Raises:
        UserError: The labels are all negative or all positive, or there are none.
    """
    sample = sample_of(table[table["label"].notna()])
    positives = int(sample.labels.sum())
    if positives in (0, len(sample)):
        raise UserError(
            f"{source}: {positives} positive and {len(sample) - positives} negative labels; evaluation needs radiographs of both classes"
        )
    return sample


def sample_of(table: pd.DataFrame) -> Sample:
    """Rows that all have a label, as arrays."""
    return Sample(
        labels=table["label"].to_numpy(np.float64) == 1,
        probabilities=table["probability"].to_numpy(np.float64),
        patients=patient_numbers(table),
    )


def patient_numbers(table: pd.DataFrame) -> Ints:
    """Shape (n,), a number from 0 for each patient, who is known by cohort and patient_id."""
    return table.groupby(["cohort", "patient_id"], sort=False).ngroup().to_numpy().astype(np.int64)


def reader_names(table: pd.DataFrame) -> list[str]:
    """The readers with at least one reading, in the order of the columns."""
    return [str(c).removeprefix(READER) for c in table.columns if str(c).startswith(READER) and table[c].notna().any()]


def _text(values: pd.Series) -> pd.Series:
    return values.astype("string").fillna("").str.strip().astype(object)


def _zero_or_one(values: pd.Series, ids: pd.Series, name: str, source: str) -> pd.Series:
    text = _text(values)
    number = pd.to_numeric(text, errors="coerce").astype(np.float64)
    wrong = (text != "") & (text.str.lower() != "nan") & ~number.isin([0.0, 1.0])
    if wrong.any():
        raise UserError(
            f"{source}: {name} must be 0, 1 or blank; it is {listed(text[wrong].unique())} for {listed(ids[wrong])}"
        )
    return number


def _probability(values: pd.Series, ids: pd.Series, source: str) -> pd.Series:
    text = _text(values)
    number = pd.to_numeric(text, errors="coerce").astype(np.float64)
    wrong = ~((number >= 0) & (number <= 1))
    if wrong.any():
        given = listed(value or "blank" for value in text[wrong].unique())
        raise UserError(f"{source}: probability must be a number from 0 to 1; it is {given} for {listed(ids[wrong])}")
    return number
