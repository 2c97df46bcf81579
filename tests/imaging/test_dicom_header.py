"""A file's parts and facts: file meta twice, pixels that are not square, spacings, raw detector values; and where remarks go."""

import csv
import json
import tarfile

import numpy as np
import pytest
from cohorts import cohort_settings, dicom_bytes, prepare_here, write_cohort
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from sacro_ray.cluster.scoring_quality import quality_flags
from sacro_ray.config import Experiment, Prepare
from sacro_ray.dataset.completion import log_flow
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph
from sacro_ray.imaging.remarks import REMARKS, in_words

ANY = Prepare(store_size=8192)
FILM = (np.add.outer(np.arange(60), np.arange(80)) * 28).astype(np.uint16)  # 0 to 3864
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def group_2(data):
    """Where a file's group 2 lies."""
    return 132, 144 + int.from_bytes(data[140:144], "little")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless])
@pytest.mark.parametrize("older", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_an_older_file_meta_in_the_data_set_does_not_count(make_dicom, syntax, older):
    """Group 2 ends where its length says (PS3.10, 7.1)."""
    data = make_dicom(FILM, syntax, **WINDOW)
    other = make_dicom(FILM, older, **WINDOW)
    (start, end), (first, last) = group_2(data), group_2(other)
    expected = read_radiograph(data, ANY, digest=True)
    for piece in (other[first:last], other[first + 12 : last]):  # with its own length, and without
        found = read_radiograph(data[:end] + piece + data[end:], ANY, digest=True)
        assert found.stored_sha256 == expected.stored_sha256
    assert (
        read_radiograph(data[start:end] + other[first:last] + data[end:], ANY, digest=True).stored_sha256
        == expected.stored_sha256
    )
    wrong = data[:140] + (12).to_bytes(4, "little") + data[144:]  # a length that ends within group 2
    assert read_radiograph(wrong, ANY, digest=True).stored_sha256 == expected.stored_sha256


# ---- pixels that are not square ----


def disc(aspect):
    """A disc of 40 mm radius in pixels of 1 mm width and `aspect` mm height."""
    rows = round(120 / aspect)
    y, x = (np.arange(rows)[:, None] + 0.5) * aspect - 60, np.arange(120)[None, :] + 0.5 - 60
    return np.where(np.hypot(y, x) < 40, 3000, 500).astype(np.uint16)


def sides(pixels):
    """Height and width of what is bright."""
    bright = pixels > 128
    return bright.any(axis=1).sum(), bright.any(axis=0).sum()


@pytest.mark.parametrize("aspect", [0.5, 0.8, 1.25, 2.0])
@pytest.mark.parametrize(
    "tags",
    [
        lambda a: {"PixelSpacing": [a, 1.0]},
        lambda a: {"ImagerPixelSpacing": [a / 10, 0.1]},
        lambda a: {"NominalScannedPixelSpacing": [a / 10, 0.1]},
        lambda a: {"PixelAspectRatio": [round(a * 100), 100]},
    ],
)
def test_a_circle_stays_a_circle(make_dicom, aspect, tags):
    data = make_dicom(disc(aspect), **WINDOW, **tags(aspect))
    for store_size in (8192, 100):
        found = read_radiograph(data, Prepare(store_size=store_size))
        height, width = found.pixels.shape
        assert abs(height - width) <= 1
        assert max(height, width) <= store_size
        tall, wide = sides(found.pixels)
        assert abs(tall - wide) <= 2
        assert found.notes == ("resampled_square",)
        assert found.source_size == disc(aspect).shape
        assert found.box == (0, 0, 120, disc(aspect).shape[0])
        if found.spacing_mm:
            assert found.spacing_mm[0] == pytest.approx(found.spacing_mm[1], rel=0.02)


def test_the_tables_crop_is_in_pixels_of_the_files_image(make_dicom):
    film = disc(0.5)  # 240 rows, 120 columns
    data = make_dicom(film, **WINDOW, PixelSpacing=[0.5, 1.0])
    found = read_radiograph(data, ANY, (20, 40, 100, 200))
    assert found.box == (20, 40, 100, 200)
    assert found.source_size == (240, 120)
    assert found.pixels.shape == (160, 160)  # 80 mm x 80 mm in squares of the finer side
    assert found.spacing_mm == (0.5, 0.5)
    assert sides(found.pixels) == (160, 160)
    with pytest.raises(ExcludedRadiograph, match="240"):
        read_radiograph(data, ANY, (0, 0, 240, 240))


def test_nearly_square_and_impossible_pixels(make_dicom):
    plain = read_radiograph(make_dicom(FILM, **WINDOW), ANY)
    for spacing, kept, notes in (
        ([0.143, 0.1435], (0.143, 0.1435), ()),
        ([0.0, 0.0], None, ()),
        ([0.1, 10], None, ("spoilt_pixel_shape",)),
    ):
        found = read_radiograph(make_dicom(FILM, **WINDOW, PixelSpacing=spacing), ANY)
        np.testing.assert_array_equal(found.pixels, plain.pixels)
        assert (found.spacing_mm, found.notes) == (kept, notes)
    assert read_radiograph(make_dicom(FILM, **WINDOW, PixelAspectRatio=[1, 1]), ANY).notes == ()
    assert read_radiograph(make_dicom(FILM, **WINDOW, PixelAspectRatio="01"), ANY).notes == ()


def test_which_spacing_counts(make_dicom):
    """Of the patient, else at the detector, else of the digitised film."""
    three = {"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.2], "NominalScannedPixelSpacing": [0.3, 0.3]}
    for left_out, expected in ((0, 0.1), (1, 0.2), (2, 0.3)):
        tags = dict(list(three.items())[left_out:])
        assert read_radiograph(make_dicom(FILM, **tags), ANY).spacing_mm == (expected, expected)
    assert read_radiograph(make_dicom(FILM, **(three | {"PixelSpacing": [0, 0]})), ANY).spacing_mm == (0.2, 0.2)


# ---- remarks and where they go ----


def test_raw_detector_values_are_a_remark(make_dicom):
    found = read_radiograph(make_dicom(FILM, **WINDOW, PresentationIntentType="FOR PROCESSING"), ANY)
    assert found.notes == ("for_processing",)
    assert quality_flags(found, 32) == ("for_processing",)
    assert read_radiograph(make_dicom(FILM, **WINDOW, PresentationIntentType="FOR PRESENTATION"), ANY).notes == ()


def test_remarks_reach_scores_in_words_and_the_ordinary_ones_do_not(make_dicom):
    odd = {"RescaleSlope": 0, "RescaleIntercept": 1, "PixelPaddingValue": [1, 2], "WindowCenter": 60000, "WindowWidth": 10}
    odd |= {"PixelSpacing": [0.1, 0.2], "PresentationLUTShape": "INVERSE"}
    found = read_radiograph(make_dicom(FILM, **odd), ANY)
    assert set(found.notes) == {"spoilt_rescale", "spoilt_padding", "spoilt_window", "resampled_square", "polarity_unclear"}
    assert set(quality_flags(found, 32)) == set(found.notes)
    assert all(note in REMARKS for note in found.notes)
    assert len(set(in_words(found.notes))) == len(found.notes)
    assert quality_flags(read_radiograph(make_dicom(FILM), ANY), 32) == ()  # no window: nothing is wrong


def test_remarks_reach_shards_and_index(tmp_path, caplog):
    folder = write_cohort(tmp_path / "cohort", 8, 0, ["R1"], splits=True)
    first = sorted((folder / "images").iterdir())[0]
    pixels = np.asarray(Image.open(first)).astype(np.uint16) * 16
    first.write_bytes(dicom_bytes(pixels, **WINDOW, PresentationIntentType="FOR PROCESSING", PixelSpacing=[0.1, 0.2]))
    table = {"name": "remarks", "prepare": {"shards": str(tmp_path / "shards"), "duplicates": "warn"}}
    root = prepare_here(Experiment.model_validate(table | {"cohorts": {"one": cohort_settings(folder, "development", ["R1"])}}))
    found = {}
    for shard in root.rglob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    record = json.load(tar.extractfile(member))
                    found[record["radiograph_id"]] = record
    record = found[first.stem]
    assert record["notes"] == ["for_processing", "resampled_square"]
    assert (record["height"], record["width"]) == (pixels.shape[0], 2 * pixels.shape[1])
    assert (record["source_height"], record["source_width"]) == pixels.shape
    with (root / "one" / "index.csv").open(newline="") as file:
        notes = {row["radiograph_id"]: row["notes"] for row in csv.DictReader(file)}
    assert notes.pop(first.stem) == "for_processing resampled_square"
    assert set(notes.values()) == {""}
    manifest = read_manifest(root, "one")
    assert manifest.remarks == {"for_processing": 1, "resampled_square": 1}
    with caplog.at_level("INFO", logger="sacro_ray"):
        log_flow(manifest)
    assert "for_processing" in caplog.text
    assert REMARKS["resampled_square"] in caplog.text
