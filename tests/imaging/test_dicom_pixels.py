"""Stored values: fragments, pictures that end too early, bits beside the stored ones, padding of another sign, and missing values."""

import io
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from cohorts import dicom_bytes
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sacro_ray.config import Prepare
from sacro_ray.imaging.codestream import one_frame
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph

ANY = Prepare(store_size=8192)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
NOISE = np.random.default_rng(0).integers(0, 60, (96, 128))
FILM = (np.add.outer(np.arange(96), np.arange(128)) * 17 + NOISE).astype(np.uint16)  # 0 to 3833
EIGHT = (FILM // 16).astype(np.uint8)
RLE = one_frame(pydicom.dcmread(io.BytesIO(dicom_bytes(FILM, RLELossless))).PixelData)
FRAMES = {
    JPEGBaseline8Bit: imagecodecs.jpeg_encode(EIGHT, level=90),
    JPEGExtended12Bit: imagecodecs.jpeg_encode(FILM, bitspersample=12, level=95),
    JPEGLosslessSV1: imagecodecs.ljpeg_encode(FILM, bitspersample=12),
    JPEGLSLossless: imagecodecs.jpegls_encode(FILM),
    JPEGLSNearLossless: imagecodecs.jpegls_encode(FILM, level=2),
    JPEG2000Lossless: imagecodecs.jpeg2k_encode(FILM, codecformat="j2k", reversible=True, level=0),
    HTJ2KLossless: imagecodecs.htj2k_encode(FILM, reversible=True),
    RLELossless: RLE,
}
END = b"\xff\xd9"
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def item(data):
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(data)) + data


def in_fragments(frame, parts=1, offsets=True):
    """Items of an encapsulated frame, with an offset for each in the Basic Offset Table."""
    frame += b"\0" * (len(frame) % 2)
    size = -(-len(frame) // parts) + 1 & ~1
    pieces = [frame[i : i + size] for i in range(0, len(frame), size)]
    table = b"".join(struct.pack("<I", i * (size + 8)) for i in range(len(pieces))) if offsets else b""
    return item(table) + b"".join(map(item, pieces))


@pytest.fixture
def film(make_dicom):
    """A file of one of these frames, or of other encapsulated data."""

    def make(syntax, value=None, frame=None, **tags):
        pixels = EIGHT if syntax == JPEGBaseline8Bit else FILM
        dataset = pydicom.dcmread(io.BytesIO(make_dicom(pixels, **(WINDOW | tags))))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = in_fragments(FRAMES[syntax] if frame is None else frame) if value is None else value
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return make


def outcome(data):
    try:
        return read_radiograph(data, ANY, digest=True).stored_sha256
    except ExcludedRadiograph as error:
        return error.reason


# ---- fragments ----


@pytest.mark.parametrize("syntax", FRAMES, ids=lambda syntax: pydicom.uid.UID(syntax).name)
def test_one_frame_in_several_fragments(film, syntax):
    whole, frame = outcome(film(syntax)), FRAMES[syntax]
    assert len(whole) == 64
    for offsets in (True, False):
        assert outcome(film(syntax, in_fragments(frame, 3, offsets))) == whole
    starts, lengths = [0, 8 + len(frame) // 2], [len(frame) // 2, len(frame) - len(frame) // 2]
    extended = {"ExtendedOffsetTable": struct.pack("<2Q", *starts), "ExtendedOffsetTableLengths": struct.pack("<2Q", *lengths)}
    assert outcome(film(syntax, in_fragments(frame, 2, False), **extended)) == whole
    if syntax != RLELossless:
        assert outcome(film(syntax, in_fragments(frame)[8 + 4 :])) == whole  # no Basic Offset Table


def test_two_pictures_without_a_number_of_frames_are_several_frames(film):
    for syntax, frame in FRAMES.items():
        even = frame + b"\0" * (len(frame) % 2)
        assert outcome(film(syntax, item(b"") + item(even) + item(even))) == "multi_frame"


def test_no_sequence_delimiter(film):
    """All items are whole and only what says that no more follow is missing, or zeros: the picture is there (PS3.5 A.4)."""
    for syntax in (JPEGLosslessSV1, JPEG2000Lossless, RLELossless):
        data = film(syntax)
        assert data.endswith(DELIMITER)
        bare = data[: -len(DELIMITER)]
        assert outcome(bare) == outcome(bare + b"\0" * 8) == outcome(data)
        assert outcome(bare[:-2]) == "truncated"
        assert outcome(bare[: -len(FRAMES[syntax]) // 2]) == "truncated"


# ---- pictures that end too early ----

SHORTER = {
    "half": lambda frame: frame[: len(frame) // 2],
    "half, ended": lambda frame: frame[: len(frame) // 2] + END,
    "the last bytes": lambda frame: frame[:-42],
    "the last bytes, ended": lambda frame: frame[:-42] + END,
}


@pytest.mark.parametrize("how", SHORTER)
@pytest.mark.parametrize("syntax", FRAMES, ids=lambda syntax: pydicom.uid.UID(syntax).name)
def test_a_picture_cut_short_in_a_whole_file_is_left_out(film, syntax, how):
    if syntax == RLELossless and how.endswith("ended"):
        return
    assert outcome(film(syntax, frame=SHORTER[how](FRAMES[syntax]))) in ("truncated", "undecodable")


@pytest.mark.parametrize(
    "options", [{"restart_marker_blocks": 1}, {"restart_marker_rows": 1}, {"progressive": True}, {"quality": 100}]
)
def test_jpeg_of_other_kinds_cut_short(film, options):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(EIGHT).save(buffer, format="JPEG", **options)
    frame = buffer.getvalue()
    assert len(outcome(film(JPEGBaseline8Bit, frame=frame))) == 64
    ends = [*range(len(frame) // 3, len(frame) - 12, len(frame) // 7)]
    if "restart_marker_blocks" in options:
        ends.append(frame.rfind(b"\xff\xd6"))  # the last stretch between two restart markers, whole
    for end in ends:
        assert outcome(film(JPEGBaseline8Bit, frame=frame[:end] + END)) in ("truncated", "undecodable"), end


def test_jpeg_2000_in_its_file_format_damaged_or_not(film):
    """Boxes around the codestream are against PS3.5 A.4.4 and are passed over: a box of no length kept pydicom for ever."""
    frame = imagecodecs.jpeg2k_encode(FILM, codecformat="jp2", reversible=True, level=0)
    assert outcome(film(JPEG2000Lossless, frame=frame)) == outcome(film(JPEG2000Lossless))
    boxes = frame.index(b"\xff\x4f\xff\x51")
    assert outcome(film(JPEG2000Lossless, frame=frame[:12] + b"\0" * (boxes - 12) + frame[boxes:])) == outcome(
        film(JPEG2000Lossless)
    )
    assert outcome(film(JPEG2000Lossless, frame=frame[:boxes] + b"\0" * 500)) == "undecodable"


def test_without_its_end_marker_a_whole_picture_is_whole(film):
    for syntax, frame in FRAMES.items():
        if syntax not in (RLELossless, JPEG2000Lossless, HTJ2KLossless):
            assert outcome(film(syntax, frame=frame[:-2])) == outcome(film(syntax)), syntax
            assert outcome(film(syntax, frame=frame + b"\0" * 6)) == outcome(film(syntax)), syntax


@pytest.mark.parametrize("zeros", [1, 2, 5])
def test_jpegls_with_zeros_before_its_end(film, zeros):
    for syntax in (JPEGLSLossless, JPEGLSNearLossless):
        frame = FRAMES[syntax]
        assert outcome(film(syntax, frame=frame[:-2] + b"\0" * zeros + END)) == outcome(film(syntax))
        assert outcome(film(syntax, frame=frame[: len(frame) // 2] + b"\0" * zeros + END)) == "undecodable"


# ---- bits and signs ----


def native(make_dicom, words, stored, high, signed, **tags):
    return make_dicom(words.astype(np.uint16), bits_stored=stored, HighBit=high, PixelRepresentation=int(signed), **tags)


@pytest.mark.parametrize("compressed", [None, RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
def test_values_lie_below_the_high_bit(make_dicom, film, compressed, signed):
    """12 bits in 16, anywhere, with other bits beside them: an overlay, a marker (PS3.5, 8.1.1)."""
    values = FILM.astype(int) - 2048 * signed
    settings = {"WindowCenter": 2048 - 2048 * signed, "WindowWidth": 4096, "PixelRepresentation": int(signed), "BitsStored": 12}
    plain = read_radiograph(make_dicom(values.astype(np.int16 if signed else np.uint16), **settings), ANY, digest=True)
    for high in (11, 13, 15):
        beside = (np.indices(values.shape).sum(0) % 40 < 3) * (0x8000 if high < 15 else 1)
        words = (((values & 0xFFF) << (high - 11)) | beside).astype(np.uint16)
        if compressed is None:
            data = make_dicom(words, bits_stored=12, **(settings | {"HighBit": high}))
        else:
            frame = {
                RLELossless: lambda w: one_frame(pydicom.dcmread(io.BytesIO(make_dicom(w, RLELossless))).PixelData),
                JPEGLosslessSV1: lambda w: imagecodecs.ljpeg_encode(w, bitspersample=16),
                JPEGLSLossless: imagecodecs.jpegls_encode,
                JPEG2000Lossless: lambda w: imagecodecs.jpeg2k_encode(w, codecformat="j2k", reversible=True, level=0),
            }[compressed](words)
            data = film(compressed, frame=frame, **(settings | {"HighBit": high}))
        found = read_radiograph(data, ANY, digest=True)
        assert found.stored_sha256 == plain.stored_sha256, high
        assert found.notes == ("unused_bits",)
        np.testing.assert_array_equal(found.pixels, plain.pixels)


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("compressed", [None, JPEGLSLossless])
@pytest.mark.parametrize("bits", [12, 15, 16])
def test_signed_values_with_or_without_a_copied_sign(make_dicom, film, bits, compressed, extended):
    values = np.linspace(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 48).round().astype(np.int16).reshape(6, 8)
    tags = {"WindowCenter": 0, "WindowWidth": 2**bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 1}
    words = values.view(np.uint16) if extended else values.view(np.uint16) & (2**bits - 1)
    data = make_dicom(words, bits_stored=bits, **tags)
    if compressed:
        data = film(compressed, frame=imagecodecs.jpegls_encode(words.astype(np.uint16)), Rows=6, Columns=8, **tags)
    found = read_radiograph(data, ANY)
    assert (found.greyscale, found.notes) == ("window", ())
    expected = (values.astype(float) + 2 ** (bits - 1)) * 255 / (2**bits - 1)
    np.testing.assert_array_equal(found.pixels, np.floor(expected + 0.5 + 1e-9))


def test_a_high_bit_that_cannot_be_is_not_believed(make_dicom):
    plain = outcome(make_dicom(FILM, **WINDOW))
    for high in (3, 16, 255):
        assert outcome(make_dicom(FILM, **WINDOW, HighBit=high)) == plain


def test_lossy_values_above_the_stored_bits_stay(film):
    """Next to white a lossy codestream of 12 bits goes beyond the 10 that are stored: to cut its bits would make black of it."""
    sharp = np.where(np.indices((96, 128)).sum(0) // 9 % 2, 1023, 0).astype(np.uint16)
    frame = imagecodecs.jpeg_encode(sharp, bitspersample=12, level=70)
    assert imagecodecs.jpeg_decode(frame).max() > 1023
    found = read_radiograph(
        film(JPEGExtended12Bit, frame=frame, BitsStored=10, HighBit=9, WindowCenter=512, WindowWidth=1024), ANY
    )
    assert found.pixels[sharp == 1023].min() > 200
    assert found.notes == ()


# ---- padding ----


@pytest.mark.parametrize(
    ("value", "vr", "signed", "stored", "word"),
    [
        (32768, "US", True, 16, 0x8000),
        (-32768, "SS", True, 16, 0x8000),
        (63536, "US", True, 16, 0xF830),
        (-1, "SS", False, 16, 0xFFFF),
        (63536, "US", False, 12, 0xF830),  # outside the stored bits: not 2096, which is a grey of the film
        (-2000, "SS", False, 12, 0xF830),
        (0xF830, "US", True, 12, 0xF830),
        (0x0830, "US", True, 12, 0x0830),  # no copy of the sign in the words
        (0x0830, "US", True, 12, 0xF830),
    ],
)
def test_padding_in_another_sign_than_the_pixels(make_dicom, value, vr, signed, stored, word):
    inner = FILM.astype(int) // 4 - 500 * signed  # -500 to 458, or 0 to 958
    kind = {"bits_stored": stored, "PixelRepresentation": int(signed)}
    plain = read_radiograph(make_dicom((inner & (2**stored - 1)).astype(np.uint16), **kind), ANY).pixels
    words = np.full((136, 168), word, dtype=np.uint16)
    words[20:-20, 20:-20] = inner & (2**stored - 1)
    data = make_dicom(words, **kind)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.add_new("PixelPaddingValue", vr, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    found = read_radiograph(buffer.getvalue(), ANY)
    np.testing.assert_array_equal(found.pixels[20:-20, 20:-20], plain)
    found.pixels[20:-20, 20:-20] = 0
    assert not found.pixels.any()


# ---- what the header needs ----


@pytest.mark.parametrize(
    "keyword", ["BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation"]
)
def test_a_needed_value_that_is_missing_is_the_headers_fault(make_dicom, keyword):
    for syntax in (None, JPEG2000Lossless):
        data = make_dicom(FILM, *([syntax] if syntax else []))
        dataset = pydicom.dcmread(io.BytesIO(data))
        for value in (None, ""):
            if value is None:
                del dataset[keyword]
            else:
                dataset.add_new(keyword, pydicom.datadict.dictionary_VR(keyword), None)
            buffer = io.BytesIO()
            dataset.save_as(buffer)
            with pytest.raises(ExcludedRadiograph, match=keyword) as caught:
                read_radiograph(buffer.getvalue(), ANY)
            assert caught.value.reason == "damaged_header"


def test_contradictions_and_unknown_kinds(make_dicom):
    assert outcome(make_dicom(FILM, BitsStored=17)) == "damaged_header"
    assert outcome(make_dicom(FILM, BitsStored=0)) == "damaged_header"
    assert outcome(make_dicom(FILM, PixelRepresentation=2)) == "damaged_header"
    assert outcome(make_dicom(FILM, PhotometricInterpretation="HSV")) == "unsupported_pixels"
    assert outcome(make_dicom(FILM, SamplesPerPixel=4)) == "unsupported_pixels"
    assert len(outcome(make_dicom(FILM, PhotometricInterpretation="MONOCHROME2 "))) == 64


def test_uncompressed_ybr_full_422(make_dicom):
    """Two pixels in four bytes (PS3.3 C.7.6.3.1.2); chroma of 128 is grey."""
    colours = np.full((96, 64, 4), 128, dtype=np.uint8)
    colours[..., 0], colours[..., 1] = EIGHT[:, ::2], EIGHT[:, 1::2]
    data = make_dicom(np.dstack([EIGHT] * 3), PhotometricInterpretation="YBR_FULL_422", PixelData=colours.tobytes())
    np.testing.assert_array_equal(read_radiograph(data, ANY).pixels, EIGHT)
    assert outcome(
        make_dicom(np.dstack([EIGHT] * 3), PhotometricInterpretation="YBR_FULL_422", PixelData=colours[:-1].tobytes())
    ) == ("truncated")
    whole = np.dstack([EIGHT, np.full_like(EIGHT, 128), np.full_like(EIGHT, 128)])  # called 4:2:2 and is not
    np.testing.assert_array_equal(
        read_radiograph(make_dicom(whole, PhotometricInterpretation="YBR_FULL_422"), ANY).pixels, EIGHT
    )


def test_uncompressed_pixels_of_two_frames_without_their_number(make_dicom):
    assert outcome(make_dicom(FILM, PixelData=FILM.tobytes() * 2)) == "multi_frame"
    assert outcome(make_dicom(FILM, PixelData=FILM.tobytes() + b"\0" * 200)) == outcome(make_dicom(FILM))
