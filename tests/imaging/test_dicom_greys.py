"""Lookup tables, windows and rescales as real headers have them: the picture they mean, worked out by hand, and a remark."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from sacro_ray.config import Prepare
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph
from sacro_ray.imaging.dicom_lut import look_up, read_table

ANY = Prepare(store_size=8192, modalities=["CR", "DX", "RF", "XA"])
FILM = (np.add.outer(np.arange(48), np.arange(64)) * 36 + 1).astype(np.uint16)  # 1 to 3961
SQUARED = (np.arange(4096) ** 2 // 4096).astype(np.uint16)  # 0 to 4094: darker than the film
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}  # shows x as x


def table(descriptor, data, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if min(descriptor) < 0 else "US", descriptor)
    if data is not None:
        item.add_new("LUTData", vr, data)
    return item


def grey(values, top):
    return np.clip(np.floor(np.asarray(values, dtype=float) * 255 / top + 0.5 + 1e-9), 0, 255)


def shown(data, settings=ANY):
    found = read_radiograph(data, settings)
    return found.pixels, found.greyscale, found.notes


EIGHT = (np.arange(4096) // 16).astype(np.uint16)


@pytest.mark.parametrize(
    ("item", "top", "entries", "notes"),
    [
        (table([4096, 0, 8], EIGHT.tolist()), 255, EIGHT, ()),
        (table([4096, 0, 8], EIGHT.astype("<u2").tobytes(), "OW"), 255, EIGHT, ()),  # a word an entry
        (table([4096, 0, 8], EIGHT.astype(np.uint8).tobytes(), "OW"), 255, EIGHT, ()),  # two entries a word
        (table([4096, 0, 8], EIGHT.astype(np.uint8).view("<u2").tolist()), 255, EIGHT, ()),
        (table([4096, 0, 8], (EIGHT * 257).tolist()), 65535, EIGHT * 257, ("voi_lut_of_other_bits",)),
        (table([4096, 0, 16], SQUARED.tolist()), 4095, SQUARED, ("voi_lut_of_other_bits",)),  # narrower than it says
        (table([4096, 0, 16], EIGHT.astype(np.uint8).tobytes(), "OW"), 255, EIGHT, ("voi_lut_of_other_bits",)),
        (table([0, 0, 12], np.pad(SQUARED, (0, 61440), "edge").astype("<u2").tobytes(), "OW"), 4095, SQUARED, ()),  # 65,536
        (table([4096, 0, 16], (SQUARED.astype(int) * 16 - 65536 * (SQUARED >= 2048)).tolist(), "SS"), 65535, SQUARED * 16, ()),
    ],
)
def test_entries_of_a_voi_lut(make_dicom, item, top, entries, notes):
    pixels, way, remarks = shown(make_dicom(FILM, VOILUTSequence=[item]))
    assert (way, remarks) == ("voi_lut", notes)
    np.testing.assert_array_equal(pixels, grey(entries[FILM], top))


def test_packed_entries_in_big_endian(make_dicom):
    """The first of two entries is in the lower byte of a word, whatever the byte order of words (PS3.3 C.11.2.1.1)."""
    words = EIGHT.astype(np.uint8).view("<u2").astype(">u2").tobytes()
    for vr in ("OW", "US"):
        data = words if vr == "OW" else np.frombuffer(words, ">u2").tolist()
        film = make_dicom(FILM, ExplicitVRBigEndian, VOILUTSequence=[table([4096, 0, 8], data, vr)])
        np.testing.assert_array_equal(shown(film)[0], grey(EIGHT[FILM], 255))


@pytest.mark.parametrize("first", [-1024, 0xFC00])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_first_value_below_zero_in_either_sign(make_dicom, first, syntax):
    item = table([4096, first, 12], SQUARED.tolist())
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "VOILUTSequence": [item]}
    pixels, way, notes = shown(make_dicom(FILM, *([syntax] if syntax else []), **tags))
    assert (way, notes) == ("voi_lut", ())
    np.testing.assert_array_equal(pixels, grey(SQUARED[FILM], 4095))


def test_first_value_above_the_signed_range(make_dicom):
    """-25536 in a signed descriptor of unsigned values is 40000."""
    film = FILM + np.uint16(40000)
    pixels, way, _ = shown(make_dicom(film, bits_stored=16, VOILUTSequence=[table([4096, -25536, 12], SQUARED.tolist())]))
    assert way == "voi_lut"
    np.testing.assert_array_equal(pixels, grey(SQUARED[FILM], 4095))


@pytest.mark.parametrize(
    "item",
    [
        Dataset(),
        table([4096, 0, 12], None),
        table([4096, 0, 12], []),
        table([4096, 0], SQUARED.tolist()),
        table([4096, 0, 12], [0] * 4096),
        table([4096, 0, 12], [7] * 4096),  # one grey
        table([4096, 0, 12], SQUARED[:3000].tolist()),  # values above have no entry
        table([10, 60000, 12], SQUARED[:10].tolist()),  # of other values
    ],
)
def test_a_voi_lut_that_shows_nothing_gives_way(make_dicom, item):
    pixels, way, notes = shown(make_dicom(FILM, VOILUTSequence=[item], **WINDOW))
    assert (way, notes) == ("window", ("spoilt_voi_lut",))
    np.testing.assert_array_equal(pixels, grey(FILM, 4095))
    _, way, notes = shown(make_dicom(FILM, VOILUTSequence=[item]))
    assert (way, notes) == ("percentile", ("spoilt_voi_lut",))
    good = table([4096, 0, 12], SQUARED.tolist())
    pixels, way, notes = shown(make_dicom(FILM, VOILUTSequence=[item, good]))
    assert (way, notes) == ("voi_lut", ("spoilt_voi_lut",))
    np.testing.assert_array_equal(pixels, grey(SQUARED[FILM], 4095))


def test_of_several_windows_the_first_that_shows_the_picture(make_dicom):
    tags = {"WindowCenter": [60000, 2048, 1024], "WindowWidth": [10, 4096, 2048]}
    pixels, way, notes = shown(make_dicom(FILM, **tags))
    assert (way, notes) == ("window", ("spoilt_window",))
    np.testing.assert_array_equal(pixels, grey(FILM, 4095))
    wanted = shown(make_dicom(FILM, **tags), ANY.model_copy(update={"window": 2}))
    assert wanted[1:] == ("window", ())
    np.testing.assert_array_equal(wanted[0], grey(FILM, 2047))


@pytest.mark.parametrize("function", ["", None, "LINEAR "])
def test_an_empty_voi_lut_function_is_linear(make_dicom, function):
    pixels, way, notes = shown(
        make_dicom(FILM, VOILUTFunction=function, **WINDOW) if function is not None else make_dicom(FILM, **WINDOW)
    )
    assert (way, notes) == ("window", ())
    np.testing.assert_array_equal(pixels, grey(FILM, 4095))


def with_bytes(data, keyword, value):
    """The file with another raw value of the same length, which pydicom would not write."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    tag = pydicom.tag.Tag(keyword)
    old = str(dataset[keyword].value).encode()
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + dataset[keyword].VR.encode()
    place = data.index(old, data.index(head))
    assert len(old) == len(value)
    return data[:place] + value + data[place + len(old) :]


@pytest.mark.parametrize(
    ("tags", "raw", "notes"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": None}, {}, ()),
        ({"RescaleSlope": "", "RescaleIntercept": ""}, {}, ()),
        ({"RescaleSlope": 3, "RescaleIntercept": ""}, {}, ("spoilt_rescale",)),
        ({"RescaleSlope": "", "RescaleIntercept": -5}, {}, ("spoilt_rescale",)),
        ({"RescaleSlope": 0, "RescaleIntercept": 100}, {}, ("spoilt_rescale",)),
        ({"RescaleSlope": "1.5", "RescaleIntercept": "0"}, {"RescaleSlope": b"1,5"}, ("spoilt_rescale",)),
        ({"RescaleSlope": [1, 2], "RescaleIntercept": 0}, {}, ("spoilt_rescale",)),
        ({"RescaleSlope": "1E300", "RescaleIntercept": 0}, {}, ("spoilt_rescale",)),
        ({"PixelPaddingValue": [0, 4095]}, {}, ("spoilt_padding",)),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": [1, 4095]}, {}, ("spoilt_padding",)),
        ({"PixelPaddingValue": None}, {}, ()),
        ({"NumberOfFrames": "1"}, {"NumberOfFrames": b"x"}, ()),
        ({"ModalityLUTSequence": []}, {}, ()),
        ({"ModalityLUTSequence": [Dataset()]}, {}, ("spoilt_modality_lut",)),
        ({"ModalityLUTSequence": [table([4096, 0, 16], None)]}, {}, ("spoilt_modality_lut",)),
        ({"ModalityLUTSequence": [table([4096, 0, 16], [9] * 4096)]}, {}, ("spoilt_modality_lut",)),
    ],
)
def test_an_optional_value_that_cannot_be_used_is_left_out(make_dicom, tags, raw, notes):
    data = make_dicom(FILM, **WINDOW, **{name: value for name, value in tags.items() if value is not None})
    for keyword, value in raw.items():
        data = with_bytes(data, keyword, value)
    pixels, way, remarks = shown(data)
    assert (way, remarks) == ("window", notes)
    np.testing.assert_array_equal(pixels, grey(FILM, 4095))


def test_an_unreadable_window_is_a_remark(make_dicom):
    data = with_bytes(make_dicom(FILM, WindowCenter="2048", WindowWidth="4096"), "WindowWidth", b"4,96")
    assert shown(data)[1:] == ("percentile", ("spoilt_window",))
    assert shown(make_dicom(FILM, WindowCenter="2048"))[1:] == ("percentile", ("spoilt_window",))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_modality_lut_of_any_bits(make_dicom, bits):
    entries = np.sort(np.random.default_rng(bits).integers(0, 2**bits, 4096)).astype(np.uint16)
    tags = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    pixels, way, notes = shown(make_dicom(FILM, ModalityLUTSequence=[table([4096, 0, bits], entries.tolist())], **tags))
    assert (way, notes) == ("window", ())
    np.testing.assert_array_equal(pixels, grey(entries[FILM], 2**bits - 1))


def test_the_modality_lut_of_fluoroscopy_is_not_for_display(make_dicom):
    """PS3.3 C.8.7.1.1.2: it leads back to X-ray intensity."""
    lut = table([4096, 0, 16], SQUARED[::-1].tolist())
    for sop_class in ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"):
        film = make_dicom(FILM, SOPClassUID=sop_class, Modality="RF", ModalityLUTSequence=[lut], **WINDOW)
        pixels, way, notes = shown(film)
        assert (way, notes) == ("window", ())
        np.testing.assert_array_equal(pixels, grey(FILM, 4095))
    assert (shown(make_dicom(FILM, Modality="RF", ModalityLUTSequence=[lut], **WINDOW))[0][0, 0]) > 200  # of another object


def test_a_contradiction_about_polarity_is_a_remark(make_dicom):
    """PS3.3 C.11.6.1.2 ties INVERSE to MONOCHROME1; the photometric interpretation decides, as every image has it."""
    for sense, shape, notes in (
        ("MONOCHROME2", "INVERSE", ("polarity_unclear",)),
        ("MONOCHROME1", "IDENTITY", ("polarity_unclear",)),
        ("MONOCHROME1", "INVERSE", ()),
        ("MONOCHROME2", "IDENTITY", ()),
        ("MONOCHROME2", "", ()),
    ):
        pixels, _, remarks = shown(make_dicom(FILM, PhotometricInterpretation=sense, PresentationLUTShape=shape, **WINDOW))
        assert remarks == notes
        assert (pixels[0, 0] < pixels[-1, -1]) == (sense == "MONOCHROME2")


def test_look_up_by_hand():
    found = read_table(table([4, 10, 4], [1, 5, 9, 15]), True)
    values = np.array([-3, 9, 10, 11, 13, 14, 99])
    np.testing.assert_array_equal(look_up(found, values, np.ones(7, dtype=bool)), [1, 1, 1, 5, 15, 15, 15])
    assert found.highest == 15
    assert found.is_as_stated
    assert read_table(table([4, 10, 4], [1, 5]), True).entries.size == 4  # two bytes a word: 1, 0, 5, 0
    assert read_table(table([9, 10, 4], [1, 5]), True).count == 9
    assert look_up(read_table(table([9, 10, 4], [1, 5]), True), values, np.ones(7, dtype=bool)) is None


def test_all_padding_is_blank(make_dicom):
    with pytest.raises(ExcludedRadiograph, match="blank"):
        read_radiograph(make_dicom(FILM, PixelPaddingValue=0, PixelPaddingRangeLimit=4095), ANY)
