"""What is found to be scored, in which order, and what is refused."""

import io
import json
import logging
import os
import re
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from sacro_ray.cluster.scoring_inputs import Item, as_text, input_digest, list_items
from sacro_ray.cluster.scoring_reading import prepare_item
from sacro_ray.cluster.scoring_stream import _tables
from sacro_ray.cluster.scoring_workers import item_of
from sacro_ray.dataset.shards import read_samples
from sacro_ray.errors import UserError


@pytest.fixture
def films(tmp_path, make_dicom) -> Path:
    """Images in folders of several depths, with known endings, without, and files that are no images."""
    folder = tmp_path / "films"
    (folder / "b" / "deep").mkdir(parents=True)
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("z.png", "b/deep/x.jpg", "b/a.tif"):
        Image.fromarray(picture).save(folder / name)
    (folder / "b" / "IM0001").write_bytes(make_dicom(picture.astype(np.uint16)))
    (folder / "broken.dcm").write_bytes(b"nothing of the kind")
    (folder / "empty.PNG").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / "b" / "table.csv").write_text("a,b\n")
    return folder


EXPECTED = ["b/IM0001", "b/a.tif", "b/deep/x.jpg", "broken.dcm", "empty.PNG", "z.png"]


def names(given: object, without: Path = Path("/nowhere")) -> list[str]:
    return [item.input for item in list_items(str(given), without)]


def test_every_image_of_a_folder_is_listed_once_in_the_order_of_paths(films, caplog):
    with caplog.at_level(logging.INFO):
        assert names(films) == EXPECTED
    assert "left out: 2 files without a known image ending" in caplog.text


def test_the_folder_of_the_results_is_not_searched(films):
    (films / "scores").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(films / "scores" / "overlay.png")
    assert names(films, without=(films / "scores").resolve()) == EXPECTED
    assert "scores/overlay.png" in names(films)


def write_scores(folder: Path) -> None:
    """What `score --explain --dicom-out` leaves in a folder."""
    (folder / "overlays").mkdir(parents=True)
    (folder / "dicom").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "overlays" / "00000000.png")
    for kind in ("sc", "sr"):
        (folder / "dicom" / f"00000000_{kind}.dcm").write_bytes(bytes(128) + b"DICM")
    (folder / "scoring.json").write_text(json.dumps({"run": "x", "checkpoint": "0" * 64, "files": "1" * 64}))


def test_results_of_an_earlier_scoring_are_not_radiographs_and_are_counted(films, caplog):
    write_scores(films / "b" / "scores")
    with caplog.at_level(logging.INFO):
        assert names(films) == EXPECTED
    assert "left out: 3 results of an earlier scoring" in caplog.text
    assert names(films / "**" / "*.png") == ["z.png"]
    for place in (
        films / "b" / "scores",
        films / "b" / "scores" / "dicom",
        films / "b" / "scores" / "overlays" / "00000000.png",
    ):
        with pytest.raises(UserError, match=r"no image in .*: [123] results of an earlier scoring"):
            names(place)


def test_radiographs_beside_results_and_in_folders_of_the_same_name_are_scored(films):
    write_scores(films)  # the input is the folder of the results, too
    (films / "dicom" / "IM1.dcm").write_bytes(b"x")
    assert names(films) == sorted([*EXPECTED, "dicom/IM1.dcm"])
    (films / "scoring.json").write_text('{"by": "another program"}')
    assert len(names(films)) == len(EXPECTED) + 4


def test_a_link_in_a_circle_is_not_followed(films):
    os.symlink(films, films / "b" / "again")
    assert names(films) == EXPECTED


def test_a_glob_names_files_from_its_first_wildcard(films):
    assert names(films / "**" / "*.png") == ["z.png"]
    assert names(films / "b" / "*") == ["IM0001", "a.tif"]


def test_a_glob_passes_over_a_link_to_itself_and_a_folder_that_may_not_be_entered(films, monkeypatch):
    os.symlink("loop.png", films / "b" / "loop.png")
    look = Path.stat

    def stat(path, **options):
        if path.name == "IM0001":
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert names(films / "b" / "*") == ["a.tif", "loop.png"]


def test_a_single_file(films):
    (item,) = list_items(str(films / "b" / "a.tif"), Path("/nowhere"))
    assert (item.input, Path(item.path)) == ("a.tif", films / "b" / "a.tif")


def test_a_cohort_table_gives_ids_and_crops_in_its_order(films):
    table = films / "cohort.csv"
    table.write_text(
        "radiograph_id,patient_id,path,crop_left,crop_top,crop_right,crop_bottom\nr2,p,z.png,1,2,7,8\nr1,p,b/a.tif,,,,\n"
    )
    first, second = list_items(str(table), Path("/nowhere"))
    assert (first.input, first.box, Path(first.path).name) == ("r2", (1, 2, 7, 8), "z.png")
    assert (second.input, second.box) == ("r1", None)


@pytest.mark.parametrize("below", ["", "ours", "theirs/test", "ours/train/000000.tar"])
def test_samples_of_shards_are_found_with_the_bytes_of_their_pictures(experiment, below):
    root = Path(experiment.prepare.shards)
    items = list_items(str(root / below), Path("/nowhere"))
    pixels = {s.record["radiograph_id"]: s for split in ("train", "validation") for s in read_samples(root, "ours", split)}
    pixels |= {s.record["radiograph_id"]: s for s in read_samples(root, "theirs", "test")}
    ours = {name for name, sample in pixels.items() if sample.record["cohort"] == "ours"}
    expected = {"": pixels.keys(), "ours": ours, "theirs/test": pixels.keys() - ours}
    if below in expected:
        assert {item.input for item in items} == expected[below]
    assert len({item.input for item in items}) == len(items) > 0
    for item in items:
        with open(item.path, "rb") as file:
            file.seek(item.offset)
            found = np.asarray(Image.open(io.BytesIO(file.read(item.size)), formats=["PNG"]))
        np.testing.assert_array_equal(found, pixels[item.input].pixels)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing", "nothing at"),
        (lambda folder: folder / "*.gif", "no image"),
        (lambda folder: folder / "notes.txt", "no image"),
    ],
)
def test_no_image_is_the_users_to_mend(films, make, says):
    with pytest.raises(UserError, match=says):
        list_items(str(make(films)), Path("/nowhere"))


def test_no_image_is_said_with_what_there_was_instead(films):
    for path in films.rglob("*"):
        if path.is_file() and path.suffix not in (".txt", ".csv"):
            path.unlink()
    write_scores(films / "scores")
    with pytest.raises(UserError) as refused:
        names(films)
    assert "3 results of an earlier scoring" in str(refused.value)
    assert "3 files without a known image ending" in str(refused.value)
    assert ".dcm" in str(refused.value)


def test_an_empty_folder_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="no image"):
        list_items(str(tmp_path), Path("/nowhere"))


def test_a_tar_that_is_no_shard_is_the_users_to_mend(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(UserError, match="no shard"):
        list_items(str(tmp_path / "x.tar"), Path("/nowhere"))


def test_the_digest_changes_with_a_file_that_changes(films):
    before = input_digest(list_items(str(films), Path("/nowhere")))
    assert input_digest(list_items(str(films), Path("/nowhere"))) == before
    (films / "broken.dcm").write_bytes(b"nothing of the kin2")
    os.utime(films / "broken.dcm", ns=(1, 1))
    assert input_digest(list_items(str(films), Path("/nowhere"))) != before


def test_items_hold_nothing_that_json_cannot(films):
    assert json.dumps([vars(item) for item in list_items(str(films), Path("/nowhere"))])


# ---- names and files as other systems leave them ----


def as_bytes(text: str) -> bytes:
    """The way back that docs/scoring.md gives."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())


@given(st.binary(min_size=1, max_size=12) | st.text(alphabet="\\\\x5ceé9", max_size=12).map(str.encode))
def test_any_name_is_text_and_can_be_had_back(name):
    text = as_text(os.fsdecode(name))
    assert as_bytes(text) == name


def test_names_that_are_utf8_are_left_alone():
    for name in ("Röntgen/Pelvis 1.dcm", "a\\b.png", "a\\x.png", "100%.tif"):
        assert as_text(name) == name


def test_a_name_that_is_not_utf8_is_a_row_that_finds_its_file(films):
    for name in (b"\xe9\xe8.png", b"b/\xc4\xe3.png", "é.png".encode()):
        with open(os.fsencode(films) + b"/" + name, "wb") as file:
            file.write((films / "z.png").read_bytes())
    items = list_items(str(films), Path("/nowhere"))
    assert {item.input for item in items} == {*EXPECTED, "\\xe9\\xe8.png", "b/\\xc4\\xe3.png", "é.png"}
    json.dumps([vars(item) for item in items])
    (table,) = _tables(items, [0], len(items), lambda _: [])
    back = [item_of(row) for row in table.select(list(Item.__dataclass_fields__)).to_pylist()]
    assert back == items
    assert all(os.path.isfile(item.path) for item in back)
    assert input_digest(back)


def test_a_subfolder_that_may_not_be_read_is_a_warning(films, monkeypatch, caplog):
    whole = os.scandir

    def scandir(folder="."):
        if Path(folder).name == "deep":
            raise PermissionError(13, "Permission denied")
        return whole(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names(films) == [name for name in EXPECTED if "deep" not in name]
    assert f"1 folders cannot be read, and nothing in them is scored: {films / 'b' / 'deep'}" in caplog.text


@pytest.fixture
def odd(films, monkeypatch) -> Path:
    """The folder with a pipe and a socket under an image's name and without, and a link to nothing; opening a pipe would never end."""
    for name in ("pipe", "pipe.dcm"):
        os.mkfifo(films / name)
    monkeypatch.chdir(films)
    for name in ("socket", "socket.png"):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    os.symlink(films / "gone", films / "gone.tif")
    return films


@pytest.mark.timeout(20)
def test_what_is_no_file_is_never_opened(odd, experiment):
    found = names(odd)
    assert found == sorted([*EXPECTED, "gone.tif", "pipe.dcm", "socket.png"])
    assert set(names(odd / "*")) == {name for name in found if "/" not in name}
    errors = {item.input: prepare_item(item, experiment, 32).error for item in list_items(str(odd), Path("/nowhere"))}
    assert errors["pipe.dcm"] == errors["socket.png"] == "unreadable_file: NotARegularFile"
    assert errors["gone.tif"] == "unreadable_file: FileNotFoundError"
    with pytest.raises(UserError, match="nothing at"):
        list_items(str(odd / "pipe.dcm"), Path("/nowhere"))


@pytest.mark.timeout(20)
def test_a_table_that_names_a_pipe_or_a_folder_is_the_users_to_mend(odd):
    table = odd / "cohort.csv"
    table.write_text("radiograph_id,patient_id,path\nr1,p,pipe.dcm\nr2,p,b\nr3,p,socket.png\nr4,p,z.png\n")
    with table.open("a") as file:
        file.write(f"r5,p,{'long' * 100}.png\n")
    with pytest.raises(UserError, match=r"no file.*: r1, r2, r3, r5$"):
        list_items(str(table), Path("/nowhere"))


BARE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]


@pytest.mark.parametrize("syntax", BARE)
def test_dicom_without_preamble_and_ending_is_a_row(tmp_path, make_dicom, syntax):
    data = make_dicom(np.arange(64, dtype=np.uint16).reshape(8, 8), syntax)
    (tmp_path / "without_preamble").write_bytes(data[132:])
    (tmp_path / "without_meta").write_bytes(data[144 + int.from_bytes(data[140:144], "little") :])
    assert names(tmp_path) == ["without_meta", "without_preamble"]


def test_other_files_that_begin_like_a_data_set_are_no_rows(tmp_path):
    (tmp_path / "backspaces").write_bytes(b"\x08\0\0\0" * 200)
    (tmp_path / "text").write_bytes(b"\x08\0some text that goes on" * 40)
    (tmp_path / "lengths").write_bytes(struct.pack("<200I", *range(8, 208)))
    (tmp_path / "zeros").write_bytes(bytes(2000))
    (tmp_path / "short").write_bytes(b"\x08\0\x05\0CS\x02\0ab")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "z.png").write_bytes(b"")
    assert names(tmp_path) == ["z.png"]
