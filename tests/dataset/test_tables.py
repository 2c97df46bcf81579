import pytest

from sacro_ray.config import Cohort
from sacro_ray.dataset.tables import read_cohort, read_readings
from sacro_ray.errors import UserError


@pytest.fixture
def table(tmp_path):
    """Write a table; image files that it may name exist."""
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"x")

    def write(text, name="cohort.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


def cohort(**changes):
    return Cohort(
        **{
            "table": "",
            "readings": "",
            "role": "development",
            "rule": "grade_at_least:2",
            "consensus": "adjudicated",
            "readers": ["x", "y"],
            **changes,
        }
    )


HEAD = "radiograph_id,patient_id,path"


def test_a_full_table(table):
    rows = read_cohort(
        table(
            "\ufeff" + HEAD + ",split,crop_left,crop_top,crop_right,crop_bottom,age_years,crp_mg_l,sex,site,code\n"
            "a,1,a.png,train,1,2,30,40,50,3.5,F,01,1\nb,2,b.png,,,,,,,,M,02,x\n"
        ),
        "development",
    )
    assert [row.split for row in rows] == ["train", None]
    assert [row.box for row in rows] == [(1, 2, 30, 40), None]
    assert rows[0].baseline == {"age_years": 50, "crp_mg_l": 3.5, "sex": "F", "site": "01", "code": "1"}
    assert rows[1].baseline == {"age_years": None, "crp_mg_l": None, "sex": "M", "site": "02", "code": "x"}
    assert rows[0].path.read_bytes() == b"x"


def test_an_external_test_cohort_has_no_split_of_its_own(table):
    rows = read_cohort(table(HEAD + ",split\na,1,a.png,train\nb,2,b.png,whatever\n"), "external_test")
    assert [row.split for row in rows] == [None, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("radiograph_id,path\na,a.png\n", "patient_id is missing"),
        ("radiograph_id;patient_id;path\na;1;a.png\n", "semicolons"),
        (HEAD + "\n", "no row"),
        ("", "missing"),
        (HEAD + "\na,1,a.png\na,2,b.png\n", "more than once.*: a$"),
        (HEAD + "\na,1,nowhere.png\n", "no file.*: a$"),
        (HEAD + "\na,,a.png\n", "patient_id is blank in row 2"),
        (HEAD + "\na,1,a.png,more\n", "row 2"),
        (HEAD + "\na,1\n", "row 2"),
        (HEAD + ",split\na,1,a.png,test\n", "train, validation or blank"),
        (HEAD + ",split\na,1,a.png,train\nb,1,b.png,validation\n", "a patient into both.*: a, b$"),
        (HEAD + ",crop_left\na,1,a.png,1\n", "needs all of"),
        (HEAD + ",crop_left,crop_top,crop_right,crop_bottom\na,1,a.png,5,0,5,9\n", "crop of a"),
        (HEAD + ",crop_left,crop_top,crop_right,crop_bottom\na,1,a.png,1,0,5,\n", "crop of a"),
        (HEAD + ",path\na,1,a.png,b.png\n", "column occurs twice"),
    ],
)
def test_wrong_cohort_tables(table, text, says):
    with pytest.raises(UserError, match=says) as caught:
        read_cohort(table(text), "development")
    assert "\n" not in str(caught.value)


def test_no_table(tmp_path):
    with pytest.raises(UserError, match="no table"):
        read_cohort(tmp_path / "absent.csv", "development")
    (tmp_path / "latin.csv").write_bytes((HEAD + "\nä,1,a.png\n").encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_cohort(tmp_path / "latin.csv", "development")


def test_readings_by_rule(table):
    path = table(
        "radiograph_id,reader,grade_right,grade_left\na,x,2,2\na,y,0,3\nb,x,1,2\nb,y,,\nelsewhere,x,0,0\n", "readings.csv"
    )
    found, elsewhere = read_readings(path, cohort(rule="modified_new_york"), ["a", "b", "c"])
    assert found == {"a": {"x": 1, "y": 1}, "b": {"x": 0}}
    assert elsewhere == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("radiograph_id,grade\na,1\n", "reader is missing"),
        ("radiograph_id,reader\na,x\n", "no column of grades"),
        ("radiograph_id,reader,grade\na,z,1\n", "reader z is not among"),
        ("radiograph_id,reader,grade\na,x,1\na,x,1\n", "twice.*: a$"),
        ("radiograph_id,reader,grade\na,x,5\nb,x,7\n", "0 to 4: a$"),
        ("radiograph_id,reader,grade\na,x,two\n", "whole number: a$"),
        ("radiograph_id,reader,grade\na,x,2.5\n", "whole number: a$"),
        ("radiograph_id,reader,grade_right,grade_left\na,x,2,\n", "one side.*: a$"),
        ("radiograph_id,reader,definite\na,x,1\n", "needs grade.*: a$"),
        ("radiograph_id,reader,grade\n,x,1\n", "blank in row 2"),
    ],
)
def test_wrong_readings(table, text, says):
    with pytest.raises(UserError, match=says):
        read_readings(table(text, "readings.csv"), cohort(), ["a", "b"])
