"""A CSV table as pandas, R and Excel write it, as rows of text; what cannot be one is refused with its row."""

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sacro_ray.errors import UserError, listed

log = logging.getLogger("sacro_ray")

BLANKS = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"}
"""What programs write for a missing value, in any case."""
NONE = "none"
"""Of these the one that is also an answer, as to which drugs a patient takes."""
NUMBER = re.compile(r"[-+]?[\d.,]+([eE][-+]?\d+)?")
SEPARATORS = (",", ";", "\t")
NOT_TEXT = {
    b"PK\x03\x04": "an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\xff\xfe": "in UTF-16",
    b"\xfe\xff": "in UTF-16",
}


@dataclass(frozen=True)
class CsvTable:
    """A table's columns and rows.

    Attributes:
        path: Its file.
        columns: The named columns, in order; a column without a name, as the index of pandas, is left out.
        rows: A value per column, missing values as "".
        numbers: Of each row its number in a spreadsheet; the header has 1.
        decimal_comma: Its numbers may have a decimal comma: columns are not separated by commas.
    """

    path: Path
    columns: list[str]
    rows: list[dict[str, str]]
    numbers: list[int]
    decimal_comma: bool

    def plain(self, text: str) -> str:
        """A number's text with a decimal point, where this table may write commas; other text as it is."""
        return text.replace(",", ".") if self.decimal_comma and re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", text) else text

    def whole_number(self, text: str) -> int | None:
        """A whole number, also where a program has added `.0` to it; None where it is none."""
        found = re.fullmatch(r"([+-]?\d+)(\.0*)?", self.plain(text))
        return int(found[1]) if found else None


def read_table(
    path: Path, required: tuple[str, ...], names: tuple[str, ...] = (), known: Collection[str] | None = None
) -> CsvTable:
    """Read a table whose columns are separated by commas, semicolons or tabs.

    Args:
        path: The file.
        required: Columns that it must have.
        names: Columns in which NA, None and the like are names, not missing values.
        known: Columns whose values have a meaning here; in others None is an answer like the rest where these are words. All, unless given.

    Raises:
        UserError: The file is missing, is not a CSV table in UTF-8, lacks a column or has one twice, has no row, or has a row with
            more or fewer values than columns.
    """
    text = _text(path)
    separator = _separator(text, required)
    records = [(number, cells) for number, cells in _records(path, text, separator) if any(cells)]
    columns = records[0][1] if records else []
    missing = [column for column in required if column not in columns]
    if missing:
        raise UserError(
            f"{path}: the column {', '.join(missing)} is missing; there are {', '.join(filter(None, columns)) or 'none'}"
        )
    twice = [column for column, times in Counter(columns).items() if column and times > 1]
    if twice:
        raise UserError(f"{path}: a column occurs twice: {listed(twice)}")
    if len(records) == 1:
        raise UserError(f"{path} has a header but no row")
    _check_lengths(path, columns, records[1:])
    unnamed = {place for place, column in enumerate(columns) if re.fullmatch(r"(Unnamed: \d+)?", column)}
    if any(cells[place] for _, cells in records[1:] for place in unnamed if place < len(cells)):
        log.info("%s: a column without a name, such as an index, is left out", path)
    kept = [(place, column) for place, column in enumerate(columns) if place not in unnamed]
    blanks = {
        column: set() if column in names
        else BLANKS - {NONE} if known is not None and column not in known and _of_words(cells[place] for _, cells in records[1:])
        else BLANKS
        for place, column in kept
    }  # fmt: skip
    rows = [
        {column: "" if cells[place].lower() in blanks[column] else cells[place] for place, column in kept}
        for _, cells in records[1:]
    ]
    return CsvTable(path, [column for _, column in kept], rows, [number for number, _ in records[1:]], separator != ",")


def _of_words(values: Iterable[str]) -> bool:
    return any(value.lower() not in BLANKS and not NUMBER.fullmatch(value) for value in values)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"no table at {path}; give its path relative to the working directory") from None
    what = next(
        (what for start, what in NOT_TEXT.items() if data.startswith(start)), "in UTF-16" if b"\0" in data[:4096] else ""
    )
    if what:
        raise UserError(f"{path} is {what}, not a CSV table in UTF-8; save it as CSV (UTF-8)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not a CSV table in UTF-8 (row {row}); save it again as CSV (UTF-8)") from None


def _separator(text: str, required: tuple[str, ...]) -> str:
    """The separator with which the header has the required columns, or else the most columns."""
    header = next((line for line in text.splitlines() if line.strip()), "")

    def found(separator: str) -> tuple[bool, int]:
        try:
            columns = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
        except csv.Error:  # a field without an end, which reading the table will say
            return False, 0
        return set(required) <= set(columns), len(columns)

    return max(SEPARATORS, key=found)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Number and stripped cells of each record, the header first; a record may take several lines of the file."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0
    try:
        for cells in reader:
            number += 1
            yield number, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV table: row {number + 1}: {error}; save it again as CSV (UTF-8)") from None


def _check_lengths(path: Path, columns: list[str], records: list[tuple[int, list[str]]]) -> None:
    """Refuse rows of another length than the header, but for blank cells beyond it."""
    wrong = [(number, len(cells)) for number, cells in records if len(cells) < len(columns) or any(cells[len(columns) :])]
    if not wrong:
        return
    number, length = wrong[0]
    if length < len(columns):
        hint = "the row, or the end of the file, may be missing"
    elif len(wrong) == len(records) and {values for _, values in wrong} == {len(columns) + 1}:
        hint = "every row has one more: write the table without row names (R: row.names = FALSE), or give them a heading"
    else:
        hint = "put values that hold the separator, such as a decimal comma, into quotes"
    more = f", and {len(wrong) - 1} more rows are alike" if len(wrong) > 1 else ""
    raise UserError(f"{path}: row {number} has {length} values, and the header {len(columns)} columns{more}; {hint}")
