"""Known answers: stored values worked out by hand or read with another library, against what comes out."""

import io

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from sacro_ray.config import Prepare
from sacro_ray.imaging.decode import ExcludedRadiograph, looks_like_image, read_radiograph
from sacro_ray.imaging.exclusion import REASONS

ANY = Prepare(store_size=8192, modalities=["CR", "DX", "RF", "RG", "SC", "OT"])
RAMP = np.arange(16, dtype=np.uint16).reshape(4, 4) * 256 + 100  # 100 to 3940


def encoded(array, ending, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=ending, **options)
    return buffer.getvalue()


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def reason_of(data, settings=ANY, box=None):
    with pytest.raises(ExcludedRadiograph) as caught:
        read_radiograph(data, settings, box)
    assert caught.value.reason in REASONS
    return caught.value.reason


# ---- windows and curves ----


def test_window_by_hand(make_dicom):
    """PS3.3 C.11.2.1.2.1 with c = 2048, w = 4096: y = ((x - 2047.5) / 4095 + 0.5) * 4095 = x, of 4095."""
    found = read_radiograph(make_dicom(RAMP, WindowCenter=2048, WindowWidth=4096), ANY)
    assert found.greyscale == "window"
    np.testing.assert_array_equal(found.pixels, np.floor(RAMP * 255.0 / 4095 + 0.5).astype(np.uint8))


def test_narrow_window_clips(make_dicom):
    """c = 1000.5, w = 1001: black up to 500, white above 1500, linear in between."""
    stored = np.array([[0, 500, 600, 1000], [1100, 1499, 1501, 4095]], dtype=np.uint16)
    found = read_radiograph(make_dicom(stored, WindowCenter=1000.5, WindowWidth=1001), ANY)
    np.testing.assert_array_equal(found.pixels, [[0, 0, 26, 128], [153, 255, 255, 255]])


def test_linear_exact_and_sigmoid_by_hand(make_dicom):
    """C.11.2.1.3.1 and .2 with c = 2000, w = 2000: exact = (x - c) / w + 0.5; sigmoid = 1 / (1 + exp(-4 (x - c) / w))."""
    stored = np.array([[1000, 1500, 2000], [2500, 3000, 1750]], dtype=np.uint16)
    exact = read_radiograph(make_dicom(stored, WindowCenter=2000, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT"), ANY)
    np.testing.assert_array_equal(exact.pixels, [[0, 64, 128], [191, 255, 96]])
    sigmoid = read_radiograph(make_dicom(stored, WindowCenter=2000, WindowWidth=2000, VOILUTFunction="SIGMOID"), ANY)
    np.testing.assert_array_equal(sigmoid.pixels, [[30, 69, 128], [186, 225, 96]])


def test_rescale_comes_before_the_window(make_dicom):
    """Slope 2, intercept -1000: stored 500 to 2500 are 0 to 4000; exact window c = 2000, w = 4000."""
    stored = np.array([[500, 1000, 1500], [2000, 2500, 1250]], dtype=np.uint16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 2000, "WindowWidth": 4000}
    found = read_radiograph(make_dicom(stored, **tags, VOILUTFunction="LINEAR_EXACT"), ANY)
    np.testing.assert_array_equal(found.pixels, [[0, 64, 128], [191, 255, 96]])


def test_negative_slope_does_not_turn_the_window_round(make_dicom):
    """Slope -1, intercept 4095: the highest stored value is the lowest modality value, and must come out black."""
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2048, "WindowWidth": 4096}
    found = read_radiograph(make_dicom(RAMP, **tags), ANY)
    np.testing.assert_array_equal(found.pixels, np.floor((4095 - RAMP.astype(int)) * 255 / 4095 + 0.5).astype(np.uint8))


def test_several_windows_first_by_default_another_by_choice(make_dicom):
    data = make_dicom(RAMP, WindowCenter=[2048, 1024], WindowWidth=[4096, 2048])
    wide, narrow = (read_radiograph(data, ANY.model_copy(update={"window": i})).pixels for i in (0, 1))
    np.testing.assert_array_equal(wide, np.floor(RAMP * 255.0 / 4095 + 0.5))
    # y = ((x - 1023.5) / 2047 + 0.5) * 4095, clipped above 2047
    np.testing.assert_array_equal(narrow, np.floor(np.clip(RAMP / 2047, 0, 1) * 255 + 0.5))
    beyond = read_radiograph(data, ANY.model_copy(update={"window": 7})).pixels
    np.testing.assert_array_equal(beyond, wide)


def test_signed_values(make_dicom):
    """12 bits signed, exact window c = 0, w = 4000 over -2048 to 2047."""
    stored = np.array([[-2048, -2000, -1000], [0, 1000, 2047]], dtype=np.int16)
    found = read_radiograph(make_dicom(stored, WindowCenter=0, WindowWidth=4000, VOILUTFunction="LINEAR_EXACT"), ANY)
    np.testing.assert_array_equal(found.pixels, [[0, 0, 64], [128, 191, 255]])


def test_voi_lut_and_its_choice(make_dicom):
    """Two curves of 8 entries from stored value 2: below and above take the ends (C.11.2.1.1)."""
    items = []
    for entries in ([0, 10, 20, 30, 40, 50, 60, 255], [255, 60, 50, 40, 30, 20, 10, 0]):
        item = Dataset()
        item.LUTDescriptor = [8, 2, 8]
        item.add_new("LUTData", "US", entries)
        items.append(item)
    stored = np.array([[0, 2, 3, 4], [8, 9, 10, 100]], dtype=np.uint16)
    data = make_dicom(stored, VOILUTSequence=items)
    first = read_radiograph(data, ANY)
    assert first.greyscale == "voi_lut"
    np.testing.assert_array_equal(first.pixels, [[0, 0, 10, 20], [60, 255, 255, 255]])
    second = read_radiograph(data, ANY.model_copy(update={"window": 1}))
    np.testing.assert_array_equal(second.pixels, [[255, 255, 60, 50], [10, 0, 0, 0]])


def test_monochrome1_is_the_same_film_turned_round(make_dicom):
    one = read_radiograph(make_dicom(RAMP, WindowCenter=2048, WindowWidth=4096), ANY)
    other = read_radiograph(
        make_dicom(4095 - RAMP, PhotometricInterpretation="MONOCHROME1", WindowCenter=2048, WindowWidth=4096), ANY
    )
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_padding_is_black_and_moves_no_percentile(make_dicom):
    rng = np.random.default_rng(0)
    film = rng.integers(1000, 2000, (40, 40)).astype(np.uint16)
    padded = np.pad(film, 40, constant_values=4095)
    found = read_radiograph(make_dicom(padded, PixelPaddingValue=4095), ANY).pixels
    plain = read_radiograph(make_dicom(film), ANY).pixels
    np.testing.assert_array_equal(found[40:80, 40:80], plain)
    found[40:80, 40:80] = 0
    assert not found.any()
    reach = make_dicom(padded, PixelPaddingValue=4090, PixelPaddingRangeLimit=4095, PhotometricInterpretation="MONOCHROME1")
    assert not read_radiograph(reach, ANY).pixels[0].any()
    assert reason_of(make_dicom(padded, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)) == "blank"


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({}, "no_window"),
        ({"WindowCenter": 60000, "WindowWidth": 10}, "spoilt_window"),  # blank
        ({"WindowCenter": 1200, "WindowWidth": 100}, "spoilt_window"),  # mostly black or white
        ({"WindowCenter": 1500, "WindowWidth": 0}, "spoilt_window"),
        ({"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "UNHEARD"}, "spoilt_window"),
    ],
)
def test_percentiles_where_the_header_has_no_usable_window(make_dicom, tags, note):
    film = np.random.default_rng(0).integers(1000, 2000, (64, 64)).astype(np.uint16)
    found = read_radiograph(make_dicom(film, **tags), ANY)
    assert (found.greyscale, found.notes) == ("percentile", (note,))
    low, high = np.percentile(film, [0.5, 99.5], method="inverted_cdf")
    expected = np.clip(np.floor((film - float(low)) * 255 / (high - low) + 0.5), 0, 255)
    np.testing.assert_array_equal(found.pixels, expected)


def test_flat_background_does_not_spoil_a_window(make_dicom):
    film = np.random.default_rng(0).integers(1000, 2000, (64, 64)).astype(np.uint16)
    film[:, :40] = 0  # a shutter over most of the picture
    found = read_radiograph(make_dicom(film, WindowCenter=1500, WindowWidth=1000), ANY)
    assert found.greyscale == "window"


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_bit_depths_agree(make_dicom, bits):
    """The same ramp at any depth, window over the full range, gives the same grey levels."""
    top = 2**bits - 1
    stored = np.round(np.linspace(0, top, 256)).astype(np.uint16 if bits > 8 else np.uint8).reshape(16, 16)
    data = make_dicom(stored, bits_stored=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    np.testing.assert_array_equal(read_radiograph(data, ANY).pixels.ravel(), np.arange(256))


SYNTAXES = [ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_transfer_syntaxes_agree(make_dicom, syntax, kind):
    film = np.random.default_rng(1).integers(0, 250, (33, 46)).astype(kind)
    tags = {"WindowCenter": 128, "WindowWidth": 256}
    reference = read_radiograph(make_dicom(film, **tags), ANY)
    np.testing.assert_array_equal(read_radiograph(make_dicom(film, syntax, **tags), ANY).pixels, reference.pixels)


def deflated(data, megabytes=0):
    """The same file with its data set deflated (PS3.5 A.5), and so many megabytes of zeros behind it."""
    import zlib

    dataset = pydicom.dcmread(io.BytesIO(data))
    length = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(data[length:]) + packer.flush(zlib.Z_FULL_FLUSH)
    # From a full flush on, what is packed does not depend on what came before.
    body += (packer.compress(b"\0" * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes + packer.flush()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(buffer, dataset.file_meta)
    return buffer.getvalue() + body


def test_deflated_and_a_deflated_bomb(make_dicom):
    data = make_dicom(RAMP, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_array_equal(read_radiograph(deflated(data), ANY).pixels, read_radiograph(data, ANY).pixels)
    assert reason_of(deflated(data, 300)) == "too_large"


def test_without_preamble_and_without_file_meta(make_dicom):
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
        data = make_dicom(RAMP, syntax, WindowCenter=2048, WindowWidth=4096)
        bare = data[144 + int.from_bytes(data[140:144], "little") :]
        np.testing.assert_array_equal(read_radiograph(bare, ANY).pixels, read_radiograph(data, ANY).pixels)
    np.testing.assert_array_equal(
        read_radiograph(make_dicom(RAMP, WindowCenter=2048, WindowWidth=4096)[132:], ANY).pixels[0], [6, 22, 38, 54]
    )


def test_equal_colour_channels_become_grey(make_dicom):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    found = read_radiograph(make_dicom(np.dstack([grey] * 3)), ANY)
    np.testing.assert_array_equal(found.pixels, grey)
    assert found.greyscale == "stored"


def test_a_grey_palette_becomes_grey(make_dicom):
    """Palette entries by index, three times the same curve (C.7.6.3.1.5); stretched, as 16-bit values without a window are."""
    index = np.arange(16, dtype=np.uint8).reshape(4, 4)
    curve = (np.arange(256, dtype=np.uint16) * 257).astype("<u2").tobytes()
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags |= {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16], f"{colour}PaletteColorLookupTableData": curve}
    np.testing.assert_array_equal(read_radiograph(make_dicom(index, **tags), ANY).pixels, index * 17)


def test_spacing_follows_the_size(make_dicom):
    film = np.random.default_rng(0).integers(0, 4000, (200, 100)).astype(np.uint16)
    found = read_radiograph(make_dicom(film, PixelSpacing=[0.2, 0.2]), Prepare(store_size=50))
    assert found.pixels.shape == (50, 25)
    assert found.spacing_mm == pytest.approx((0.8, 0.8))
    assert read_radiograph(make_dicom(film, ImagerPixelSpacing=[0.2, 0.2]), ANY).spacing_mm == (0.2, 0.2)
    assert read_radiograph(make_dicom(film), ANY).spacing_mm is None


# ---- what must not be used ----


def test_header_exclusions(make_dicom):
    assert reason_of(make_dicom(RAMP, Modality="CT")) == "wrong_modality"
    assert reason_of(make_dicom(RAMP, Modality=None)) == "wrong_modality"
    assert reason_of(make_dicom(RAMP, Modality="SC"), Prepare()) == "secondary_capture"
    assert reason_of(make_dicom(RAMP, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), Prepare()) == "secondary_capture"
    read_radiograph(make_dicom(RAMP, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), ANY)
    assert reason_of(make_dicom(RAMP, BurnedInAnnotation="YES")) == "burned_in_annotation"
    read_radiograph(make_dicom(RAMP, BurnedInAnnotation="NO"), ANY)
    assert reason_of(make_dicom(RAMP, NumberOfFrames=2)) == "multi_frame"
    assert reason_of(make_dicom(RAMP, Rows=0)) == "zero_size"
    assert reason_of(make_dicom(RAMP, Rows=65535, Columns=65535)) == "too_large"
    assert reason_of(make_dicom(RAMP, PixelData=None)) == "no_pixel_data"
    assert reason_of(make_dicom(RAMP, BitsAllocated=32)) == "unsupported_pixels"
    assert reason_of(make_dicom(RAMP, Rows=5)) == "truncated"


def test_pixel_exclusions(make_dicom):
    assert reason_of(make_dicom(RAMP)[:-4]) == "truncated"
    colour = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    assert reason_of(make_dicom(colour)) == "true_colour"
    assert reason_of(make_dicom(np.full((8, 8), 7, dtype=np.uint16))) == "blank"
    mpeg = make_dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    assert reason_of(mpeg) == "unknown_transfer_syntax"
    assert reason_of(b"") == "empty_file"
    assert reason_of(b"just a text file, nothing more" * 10) == "not_an_image"
    compressed = make_dicom(np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16), JPEG2000Lossless)
    for length in (300, len(compressed) // 2, len(compressed) - 10):
        assert reason_of(compressed[:length]) == "truncated"


def test_crop_box(make_dicom):
    data = make_dicom(RAMP, WindowCenter=2048, WindowWidth=4096)
    whole = read_radiograph(data, ANY).pixels
    np.testing.assert_array_equal(read_radiograph(data, ANY, (1, 0, 4, 2)).pixels, whole[0:2, 1:4])
    np.testing.assert_array_equal(read_radiograph(data, ANY.model_copy(update={"crop": "none"}), (1, 0, 4, 2)).pixels, whole)
    assert reason_of(data, box=(1, 0, 5, 2)) == "crop_outside"


# ---- pictures ----

GREY8 = np.random.default_rng(2).integers(0, 256, (20, 30)).astype(np.uint8)


@pytest.mark.parametrize(
    "data",
    [
        encoded(GREY8, "PNG"),
        encoded(np.dstack([GREY8] * 3), "PNG"),
        encoded(np.dstack([GREY8, GREY8, GREY8, np.full_like(GREY8, 9)]), "PNG"),
        encoded(GREY8, "TIFF"),
        tiff(GREY8, photometric="minisblack", compression="lzw"),
        tiff(255 - GREY8, photometric="miniswhite"),
        tiff(np.dstack([GREY8] * 3), photometric="rgb"),
        tiff(np.stack([GREY8] * 3), photometric="rgb", planarconfig="separate"),
        tiff(GREY8, compression="jpeg2000"),
    ],
)
def test_eight_bit_pictures_stay_as_they_are(data):
    found = read_radiograph(data, ANY)
    np.testing.assert_array_equal(found.pixels, GREY8)
    assert found.greyscale == "stored"


def test_sixteen_bit_pictures_are_stretched():
    """Half of all 16-bit exports hold 12 bits: dividing by 257 would leave them black."""
    film = np.random.default_rng(0).integers(100, 4000, (64, 64)).astype(np.uint16)
    low, high = np.percentile(film, [0.5, 99.5], method="inverted_cdf")
    expected = np.clip(np.floor((film - float(low)) * 255 / (high - low) + 0.5), 0, 255)
    for data in (encoded(film, "PNG"), encoded(film, "TIFF"), tiff(film), tiff(film.astype(">u2"), byteorder=">")):
        found = read_radiograph(data, ANY)
        assert found.greyscale == "percentile"
        np.testing.assert_array_equal(found.pixels, expected)


def test_jpeg():
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    for array in (smooth, np.dstack([smooth] * 3)):
        found = read_radiograph(encoded(array, "JPEG", quality=95), ANY)
        assert np.abs(found.pixels.astype(int) - smooth).max() <= 3


def test_picture_exclusions():
    colour = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    assert reason_of(encoded(colour, "PNG")) == "true_colour"
    assert reason_of(encoded(colour, "JPEG")) == "true_colour"
    assert reason_of(tiff(np.stack([GREY8, GREY8]), photometric="minisblack")) == "multi_frame"
    assert reason_of(encoded(GREY8, "PNG")[:200]) == "truncated"
    assert reason_of(encoded(GREY8, "PNG")[:20]) in ("truncated", "not_an_image")
    assert reason_of(encoded(np.full((9, 9), 3, np.uint8), "PNG")) == "blank"
    assert reason_of(encoded(np.zeros((10_001, 10_000), np.uint8), "PNG")) == "too_large"


def test_clahe_and_percentile_change_the_picture(make_dicom):
    film = (np.add.outer(np.arange(128), np.arange(128)) * 4 + 500).astype(np.uint16)
    data = make_dicom(film, WindowCenter=2048, WindowWidth=4096)
    window = read_radiograph(data, ANY)
    percentile = read_radiograph(data, ANY.model_copy(update={"greyscale": "percentile"}))
    clahe = read_radiograph(data, ANY.model_copy(update={"greyscale": "clahe"}))
    assert (window.greyscale, percentile.greyscale, clahe.greyscale) == ("window", "percentile", "window+clahe")
    assert np.ptp(window.pixels) < 80
    assert np.ptp(percentile.pixels) == 255
    assert clahe.pixels.shape == window.pixels.shape
    assert clahe.pixels.std() > window.pixels.std()


def test_resizing_is_antialiased_and_never_enlarges():
    checks = np.indices((512, 512)).sum(0) % 2 * 255
    found = read_radiograph(encoded(checks.astype(np.uint8), "PNG"), Prepare(store_size=64)).pixels
    assert found.shape == (64, 64)
    assert np.abs(found[8:-8, 8:-8].astype(int) - 127).max() <= 3
    assert read_radiograph(encoded(GREY8, "PNG"), Prepare(store_size=64)).pixels.shape == GREY8.shape


def test_looks_like_image(tmp_path, make_dicom):
    (tmp_path / "film").write_bytes(make_dicom(RAMP))
    (tmp_path / "scan.JPG").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x" * 200)
    assert [looks_like_image(tmp_path / name) for name in ("film", "scan.JPG", "notes.txt", "absent")] == [
        True,
        True,
        False,
        False,
    ]
