"""Every reference film is either decoded or left out for the right reason."""

import functools
import hashlib
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sacro_ray.config import Prepare
from sacro_ray.dataset.shards import png_bytes
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph

pytestmark = pytest.mark.shared
EXCLUDED = {
    "big_endian.dcm": "wrong_modality",  # ultrasound
    "big_endian_nometa.dcm": "wrong_modality",  # a radiotherapy plan
    "chest_cr_jpeg_baseline_nih.dcm": "secondary_capture",  # SOP class; its modality says CR
    "cr_charset_japanese.dcm": "no_pixel_data",
    "deflated.dcm": "wrong_modality",  # OT
    "elbow_dx_voi_lut_no_pixeldata.dcm": "no_pixel_data",
    "modality_lut_signed.dcm": "wrong_modality",  # OT
    "pelvis_cr_header_no_pixeldata.dcm": "no_pixel_data",
    "sc_rgb_rle_ai_overlay.dcm": "secondary_capture",
    "truncated_pixeldata.dcm": "wrong_modality",  # MR, and truncated
    "voi_lut_sequence.dcm": "wrong_modality",  # OT
}
EXCLUDED_WHATEVER_THE_MODALITY = {
    "big_endian.dcm": "true_colour",
    "big_endian_nometa.dcm": "no_pixel_data",
    "cr_charset_japanese.dcm": "no_pixel_data",
    "elbow_dx_voi_lut_no_pixeldata.dcm": "no_pixel_data",
    "pelvis_cr_header_no_pixeldata.dcm": "no_pixel_data",
    "sc_rgb_rle_ai_overlay.dcm": "true_colour",
    "truncated_pixeldata.dcm": "truncated",
}
EVERY = ["CR", "DX", "RF", "RG", "SC", "OT", "US", "MR", "RTPLAN"]


@functools.cache
def read(path):
    """A film with the default settings, or why it is left out; each is read once for all tests of this module."""
    try:
        return read_radiograph(path.read_bytes(), Prepare())
    except ExcludedRadiograph as error:
        return error.reason


def films(folder):
    return sorted(folder.glob("*.dcm"))


def test_every_file_has_its_outcome(shared_dir):
    found = {path.name: read(path) for path in films(shared_dir / "data/dicom")}
    assert len(found) == 24
    assert {name: reason for name, reason in found.items() if isinstance(reason, str)} == EXCLUDED
    assert not any(isinstance(read(path), str) for path in films(shared_dir / "data/pelvis_ddh"))


def test_every_file_has_its_outcome_whatever_the_modality(shared_dir):
    kept = EXCLUDED.keys() - EXCLUDED_WHATEVER_THE_MODALITY.keys()
    for name in EXCLUDED:
        data = (shared_dir / "data/dicom" / name).read_bytes()
        if name in kept:
            read_radiograph(data, Prepare(store_size=64, modalities=EVERY))
        else:
            with pytest.raises(ExcludedRadiograph) as caught:
                read_radiograph(data, Prepare(store_size=64, modalities=EVERY))
            assert caught.value.reason == EXCLUDED_WHATEVER_THE_MODALITY[name], name


def test_the_table_in_the_docs_says_what_happens(shared_dir):
    docs = (Path(__file__).resolve().parents[2] / "docs/preparation.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| `(\w+\.dcm)` \| (.*?) \|$", docs, re.MULTILINE))
    found = {}
    for path in [*films(shared_dir / "data/dicom"), *films(shared_dir / "data/pelvis_ddh")]:
        film = read(path)
        kept = not isinstance(film, str)
        found[path.name] = (
            f"in a shard: {film.pixels.shape[1]} x {film.pixels.shape[0]}, {film.greyscale}" if kept else f"`{film}`"
        )
    assert found == written


def test_lossless_encodings_of_one_film_give_one_png(shared_dir):
    names = ("uncompressed", "rle", "jpeg_lossless_sv1", "jpeg2000_lossless")
    assert len({png_bytes(read(shared_dir / f"data/dicom/hip_cr_{name}.dcm").pixels) for name in names}) == 1


def test_lossy_encodings_are_close(shared_dir):
    def film(name):
        return read(shared_dir / f"data/dicom/{name}.dcm").pixels.astype(int)

    for name in ("jpeg2000_lossy", "jpegls_near", "jpeg_extended12"):
        assert np.abs(film(f"hip_cr_{name}") - film("hip_cr_uncompressed")).mean() < 1
    # A malformed scan header that pydicom's own decoders refuse
    assert np.abs(film("tibia_cr_mono1_jpeg_extended12") - film("tibia_cr_mono1_jpeg2000_lossless")).mean() < 1


def test_stored_pixels_are_those_of_another_decoder(shared_dir):
    """The MD5 of the stored values that the reference list gives (pydicom with pylibjpeg)."""
    from sacro_ray.imaging.dicom import open_dicom
    from sacro_ray.imaging.dicom_pixels import stored_pixels

    for name, digest in (("hip_cr_rle", "06900ee4323a"), ("tibia_cr_mono1_jpeg2000_lossless", "e7c857ef7e6a")):
        dataset = open_dicom((shared_dir / f"data/dicom/{name}.dcm").read_bytes())
        assert hashlib.md5(stored_pixels(dataset).values.tobytes()).hexdigest().startswith(digest)


def test_voi_lut_sequence(shared_dir):
    """The curve maps i to 257 i of 65535: the stored 8-bit values come out as they are."""
    path = shared_dir / "data/dicom/voi_lut_sequence.dcm"
    found = read_radiograph(path.read_bytes(), Prepare(modalities=EVERY))
    assert found.greyscale == "voi_lut"
    np.testing.assert_array_equal(found.pixels, np.frombuffer(pydicom.dcmread(path).PixelData, np.uint8).reshape(512, 512))


def test_modality_lut_and_signed_values(shared_dir):
    """Stored -2048 to 2047, 4096 entries from -2048: looked up by hand, then the outer half percent cut off."""
    path = shared_dir / "data/dicom/modality_lut_signed.dcm"
    header = pydicom.dcmread(path)
    twelve_bits = np.frombuffer(header.PixelData, "<u2").reshape(512, 512).astype(int) & 0xFFF
    stored = np.where(twelve_bits >= 2048, twelve_bits - 4096, twelve_bits)
    values = np.array(header.ModalityLUTSequence[0].LUTData)[stored + 2048]
    low, high = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    expected = np.clip(np.floor((values - float(low)) * 255 / (high - low) + 0.5), 0, 255)
    found = read_radiograph(path.read_bytes(), Prepare(modalities=EVERY))
    assert found.notes == ("no_window",)
    np.testing.assert_array_equal(found.pixels, expected)
