"""Read a cohort's two tables, cohort.csv and readings.csv, and refuse what cannot be right."""

import csv
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sacro_ray.config import Cohort
from sacro_ray.errors import UserError, listed
from sacro_ray.imaging.decode import Box
from sacro_ray.imaging.grading import ReadingError, positive

REQUIRED = ("radiograph_id", "patient_id", "path")
CROP = ("crop_left", "crop_top", "crop_right", "crop_bottom")
GRADES = ("grade_right", "grade_left", "grade", "definite")
T = TypeVar("T", bound=Hashable)
Value = str | int | float | None


@dataclass(frozen=True)
class CohortRow:
    """One radiograph of cohort.csv.

    Attributes:
        path: The image file.
        split: The table's own split, `train` or `validation`; None where it has none.
        box: Left, top, right, bottom of the crop in pixels of the file's image, right and bottom exclusive, or None.
        baseline: The further columns; numbers as numbers, blanks as None.
        simulated: The table's column `simulated` says so.
    """

    radiograph_id: str
    patient_id: str
    path: Path
    split: str | None
    box: Box | None
    baseline: dict[str, Value]
    simulated: bool


def read_cohort(path: Path, role: str) -> list[CohortRow]:
    """Read cohort.csv, in the order of the file.

    Args:
        path: The table.
        role: `development` or `external_test`; only a development cohort's `split` column counts.

    Raises:
        UserError: The table is missing or empty, lacks a column, repeats a radiograph_id, names a file that is not there, or
            holds a split, a patient or a crop box that cannot be.
    """
    rows = _read(path, REQUIRED)
    _refuse_blanks(path, rows, REQUIRED)
    names = [row["radiograph_id"] for row in rows]
    _refuse(path, "radiograph_id occurs more than once; keep one row a radiograph", _repeated(names))
    columns = list(rows[0])
    given_crop = [column for column in CROP if column in columns]
    if given_crop and len(given_crop) < len(CROP):
        raise UserError(f"{path}: has {', '.join(given_crop)} only; a crop needs all of {', '.join(CROP)}")
    missing = [row["radiograph_id"] for row in rows if not (path.parent / row["path"]).is_file()]
    _refuse(path, "path leads to no file (paths are relative to the table)", missing)
    splits = [_split(path, row, role) for row in rows]
    boxes = [_box(path, row) if given_crop else None for row in rows]
    further = [column for column in columns if column not in (*REQUIRED, *CROP, "split", "simulated")]
    values = {column: _as_numbers([row[column] for row in rows]) for column in further}
    result = [
        CohortRow(
            row["radiograph_id"],
            row["patient_id"],
            path.parent / row["path"],
            splits[i],
            boxes[i],
            {column: values[column][i] for column in further},
            row.get("simulated", "").lower() in ("1", "true", "yes"),
        )
        for i, row in enumerate(rows)
    ]
    by_patient: dict[str, set[str]] = {}
    for entry in result:
        if entry.split:
            by_patient.setdefault(entry.patient_id, set()).add(entry.split)
    torn = [entry.radiograph_id for entry in result if len(by_patient.get(entry.patient_id, ())) > 1]
    _refuse(
        path,
        "the column split puts a patient into both train and validation; give all radiographs of a patient one split",
        torn,
    )
    return result


def read_readings(path: Path, cohort: Cohort, radiographs: Iterable[str]) -> tuple[dict[str, dict[str, int]], int]:
    """Read readings.csv and apply the cohort's rule to each reading.

    Args:
        path: The table.
        cohort: Its `rule` and `readers`.
        radiographs: The radiograph_ids of cohort.csv.

    Returns:
        0 or 1 by radiograph and reader (no entry where a reader has left all grades blank), and how many rows were of radiographs
        that cohort.csv does not hold.

    Raises:
        UserError: The table is missing, lacks the rule's columns, names an unknown reader, repeats a reading, or holds a grade that
            cannot be.
    """
    rows = _read(path, ("radiograph_id", "reader"))
    _refuse_blanks(path, rows, ("radiograph_id", "reader"))
    columns = [column for column in GRADES if column in rows[0]]
    if not columns:
        raise UserError(
            f"{path}: no column of grades; the rule {cohort.rule} needs one of: grade_right and grade_left, grade, definite"
        )
    unknown = {row["reader"] for row in rows} - set(cohort.readers)
    if unknown:
        raise UserError(
            f"{path}: the reader {listed(unknown)} is not among readers = {cohort.readers}; add the name there or take the rows out"
        )
    _refuse(
        path,
        "a reader has read a radiograph twice; keep one row a radiograph and reader",
        {radiograph for radiograph, _ in _repeated((row["radiograph_id"], row["reader"]) for row in rows)},
    )
    known, elsewhere = set(radiographs), 0
    readings: dict[str, dict[str, int]] = {}
    wrong: dict[str, list[str]] = {}
    for row in rows:
        name = row["radiograph_id"]
        if name not in known:
            elsewhere += 1
            continue
        try:
            grades = {column: _grade(column, row[column]) for column in columns if row[column] != ""}
            if grades:
                readings.setdefault(name, {})[row["reader"]] = positive(cohort.rule, grades)
        except ReadingError as error:
            wrong.setdefault(str(error), []).append(name)
    for problem, names in wrong.items():
        _refuse(path, problem, names)
    return readings, elsewhere


def _read(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True, restkey="", restval="\0")
            rows = [{key.strip(): value for key, value in row.items()} for row in reader]
            columns = [column.strip() for column in reader.fieldnames or ()]
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"no table at {path}; give its path relative to the working directory") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV table in UTF-8: {type(error).__name__}; save it again as CSV (UTF-8)") from None
    missing = [column for column in required if column not in columns]
    if missing:
        hint = "; its columns seem to be separated by semicolons, save it with commas" if any(";" in c for c in columns) else ""
        raise UserError(f"{path}: the column {', '.join(missing)} is missing; there are {', '.join(columns) or 'none'}{hint}")
    _refuse(path, "a column occurs twice", _repeated(columns))
    if not rows:
        raise UserError(f"{path} has a header but no row")
    for line, row in enumerate(rows, start=2):
        if "" in row or "\0" in row.values():
            raise UserError(f"{path}: row {line} has not as many values as the header has columns")
    return [{key: value.strip() for key, value in row.items()} for row in rows]


def _refuse(path: Path, problem: str, names: Iterable[str]) -> None:
    names = set(names)
    if names:
        raise UserError(f"{path}: {problem}: {listed(names)}")


def _refuse_blanks(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    for column in columns:
        blank = [line for line, row in enumerate(rows, start=2) if not row[column]]
        if blank:
            raise UserError(f"{path}: {column} is blank in row {listed(blank)}")


def _repeated(items: Iterable[T]) -> set[T]:
    return {item for item, times in Counter(items).items() if times > 1}


def _split(path: Path, row: dict[str, str], role: str) -> str | None:
    split = row.get("split", "")
    if role == "external_test" or not split:
        return None
    if split not in ("train", "validation"):
        raise UserError(f"{path}: split is {split!r} for {row['radiograph_id']}; allowed are train, validation or blank")
    return split


def _box(path: Path, row: dict[str, str]) -> Box | None:
    texts = [row[column] for column in CROP]
    if not any(texts):
        return None
    try:
        left, top, right, bottom = (int(text) for text in texts)
    except ValueError:
        raise UserError(f"{path}: the crop of {row['radiograph_id']} is not four whole numbers of pixels") from None
    if not (0 <= left < right and 0 <= top < bottom):
        raise UserError(f"{path}: the crop of {row['radiograph_id']} is empty or negative; right and bottom are exclusive")
    return left, top, right, bottom


def _grade(column: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ReadingError(f"{column} is not a whole number") from None


def _as_numbers(texts: list[str]) -> list[Value]:
    """A column as numbers where every value is one; codes with leading zeros and mixed columns stay text; blanks are None."""
    given = [text for text in texts if text]
    if not all(re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", text) and math.isfinite(float(text)) for text in given):
        return [text or None for text in texts]
    whole = all(re.fullmatch(r"-?\d+", text) for text in given)
    return [None if not text else int(text) if whole else float(text) for text in texts]
