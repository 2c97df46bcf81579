"""The folder of scores: whose it is, what of it is complete, and the tables put together in the order of the input."""

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sacro_ray.cluster.scoring_inputs import FILES, MARKER
from sacro_ray.disk import damaged, read_kept, write_atomically, write_whole
from sacro_ray.errors import UserError
from sacro_ray.locations import below
from sacro_ray.settings import differences

log = logging.getLogger("sacro_ray")
PARTS = ".parts"
NO_REPORT = "no_report"
"""The remark on a DICOM file of which no objects for the archive could be made."""

PART = pa.schema(
    [
        ("index", pa.int64()),
        ("input", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("probability", pa.float64()),
        ("quality", pa.string()),
        ("familiarity", pa.float64()),
        ("overlay", pa.binary()),
        ("secondary_capture", pa.binary()),
        ("report", pa.binary()),
    ]
)
"""What a worker answers for each radiograph; `index` is its place in the input, the columns of `FILES` hold bytes of files or null."""
KEPT = pa.schema([field.with_type(pa.string()) if field.name in FILES else field for field in PART])
"""A part on the disk: of the files it holds the paths. Which of `FILES` it was made with stands in its metadata, under `MADE`."""
MADE = b"sacro_ray.files"
OUTPUTS = ("explain", "dicom_out", "version")
"""What scoring.json named in earlier versions. Files beside the scores change none of them and may be asked for at any time."""


@dataclass(frozen=True)
class ScoresFolder:
    """Paths and files of one scoring.

    Results come in parts of `part_size` radiographs each; a part is a file, whole or absent, and a radiograph is complete when its part is.
    """

    path: Path
    part_size: int
    location: str = ""
    """Where the user knows it to be, if that is elsewhere."""

    @property
    def scores(self) -> Path:
        """Written last: where it stands, the scoring is complete."""
        return self.path / "scores.csv"

    @property
    def _shown(self) -> str:
        return self.location or str(self.path)

    @property
    def _again(self) -> str:
        return f"Give another folder with --out, or remove {self._shown} and score again"

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Make the folder this scoring's.

        Raises:
            UserError: It holds the scores of another run or another input, or it is a file.
        """
        marker = self.path / MARKER
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self._shown} is a file; give a folder for --out")
        if marker.exists():
            before = read_kept(marker, json.loads, self._again)
            differing = differences({key: value for key, value in before.items() if key not in OUTPUTS}, identity)
            if differing:
                raise UserError(
                    f"{self._shown} holds the scores of another run or input and is kept; it differs in {', '.join(differing[:5])}. "
                    "Give another folder with --out, or remove that one"
                )
        elif self.scores.exists():
            raise UserError(
                f"{below(self._shown, self.scores.name)} is not of this program and is kept; give another folder with --out"
            )
        (self.path / PARTS).mkdir(parents=True, exist_ok=True)
        write_atomically(marker, (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode())

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.path / PARTS / f"{number:08d}.parquet"

    def missing(self, total: int, files: Iterable[str] = ()) -> list[int]:
        """Numbers of the parts that are still to be scored, or have not been made with all of these `FILES`, in order.

        Parts that a crash of the machine has cut short are removed, and are among them.
        """
        wanted = set(files)
        return [number for number in range(-(-total // self.part_size)) if not self._made_with(number, wanted, total)]

    def _made_with(self, number: int, wanted: Set[str], total: int) -> bool:
        part = self.part(number)
        if not part.exists():
            return False
        try:
            with pq.ParquetFile(part) as file:
                if file.metadata.num_rows == self.length(number, total):
                    return wanted <= _made(file.schema_arrow)
                problem = f"{file.metadata.num_rows} rows"
        except (OSError, pa.ArrowException) as error:
            problem = str(error).partition("\n")[0]
        log.warning("%s is not whole (%s); its radiographs are scored again", part, problem)
        part.unlink()
        return False

    def complete(self, files: Iterable[str] = ()) -> bool:
        """Whether the tables are there, with columns for all of these `FILES`."""
        return self.scores.exists() and set(files) <= set(self.files())

    def files(self) -> list[str]:
        """Those of `FILES` that the finished tables have; none where they are not finished."""
        if not self.scores.exists():
            return []
        with self.scores.open(newline="", encoding="utf-8") as file:
            return [name for name in csv.DictReader(file).fieldnames or () if name in FILES]

    def reopen(self, total: int) -> None:
        """Divide the finished tables into parts again, so that files can be added; the tables stay until `finish` replaces them."""
        rows, made = self.rows(), self.files()
        for number in range(-(-total // self.part_size)):
            first = number * self.part_size
            some = [{**row, "index": first + place} for place, row in enumerate(islice(rows, self.part_size))]
            if not self._made_with(number, set(), total):
                self._write(number, pa.Table.from_pylist(some, schema=KEPT), made)

    def known(self, number: int) -> list[dict[str, Any]]:
        """The rows of a part (columns of `KEPT`) in the order of the input; none where it is not scored."""
        if not self.part(number).exists():
            return []
        rows: list[dict[str, Any]] = pq.read_table(self.part(number)).sort_by("index").to_pylist()
        return rows

    def length(self, number: int, total: int) -> int:
        """How many radiographs a part has."""
        return min(self.part_size, total - number * self.part_size)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of scores.parquet, in order; a UserError where it is not there or damaged."""
        try:
            with pq.ParquetFile(self.path / "scores.parquet") as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException):
            raise damaged(self.path / "scores.parquet", self._again) from None

    def write_part(self, number: int, rows: pa.Table, files: Iterable[str] = ()) -> None:
        """Keep the results of a part: the files first, then the rows, which make the part complete.

        Args:
            number: Of the part.
            rows: Columns of `PART`. Where the part is scored already, only the files are taken from them.
            files: Columns of `FILES` that were asked for.
        """
        kept, indices = rows, rows["index"].to_pylist()
        for column, pattern in FILES.items():
            names: list[str | None] = []
            for index, data in zip(indices, rows[column].to_pylist(), strict=True):
                names.append(None if data is None else pattern.format(index))
                if data is not None:
                    write_atomically(self.path / pattern.format(index), data)
            kept = kept.set_column(kept.schema.get_field_index(column), column, pa.array(names, pa.string()))
        made = set(files)
        if before := self.known(number):
            made |= _made(pq.read_schema(self.part(number)))
            kept = pa.Table.from_pylist(_completed(before, kept.to_pylist()), schema=KEPT)
        self._write(number, kept, made)

    def _write(self, number: int, rows: pa.Table, made: Iterable[str]) -> None:
        marked = rows.replace_schema_metadata({MADE: " ".join(sorted(made))})
        write_whole(self.part(number), lambda temporary: pq.write_table(marked, temporary))

    def finish(self, total: int, cutoffs: Mapping[str, float], files: Iterable[str] = ()) -> Counter[str]:
        """Put scores.parquet and scores.csv together, a part in memory at a time; the parts are then removed.

        Args:
            total: Radiographs of the input.
            cutoffs: Cut-off by name; a radiograph is called positive when probability >= cutoff.
            files: Columns of `FILES` that were asked for; those that finished tables have already stay.

        Returns:
            How many radiographs have which status, which error (`error:REASON`), and which call at which cut-off.
        """
        wanted = {*files, *self.files()}
        calls = [pa.field(f"definite_{name}", pa.int8()) for name in cutoffs]
        schema = pa.schema(
            [
                *(PART.field(name) for name in ("input", "status", "error", "probability")),
                *calls,
                PART.field("quality"),
                PART.field("familiarity"),
                *(pa.field(name, pa.string()) for name in FILES if name in wanted),
            ]
        )
        counts: Counter[str] = Counter()
        numbers = range(-(-total // self.part_size))

        def as_parquet(temporary: Path) -> None:
            with pq.ParquetWriter(temporary, schema) as writer:
                for rows in self._rows(numbers, cutoffs):
                    counts.update(_counted(rows, cutoffs))
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))

        def as_csv(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, schema.names, lineterminator="\n", extrasaction="ignore")
                writer.writeheader()
                for rows in self._rows(numbers, cutoffs):
                    writer.writerows(_as_text(row) for row in rows)

        write_whole(self.path / "scores.parquet", as_parquet)
        write_whole(self.scores, as_csv)
        for number in numbers:
            self.part(number).unlink()
        (self.path / PARTS).rmdir()
        return counts

    def _rows(self, numbers: Iterable[int], cutoffs: Mapping[str, float]) -> Iterator[list[dict[str, Any]]]:
        for number in numbers:
            rows, first = self.known(number), number * self.part_size
            assert [row.pop("index") for row in rows] == list(range(first, first + len(rows)))
            for row in rows:
                known = row["probability"] is not None
                row |= {
                    f"definite_{name}": int(row["probability"] >= cutoff) if known else None for name, cutoff in cutoffs.items()
                }
            yield rows


def counts_of(scores: Path, total: int) -> Counter[str]:
    """The counts of a finished table with so many rows, as `ScoresFolder.finish` returns them.

    Raises:
        UserError: The table is cut short.
    """
    counts: Counter[str] = Counter()
    with scores.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = [name.removeprefix("definite_") for name in reader.fieldnames or () if name.startswith("definite_")]
        try:
            for row in reader:
                counts.update(_counted([row], names))
        except (KeyError, TypeError, ValueError):
            total = -1
    if counts["ok"] + counts["error"] != total:
        raise damaged(scores, f"Remove the folder {scores.parent} and score again")
    return counts


def _counted(rows: Iterable[Mapping[str, Any]], cutoffs: Iterable[str]) -> Iterator[str]:
    for row in rows:
        yield str(row["status"])
        if row["status"] == "error":
            yield f"error:{row['error'].partition(':')[0]}"
        if row["status"] == "ok":
            yield from (f"definite_{name}" for name in cutoffs if int(row[f"definite_{name}"]))


def _made(schema: pa.Schema) -> set[str]:
    """The `FILES` that a part was made with; those of earlier versions do not say, and count as made with none."""
    return set((schema.metadata or {}).get(MADE, b"").decode().split())


def _completed(before: Iterable[dict[str, Any]], after: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a part with the files that another pass has made; what was scored stays as it was."""
    found = {row["index"]: row for row in after}
    rows = []
    for row in before:
        new = found[row["index"]] if row["status"] == "ok" else {}
        remarks = [*row["quality"].split(), *(flag for flag in new.get("quality", "").split() if flag == NO_REPORT)]
        files = {name: row[name] or new.get(name) for name in FILES}
        rows.append({**row, **files, "quality": " ".join(dict.fromkeys(remarks))})
    return rows


def _as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its numbers as they are written: blank where there is no value."""
    formats = {"probability": "{:.8f}", "familiarity": "{:.1f}"}
    return {**row, **{name: "" if row[name] is None else form.format(row[name]) for name, form in formats.items()}}
