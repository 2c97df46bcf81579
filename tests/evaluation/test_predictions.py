from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sacro_ray.errors import UserError
from sacro_ray.evaluation.predictions import (
    PREDICTION_COLUMNS,
    labelled,
    patient_numbers,
    read_predictions,
    reader_names,
    refuse_overlap,
)

GOOD = "radiograph_id,probability,label\na,0.9,1\nb,0.2,0\nc,0.5,\n"


def read(tmp_path: Path, text: str) -> pd.DataFrame:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    return read_predictions(path)


def test_three_columns_are_enough(tmp_path: Path) -> None:
    table = read(tmp_path, GOOD)
    assert tuple(table.columns) == PREDICTION_COLUMNS
    assert table["subset"].tolist() == ["concordant", "concordant", "discordant"]
    assert table["label"].tolist()[:2] == [1, 0]
    assert np.isnan(table["label"][2])
    assert patient_numbers(table).tolist() == [0, 1, 2]
    assert len(labelled(table, "x")) == 2


def test_labels_as_pandas_writes_them_and_readers_in_their_order(tmp_path: Path) -> None:
    head = "label,reader:b,reader:a,reader:none,probability,radiograph_id,cohort,patient_id\n"
    table = read(tmp_path, head + "1.0,1,0,,0.5,007,x,p\n0.0,,1,,1e-3,8,x,p\n,0,1,,1,9,y,p\n")
    assert table["radiograph_id"].tolist() == ["007", "8", "9"]
    assert reader_names(table) == ["b", "a"]
    assert patient_numbers(table).tolist() == [0, 0, 1]  # a patient is known by cohort and patient_id


def test_the_same_id_in_two_cohorts_is_two_radiographs(tmp_path: Path) -> None:
    table = read(tmp_path, "radiograph_id,probability,label,cohort\na,0.9,1,x\na,0.2,0,y\n")
    assert len(table) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("radiograph_id,probability,label\n", "no rows"),
        ("radiograph_id,probability\na,0.5\n", "no column label"),
        ("radiograph_id,probability,label\na,1.2,1\nb,0.1,0\n", "probability must be a number from 0 to 1; it is 1.2 for a"),
        ("radiograph_id,probability,label\na,high,1\nb,0.1,0\n", "it is high for a"),
        ("radiograph_id,probability,label\na,,1\nb,0.1,0\n", "it is blank for a"),
        ("radiograph_id,probability,label\na,nan,1\nb,0.1,0\n", "it is nan for a"),
        ("radiograph_id,probability,label\na,inf,1\nb,0.1,0\n", "it is inf for a"),
        ("radiograph_id,probability,label\na,0.5,2\nb,0.1,0\n", "label must be 0, 1 or blank; it is 2 for a"),
        ("radiograph_id,probability,label\na,0.5,yes\nb,0.1,0\n", "it is yes for a"),
        ("radiograph_id,probability,label\na,0.5,1\na,0.1,0\n", "given more than once: a"),
        ("radiograph_id,probability,label\n,0.5,1\nb,0.1,0\n", "radiograph_id is blank"),
        ("radiograph_id,probability,label,reader:x\na,0.5,1,3\n", "reader:x must be 0, 1 or blank; it is 3"),
        ("radiograph_id,probability,label,reader:model\na,0.5,1,1\n", "not after the model"),
        ("radiograph_id,probability,label,subset\na,0.5,1,other\n", "allowed are concordant and discordant"),
        ('radiograph_id,probability,label\n"a,0.5,1\n', "is not a CSV"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        read(tmp_path, text)


def test_missing_files_folders_and_other_encodings(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no predictions at"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no predictions at"):
        read_predictions(tmp_path)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00radiograph_id")
    with pytest.raises(UserError, match="is not a CSV in UTF-8"):
        read_predictions(tmp_path / "b.csv")


@pytest.mark.parametrize("labels", ["1,1", "0,0", ","])
def test_one_class_only(tmp_path: Path, labels: str) -> None:
    first, second = labels.split(",")
    table = read(tmp_path, f"radiograph_id,probability,label\na,0.5,{first}\nb,0.1,{second}\n")
    with pytest.raises(UserError, match="both classes"):
        labelled(table, "validation")


def test_no_message_names_a_patient(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, "radiograph_id,patient_id,probability,label\na,Secret Name,7,1\n")
    assert "Secret" not in str(caught.value)


def test_overlap(tmp_path: Path) -> None:
    table = read(tmp_path, GOOD)
    with pytest.raises(UserError, match=r"3 radiograph\(s\) stand in validation and in test: a, b, c"):
        refuse_overlap(table, table, ["radiograph_id"])
    refuse_overlap(table, table.assign(cohort="other"), ["cohort", "radiograph_id"])
