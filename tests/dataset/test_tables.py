import re

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
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def cohort(**changes):
    return Cohort(
        **{
            "table": "cohort.csv",
            "readings": "readings.csv",
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
        ("radiograph_id;path\na;a.png\n", "patient_id is missing; there are radiograph_id, path$"),
        (HEAD + "\n", "no row"),
        ("", "missing"),
        (HEAD + "\na,1,a.png\na,2,b.png\n", "more than once.*: a$"),
        (HEAD + "\na,1,nowhere.png\n", "no file.*: a$"),
        (HEAD + "\na,,a.png\n", "patient_id is blank in row 2"),
        (HEAD + "\na,1,a.png,more\n", "row 2 has 4 values, and the header 3 columns; every row has one more: .*row names"),
        (HEAD + "\na,1,a.png\n\nb,2,b.png,3,5\n", "row 4 has 5 values, and the header 3 columns; .*quotes"),
        (HEAD + "\na,1\nb,2\n", "row 2 has 2 values, and the header 3 columns, and 1 more rows are alike"),
        (HEAD + '\na,1,"a.png"x\n', "row 2: "),
        (HEAD + "\na,NaN,a.png\n", "patient_id is blank in row 2"),
        (HEAD + ",split\na,1,a.png,test\n", "train, validation or blank"),
        (HEAD + ",split\na,1,a.png,train\nb,1,b.png,validation\n", "a patient into both.*: a, b$"),
        (HEAD + ",crop_left\na,1,a.png,1\n", "needs all of"),
        (HEAD + ",crop_left,crop_top,crop_right,crop_bottom\na,1,a.png,5,0,5,9\n", "crop of a"),
        (HEAD + ",crop_left,crop_top,crop_right,crop_bottom\na,1,a.png,1,0,5,\n", "crop of a is 1, 0, 5, blank; allowed"),
        (HEAD + ",crop_left,crop_top,crop_right,crop_bottom\na,1,a.png,1,0,5,9.5\n", r"crop of a is 1, 0, 5, 9\.5; allowed"),
        (HEAD + ",path\na,1,a.png,b.png\n", "column occurs twice"),
    ],
)
def test_wrong_cohort_tables(table, text, says):
    with pytest.raises(UserError, match=says) as caught:
        read_cohort(table(text), "development")
    assert "\n" not in str(caught.value)


def baselines(path):
    return [row.baseline for row in read_cohort(path, "development")]


def test_a_table_that_pandas_wrote(table):
    """An index without a name, whole numbers with `.0` beside missing ones, missing values as pandas and others write them."""
    crop = "crop_left,crop_top,crop_right,crop_bottom"
    text = (
        f",{HEAD},{crop},age_years,sex,Unnamed: 9\n0,a,1,a.png,1.0,2.0,30.0,31.0,50.0,F,0\n1,b,2,b.png,,,,,NaN,nan,1\n"
        "2,c,3,c.png,NA,N/A,null,None,,,2\n"
    )
    rows = read_cohort(table(text), "development")
    assert [row.box for row in rows] == [(1, 2, 30, 31), None, None]
    assert [row.baseline for row in rows] == [
        {"age_years": 50.0, "sex": "F"},
        {"age_years": None, "sex": None},
        {"age_years": None, "sex": None},
    ]


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "NA", "N/A", "#N/A", "<NA>", "null", "NULL", "None"])
def test_one_missing_value_makes_no_text_of_a_column_of_numbers(table, missing, caplog):
    assert baselines(table(f"{HEAD},crp\na,1,a.png,3.5\nb,2,b.png,{missing}\nc,3,c.png,4\n")) == [
        {"crp": 3.5}, {"crp": None}, {"crp": 4.0},
    ]  # fmt: skip
    assert not caplog.text


def test_none_is_an_answer_among_words(table):
    text = f"{HEAD},split,drug,smokes,crp\na,1,a.png,None,None,none,None\nb,2,b.png,train,TNF,,2\nc,3,c.png,,n/a,None,3\n"
    assert [row.split for row in read_cohort(table(text), "development")] == [None, "train", None]
    assert baselines(table(text)) == [
        {"drug": "None", "smokes": None, "crp": None},
        {"drug": "TNF", "smokes": None, "crp": 2},
        {"drug": None, "smokes": None, "crp": 3},
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["3.5", "4", "n.d."],
            "crp is taken as text, not as numbers, for 1 of 3 values are no plain numbers, the first in row 4$",
        ),
        (["'3,5'", "'4,1'", "'5'"], r"for 2 of 3 values are no plain numbers, the first in row 2 \('3,5'\)$"),
        (["'1.234,5'", "'2.000,0'", "'5'"], r"the first in row 2 \('1.234,5'\)$"),
        (["01", "02", "13"], None),
        (["2020-01-02", "1.2.2020", "3"], None),
        (["A1", "B2", "3"], None),
    ],
)
def test_a_column_that_looks_like_numbers_and_is_taken_as_text_is_said(table, values, said, caplog):
    lines = [f"{name},{name},{name}.png,{value}" for name, value in zip("abc", values, strict=True)]
    found = baselines(table((f"{HEAD},crp\n" + "\n".join(lines)).replace("'", '"')))
    assert [row["crp"] for row in found] == [value.strip("'") for value in values]
    if said:
        assert re.search(said, caplog.text, re.MULTILINE)
    else:
        assert not caplog.text


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff"radiograph_id","patient_id","path","crp"\r\n"a","1","a.png","3.5"\r\n"b","2","b.png",""\r\n',
        f"\ufeff{HEAD},crp\ra,1,a.png,3.5\rb,2,b.png,\r",
        f"{HEAD},crp,,\na,1,a.png,3.5,,\nb,2,b.png,,,\n,,,,,\n,,,,,\n",
        f"\n{HEAD} , crp\n\na,1, a.png ,3.5\nb,2,b.png,\n\n",
        "radiograph_id;patient_id;path;crp\r\na;1;a.png;3,5\r\nb;2;b.png;\r\n",
        "radiograph_id;patient_id;path;crp\na;1;a.png;3.5\nb;2;b.png;\n",
        "radiograph_id\tpatient_id\tpath\tcrp\na\t1\ta.png\t3,5\nb\t2\tb.png\t\n",
    ],
    ids=["quoted, BOM, CRLF", "CR", "empty columns and rows", "blank lines", "semicolons", "decimal points", "tabs"],
)
def test_tables_of_other_programs(table, text, caplog):
    assert baselines(table(text)) == [{"crp": 3.5}, {"crp": None}]
    assert not caplog.text


def test_an_index_that_is_left_out_is_said(table, caplog):
    caplog.set_level("INFO")
    assert baselines(table(f",{HEAD}\n0,a,1,a.png\n")) == [{}]
    assert "a column without a name, such as an index, is left out" in caplog.text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((HEAD + "\na,1,a.png\n").encode("utf-16"), "is in UTF-16, not a CSV table in UTF-8; save it as CSV"),
        ((HEAD + "\na,1,a.png\n").encode("utf-16-le"), "is in UTF-16"),
        (b"PK\x03\x04 and so on", "is an Excel workbook"),
        ((HEAD + "\nä,1,a.png\n").encode("cp1252"), r"not a CSV table in UTF-8 \(row 2\)"),
        (b'"' + b"x" * 200_000, "missing|row 1"),
    ],
)
def test_files_that_are_no_table(table, data, says):
    with pytest.raises(UserError, match=says):
        read_cohort(table(data), "development")


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
        ("radiograph_id,reader,grade\na,x,2.5\n", r"grade is '2\.5', allowed are 0 to 4, as a whole number: a$"),
        ("radiograph_id,reader,grade\na,x,II\n", "grade is 'II', allowed are 0 to 4, as a whole number: a$"),
        ("radiograph_id,reader,grade\na,x,2-3\n", "grade is '2-3', allowed are 0 to 4"),
        ('radiograph_id,reader,grade\na,x,"2,0"\n', "grade is '2,0', allowed are 0 to 4"),
        ("radiograph_id;reader;grade\na;x;2,5\n", "grade is '2,5', allowed are 0 to 4"),
        ("radiograph_id,reader,definite\na,x,maybe\n", "definite is 'maybe', allowed are 0 and 1"),
        ("radiograph_id,reader,grade,grade_right,grade_left\na,x,1,3,0\n", "grade is 1, and the worse side has 3; .*: a$"),
        (
            "radiograph_id,reader,grade\nz,x,1\ny,x,1\n",
            "2 of 2 radiograph_ids .*are not in cohort.csv, such as y, z; both tables",
        ),
        ("radiograph_id,reader,grade_right,grade_left\na,x,2,\n", "one side.*: a$"),
        ("radiograph_id,reader,definite\na,x,1\n", "needs grade.*: a$"),
        ("radiograph_id,reader,grade\n,x,1\n", "blank in row 2"),
    ],
)
def test_wrong_readings(table, text, says):
    with pytest.raises(UserError, match=says):
        read_readings(table(text, "readings.csv"), cohort(), ["a", "b"])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("radiograph_id,reader,grade_right,grade_left\na,x,2.0,3.0\na,y,,\nb,x,0.0,1.0\nb,y,NaN,NA\n", "modified_new_york"),
        ("radiograph_id;reader;grade_right;grade_left\na;x;2,0;3,0\nb;x;0;1\n", "modified_new_york"),
        (",radiograph_id,reader,definite\n0,a,x,True\n1,b,x,False\n", "definite"),
        ("radiograph_id,reader,definite\na,x,1.0\nb,x,0.0\n", "definite"),
        ("radiograph_id,reader,grade,grade_right,grade_left\na,x,3,2,3\nb,x,1,0,1\n", "grade_at_least:2"),
    ],
)
def test_readings_that_pandas_or_excel_wrote(table, text, rule):
    assert read_readings(table(text, "readings.csv"), cohort(rule=rule), ["a", "b"]) == ({"a": {"x": 1}, "b": {"x": 0}}, 0)


def test_a_reader_may_be_called_na(table):
    path = table("radiograph_id,reader,grade\na,NA,2\n", "readings.csv")
    assert read_readings(path, cohort(readers=["NA"]), ["a"]) == ({"a": {"NA": 1}}, 0)


@pytest.mark.parametrize(("short", "whole"), [("7", "0007"), ("7.0", "0007"), ("IM-7", "IM-007"), ("p7", "P7")])
def test_ids_that_lost_leading_zeros_are_recognised(table, short, whole, caplog):
    path = table(f"radiograph_id,reader,grade\n{short},x,2\n12,x,2\n", "readings.csv")
    with pytest.raises(
        UserError, match=r"2 of 2 radiograph_ids of .* are not in cohort.csv; 1 differ as .* did a table lose leading zeros"
    ):
        read_readings(path, cohort(), [whole, "b"])
    assert read_readings(path, cohort(), [whole, "12"]) == ({"12": {"x": 1}}, 1)
    assert (
        f"1 of 2 radiograph_ids of {path} are not in cohort.csv; 1 differ as '{short}' here and '{whole}' there" in caplog.text
    )
