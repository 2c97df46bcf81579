"""The folder of scores: parts, order, calls, whose it is."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from disks import CUTS, cut

from sacro_ray.cluster.scoring_results import PART, PARTS, ScoresFolder, counts_of
from sacro_ray.errors import UserError

CUTOFFS = {"sensitivity": 0.2, "specificity": 0.8, "balanced": 0.5}


def part(first: int, probabilities: list[float | None]) -> pa.Table:
    rows = [
        {
            "index": first + i,
            "input": f"f{first + i}",
            "status": "error" if value is None else "ok",
            "error": "truncated: half" if value is None else "",
            "probability": value,
            "quality": "small" if i else "",
            "familiarity": None if value is None else 50.0,
            "overlay": None,
            "secondary_capture": None,
            "report": None,
        }
        for i, value in enumerate(probabilities)
    ]
    random.Random(first).shuffle(rows)
    return pa.Table.from_pylist(rows, schema=PART)


def test_parts_in_any_order_become_one_table_in_the_order_of_the_input(tmp_path):
    folder = ScoresFolder(tmp_path / "scores", 3)
    folder.claim({"run": "x"})
    assert folder.missing(8) == [0, 1, 2]
    folder.write_part(2, part(6, [0.8, 0.1]))
    folder.write_part(0, part(0, [0.2, None, 0.5]))
    assert folder.missing(8) == [1]
    folder.write_part(1, part(3, [0.49999999, 0.999999999, None]))
    counts = folder.finish(8, CUTOFFS)
    with folder.scores.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["input"] for row in rows] == [f"f{i}" for i in range(8)]
    assert [row["definite_balanced"] for row in rows] == ["0", "", "1", "0", "1", "", "1", "0"]
    assert [row["definite_sensitivity"] for row in rows] == ["1", "", "1", "1", "1", "", "1", "0"]
    assert [row["definite_specificity"] for row in rows] == ["0", "", "0", "0", "1", "", "1", "0"]
    assert (rows[0]["probability"], rows[1]["probability"], rows[1]["error"]) == ("0.20000000", "", "truncated: half")
    assert counts == {
        "ok": 6,
        "error": 2,
        "error:truncated": 2,
        "definite_balanced": 3,
        "definite_sensitivity": 5,
        "definite_specificity": 2,
    }
    assert counts_of(folder.scores, 8) == counts
    assert {path.name for path in folder.path.iterdir()} == {"scores.csv", "scores.parquet", "scoring.json"}


def test_both_tables_say_the_same_with_types_in_the_one(tmp_path):
    folder = ScoresFolder(tmp_path / "scores", 3)
    folder.claim({})
    folder.write_part(0, part(0, [0.25, None]))
    folder.finish(2, CUTOFFS)
    table = pq.read_table(folder.path / "scores.parquet")
    first = ["input", "status", "error", "probability", "definite_sensitivity", "definite_specificity", "definite_balanced"]
    assert table.column_names[:7] == first
    assert table.column_names == folder.scores.read_text().splitlines()[0].split(",")
    assert table["probability"].to_pylist() == [0.25, None]
    assert table["definite_sensitivity"].to_pylist() == [1, None]


def test_overlays_are_files_named_in_the_table(tmp_path):
    folder = ScoresFolder(tmp_path / "scores", 2)
    folder.claim({})
    rows = part(0, [0.25, None])
    png = pa.array([b"picture" if status == "ok" else None for status in rows["status"].to_pylist()], pa.binary())
    folder.write_part(0, rows.set_column(rows.schema.get_field_index("overlay"), "overlay", png))
    folder.finish(2, CUTOFFS, files=["overlay"])
    ok, failed = folder.rows()
    assert (folder.path / ok["overlay"]).read_bytes() == b"picture"
    assert failed["overlay"] is None


def test_dicom_files_are_there_before_their_row_and_replaced_by_another_try(tmp_path):
    folder = ScoresFolder(tmp_path / "scores", 1)
    folder.claim({})
    for word in (b"first", b"second"):  # as after a kill between the files and the rows
        rows = part(0, [0.25])
        for name in ("secondary_capture", "report"):
            rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array([word + name.encode()], pa.binary()))
        folder.write_part(0, rows)
    folder.finish(1, CUTOFFS, files=["secondary_capture", "report"])
    (row,) = folder.rows()
    assert (row["secondary_capture"], row["report"]) == ("dicom/00000000_sc.dcm", "dicom/00000000_sr.dcm")
    assert (folder.path / row["report"]).read_bytes() == b"secondreport"
    assert sorted(path.name for path in (folder.path / "dicom").iterdir()) == ["00000000_sc.dcm", "00000000_sr.dcm"]
    assert "overlay" not in row


def with_files(rows: pa.Table, *names: str, word: bytes = b"file", no_report: bool = False) -> pa.Table:
    """The rows of a part with bytes in these columns, where they are scored."""
    for name in names:
        data = [word if status == "ok" else None for status in rows["status"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(data, pa.binary()))
    if no_report:
        remarks = [f"{quality} no_report".strip() for quality in rows["quality"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("quality"), "quality", pa.array(remarks))
    return rows


def finished(path, size=2) -> ScoresFolder:
    folder = ScoresFolder(path, size)
    folder.claim({"run": "x"})
    folder.write_part(0, part(0, [0.2, None]))
    folder.write_part(1, part(2, [0.8]))
    folder.finish(3, CUTOFFS)
    return folder


BASE = ("input", "status", "error", "probability", "definite_sensitivity", "definite_specificity", "definite_balanced")


def without_files(folder: ScoresFolder) -> list[dict]:
    return [{name: row[name] for name in BASE} for row in folder.rows()]


def test_files_are_added_to_finished_scores_and_no_score_changes(tmp_path):
    folder = finished(tmp_path / "scores")
    before = without_files(folder)
    assert folder.complete()
    assert not folder.complete(["overlay"])
    folder.claim({"run": "x"})
    folder.reopen(3)
    assert folder.missing(3) == []
    assert folder.missing(3, ["overlay"]) == [0, 1]
    # Another machine rounds otherwise, and a file that could not be read then can be read now: what was scored stays.
    folder.write_part(0, with_files(part(0, [0.3, 0.9]), "overlay"), ["overlay"])
    assert folder.scores.exists(), "the tables stay until they are replaced"
    folder.write_part(1, with_files(part(2, [0.7]), "overlay"), ["overlay"])
    counts = folder.finish(3, CUTOFFS, ["overlay"])
    assert without_files(folder) == before
    assert counts == counts_of(folder.scores, 3)
    assert [row["overlay"] for row in folder.rows()] == ["overlays/00000000.png", None, "overlays/00000002.png"]
    assert folder.complete(["overlay"])
    assert not (folder.path / PARTS).exists()


def test_files_of_another_kind_come_beside_those_that_are_there(tmp_path):
    folder, objects = finished(tmp_path / "scores"), ["secondary_capture", "report"]
    for files in (["overlay"], objects):
        folder.claim({"run": "x"})
        folder.reopen(3)
        assert folder.missing(3, files) == [0, 1]
        for number, rows in enumerate((part(0, [0.2, None]), part(2, [0.8]))):
            folder.write_part(number, with_files(rows, *files, no_report=number == 1), files)
        folder.finish(3, CUTOFFS, files)
    last = list(folder.rows())[2]
    assert folder.files() == ["overlay", *objects]
    assert (last["overlay"], last["report"], last["quality"]) == ("overlays/00000002.png", "dicom/00000002_sr.dcm", "no_report")


def test_an_addition_that_was_stopped_goes_on_where_it_was(tmp_path):
    folder = finished(tmp_path / "scores")
    folder.claim({"run": "x"})
    folder.reopen(3)
    folder.write_part(0, with_files(part(0, [0.2, None]), "overlay"), ["overlay"])
    again = ScoresFolder(folder.path, 2)
    again.claim({"run": "x"})
    again.reopen(3)
    assert again.missing(3, ["overlay"]) == [1]
    assert again.complete(), "the scores themselves are"


def test_files_cannot_be_added_to_a_damaged_table_and_a_damaged_part_is_taken_from_it(tmp_path):
    folder = finished(tmp_path / "scores")
    folder.claim({"run": "x"})
    folder.part(0).write_bytes(b"PAR1")
    folder.reopen(3)
    assert [row["probability"] for row in folder.known(0)] == [0.2, None]
    (folder.path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"scores\.parquet"):
        folder.reopen(3)


def test_parts_without_files_that_are_asked_for_now_are_made_again_and_keep_their_scores(tmp_path):
    folder = ScoresFolder(tmp_path / "scores", 2)
    folder.claim({"run": "x"})
    folder.write_part(0, part(0, [0.2, None]))
    assert folder.missing(3, ["overlay"]) == [0, 1]
    assert [row["probability"] for row in folder.known(0)] == [0.2, None]
    assert folder.known(1) == []
    folder.write_part(0, with_files(part(0, [0.25, None]), "overlay"), ["overlay"])
    assert folder.missing(3, ["overlay"]) == [1]
    assert [row["probability"] for row in folder.known(0)] == [0.2, None]


def test_folders_of_earlier_versions_are_taken_whatever_was_asked_for_then(tmp_path):
    folder = finished(tmp_path / "scores")
    marker = folder.path / "scoring.json"
    marker.write_text(json.dumps({"run": "x", "explain": False, "dicom_out": True, "version": "0.1"}))
    folder.claim({"run": "x"})
    assert json.loads(marker.read_text()) == {"run": "x"}


def test_the_scores_of_another_run_are_kept(tmp_path):
    folder = ScoresFolder(tmp_path, 3)
    folder.claim({"run": "x", "input": "a"})
    folder.claim({"run": "x", "input": "a"})
    with pytest.raises(UserError, match=r"input \(a there, b now\)"):
        folder.claim({"run": "x", "input": "b"})


def test_a_table_of_unknown_origin_is_kept(tmp_path):
    (tmp_path / "scores.csv").write_text("mine")
    with pytest.raises(UserError, match="kept"):
        ScoresFolder(tmp_path, 3).claim({})
    assert (tmp_path / "scores.csv").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        ScoresFolder(tmp_path / "out", 3).claim({})


@pytest.mark.parametrize("left", CUTS)
def test_parts_of_scores_cut_short_are_scored_again(tmp_path, left, caplog):
    folder = ScoresFolder(tmp_path / "scores", 2)
    folder.claim({})
    for number in range(2):
        folder.write_part(number, part(2 * number, [0.2, 0.4]))
    cut(folder.part(1), left)
    assert folder.missing(4) == [1]
    assert "are scored again" in caplog.text
    folder.write_part(1, part(2, [0.2, 0.4]))
    assert folder.finish(4, {"balanced": 0.3})["ok"] == 4
    assert pq.read_metadata(tmp_path / "scores" / "scores.parquet").num_rows == 4


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_a_note_of_scores_cut_short_is_named(tmp_path, left):
    folder = ScoresFolder(tmp_path / "scores", 2)
    folder.claim({"run": "x"})
    cut(folder.path / "scoring.json", left)
    with pytest.raises(UserError, match=r"scoring\.json is empty, cut short.*Give another folder with --out, or remove"):
        folder.claim({"run": "x"})
