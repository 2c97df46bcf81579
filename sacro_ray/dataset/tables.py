"""Read a cohort's two tables, cohort.csv and readings.csv, and refuse what cannot be right."""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sacro_ray.config import Cohort
from sacro_ray.dataset.csv_table import CsvTable, read_table
from sacro_ray.errors import UserError, listed
from sacro_ray.imaging.decode import Box
from sacro_ray.imaging.grading import ReadingError, positive

log = logging.getLogger("sacro_ray")
REQUIRED = ("radiograph_id", "patient_id", "path")
CROP = ("crop_left", "crop_top", "crop_right", "crop_bottom")
KNOWN = (*REQUIRED, *CROP, "split", "simulated")
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
    table = read_table(path, REQUIRED, known=KNOWN)
    rows = table.rows
    _refuse_blanks(table, REQUIRED)
    names = [row["radiograph_id"] for row in rows]
    _refuse(path, "radiograph_id occurs more than once; keep one row per radiograph", _repeated(names))
    given_crop = [column for column in CROP if column in table.columns]
    if given_crop and len(given_crop) < len(CROP):
        raise UserError(f"{path}: has {', '.join(given_crop)} only; a crop needs all of {', '.join(CROP)}")
    missing = [row["radiograph_id"] for row in rows if not os.path.isfile(path.parent / row["path"])]
    _refuse(path, "path leads to no file (paths are relative to the table)", missing)
    splits = [_split(path, row, role) for row in rows]
    boxes = [_box(table, row) if given_crop else None for row in rows]
    further = [column for column in table.columns if column not in KNOWN]
    values = {column: _as_numbers(table, column) for column in further}
    result = [
        CohortRow(
            row["radiograph_id"],
            row["patient_id"],
            path.parent / row["path"],
            splits[i],
            boxes[i],
            {column: values[column][i] for column in further},
            row.get("simulated", "").lower() in ("1", "1.0", "true", "yes"),
        )
        for i, row in enumerate(rows)
    ]
    _refuse_torn_patients(path, result)
    return result


def _refuse_torn_patients(path: Path, rows: list[CohortRow]) -> None:
    by_patient: dict[str, set[str]] = {}
    for entry in rows:
        if entry.split:
            by_patient.setdefault(entry.patient_id, set()).add(entry.split)
    torn = [entry.radiograph_id for entry in rows if len(by_patient.get(entry.patient_id, ())) > 1]
    _refuse(
        path,
        "the column split puts a patient into both train and validation; give all radiographs of a patient one split",
        torn,
    )


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
    table = read_table(path, ("radiograph_id", "reader"), names=("reader",))
    rows = table.rows
    _refuse_blanks(table, ("radiograph_id", "reader"))
    columns = [column for column in GRADES if column in table.columns]
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
        "a reader has read a radiograph twice; keep one row per radiograph and reader",
        {radiograph for radiograph, _ in _repeated((row["radiograph_id"], row["reader"]) for row in rows)},
    )
    known = set(radiographs)
    _explain_unknown(path, cohort.table, {row["radiograph_id"] for row in rows}, known)
    readings: dict[str, dict[str, int]] = {}
    wrong: dict[str, list[str]] = {}
    for row in rows:
        name = row["radiograph_id"]
        if name not in known:
            continue
        try:
            grades = {column: _grade(table, column, row[column]) for column in columns if row[column]}
            if grades:
                readings.setdefault(name, {})[row["reader"]] = positive(cohort.rule, grades)
        except ReadingError as error:
            wrong.setdefault(str(error), []).append(name)
    for problem, names in wrong.items():
        _refuse(path, problem, names)
    return readings, sum(row["radiograph_id"] not in known for row in rows)


def _explain_unknown(path: Path, table: str, read: set[str], known: set[str]) -> None:
    """Say why readings may have met no radiograph: a program that took the ids for numbers has cut them.

    Raises:
        UserError: Not one of them is of a radiograph of the cohort.
    """
    unknown = read - known
    unread = {_as_a_number_would_be(name): name for name in sorted(known - read)}
    cut = {name: unread[short] for name in sorted(unknown) if (short := _as_a_number_would_be(name)) in unread}
    if not unknown or not (cut or unknown == read):
        return
    message = f"{len(unknown)} of {len(read)} radiograph_ids of {path} are not in {table}"
    if cut:
        short, whole = next(iter(cut.items()))
        message += f"; {len(cut)} differ as {short!r} here and {whole!r} there: did a table lose leading zeros?"
    else:
        message += f", such as {listed(unknown, 3)}; both tables must name a radiograph alike"
    if unknown == read:
        raise UserError(message)
    log.warning("%s", message)


def _as_a_number_would_be(name: str) -> str:
    """An id without leading zeros, without `.0` at its end and in small letters."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"\.0+$", "", name.lower()))


def _refuse(path: Path, problem: str, names: Iterable[str]) -> None:
    names = set(names)
    if names:
        raise UserError(f"{path}: {problem}: {listed(names)}")


def _refuse_blanks(table: CsvTable, columns: tuple[str, ...]) -> None:
    for column in columns:
        blank = [number for number, row in zip(table.numbers, table.rows, strict=True) if not row[column]]
        if blank:
            raise UserError(f"{table.path}: {column} is blank in row {listed(blank)}")


def _repeated(items: Iterable[T]) -> set[T]:
    return {item for item, times in Counter(items).items() if times > 1}


def _split(path: Path, row: dict[str, str], role: str) -> str | None:
    split = row.get("split", "")
    if role == "external_test" or not split:
        return None
    if split not in ("train", "validation"):
        raise UserError(f"{path}: split is {split!r} for {row['radiograph_id']}; allowed are train, validation or blank")
    return split


def _box(table: CsvTable, row: dict[str, str]) -> Box | None:
    texts = [row[column] for column in CROP]
    if not any(texts):
        return None
    numbers = [number for text in texts if (number := table.whole_number(text)) is not None]
    where = f"{table.path}: the crop of {row['radiograph_id']} is {', '.join(text or 'blank' for text in texts)}"
    if len(numbers) < len(CROP):
        raise UserError(f"{where}; allowed are four whole numbers of pixels, or four blanks")
    left, top, right, bottom = numbers
    if not (0 <= left < right and 0 <= top < bottom):
        raise UserError(f"{where}, which is empty or negative; right and bottom are exclusive")
    return left, top, right, bottom


def _grade(table: CsvTable, column: str, text: str) -> int:
    number = table.whole_number({"true": "1", "false": "0"}.get(text.lower(), text) if column == "definite" else text)
    if number is None:
        raise ReadingError(
            f"{column} is {text[:20]!r}, allowed are {'0 and 1' if column == 'definite' else '0 to 4'}, as a whole number"
        )
    return number


# A number as a table of ours has it; codes with leading zeros are none.
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
# What a person would take for a number: with a decimal comma, or with thousands apart.
LIKE_A_NUMBER = re.compile(rf"{NUMBER.pattern}|[-+]?(0|[1-9]\d*|[1-9]\d{{0,2}}([.,' ]\d{{3}})+)([.,]\d+)?")


def _as_numbers(table: CsvTable, column: str) -> list[Value]:
    """A column as numbers where every value is one; codes with leading zeros and mixed columns stay text; blanks are None."""
    texts = [table.plain(row[column]) for row in table.rows]
    given = [(number, text) for number, text in zip(table.numbers, texts, strict=True) if text]
    others = [(number, text) for number, text in given if not NUMBER.fullmatch(text) or not math.isfinite(float(text))]
    if others:
        codes = any(re.fullmatch(r"0\d+", text) for _, text in given)
        if not codes and 2 * sum(bool(LIKE_A_NUMBER.fullmatch(text)) for _, text in given) >= len(given):
            number, text = others[0]
            shown = f" ({text[:20]!r})" if LIKE_A_NUMBER.fullmatch(text) else ""
            log.warning(
                "%s: %s is taken as text, not as numbers, for %d of %d values are no plain numbers, the first in row %d%s",
                table.path, column, len(others), len(given), number, shown,
            )  # fmt: skip
        return [row[column] or None for row in table.rows]
    whole = all(re.fullmatch(r"-?\d+", text) for _, text in given)
    return [None if not text else int(text) if whole else float(text) for text in texts]
