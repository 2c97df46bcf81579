"""TIFF, PNG and JPEG files of many kinds: one film, written in each, comes out as the same grey levels, upright."""

import io
import logging
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from sacro_ray.config import Prepare
from sacro_ray.imaging import decode, picture
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph, stored_digest

ANY = Prepare(store_size=8192)
GREY8 = np.random.default_rng(2).integers(0, 256, (20, 30)).astype(np.uint8)
TWELVE = np.random.default_rng(0).integers(100, 4000, (64, 64)).astype(np.uint16)
OPAQUE8, OPAQUE16 = np.full_like(GREY8, 9), np.full_like(TWELVE, 9)


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def pillow(array, ending, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=ending, **options)
    return buffer.getvalue()


def packed_tiff(index, bits, colours):
    """A palette TIFF of less than 8 bits a pixel, which no library here writes."""
    height, width = index.shape
    digits = np.unpackbits(index[..., None].astype(np.uint8), axis=2)[..., 8 - bits :].reshape(height, -1)
    pixels = np.packbits(digits, axis=1).tobytes()
    palette = np.tile(colours.astype("<u2"), 3).tobytes()
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 3), (273, 4, 1, 8),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, len(pixels)), (320, 3, 3 * 2**bits, 8 + len(pixels)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(palette)) + pixels + palette + directory


def with_chunk(png, kind, content, damaged=False):
    """The PNG with a further chunk behind its header."""
    check = zlib.crc32(kind + content) ^ damaged
    return png[:33] + struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check) + png[33:]


def exif(orientation):
    found = Image.Exif()
    found[274] = orientation
    return found.tobytes()


def stretched(values):
    low, high = np.percentile(values, [0.5, 99.5], method="inverted_cdf")
    return np.clip(np.floor((values - float(low)) * 255 / (high - float(low)) + 0.5), 0, 255)


def shown(data, box=None):
    return read_radiograph(data, ANY, box).pixels.astype(int)


def reason_of(data):
    with pytest.raises(ExcludedRadiograph) as caught:
        read_radiograph(data, ANY)
    return caught.value.reason


# ---- depth and channels ----


@pytest.mark.parametrize("channels", [[TWELVE], [TWELVE, OPAQUE16], [TWELVE] * 3, [TWELVE] * 3 + [OPAQUE16]])
def test_png_of_sixteen_bits_whatever_its_channels(channels):
    data = imagecodecs.png_encode(np.squeeze(np.dstack(channels)))
    found = read_radiograph(data, ANY)
    assert found.greyscale == "percentile"
    np.testing.assert_array_equal(found.pixels, stretched(TWELVE))


def test_twelve_bits_in_colour_are_colour():
    """Channels that differ by an eighth of the 4096 levels that occur: little of 65,536."""
    colour = np.dstack([TWELVE, TWELVE, TWELVE // 8 * 7])
    assert reason_of(imagecodecs.png_encode(colour)) == "true_colour"
    assert reason_of(tiff(colour, photometric="rgb")) == "true_colour"
    assert reason_of(tiff(colour.astype(np.float32), photometric="rgb")) == "true_colour"


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_less_than_a_byte(bits):
    index = (GREY8 >> (8 - bits)).astype(np.uint8)
    levels = np.linspace(0, 65535, 2**bits)
    np.testing.assert_array_equal(shown(packed_tiff(index, bits, levels)), np.round(index * (255 / (2**bits - 1))))


def test_palettes_of_bytes_and_words():
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    expected = stretched(GREY8.astype(int) * 257)
    np.testing.assert_array_equal(shown(tiff(GREY8, photometric="palette", colormap=ramp)), expected)
    wide = np.tile(np.arange(65536, dtype=np.uint16), (3, 1))
    data = tiff(GREY8.astype(np.uint16) * 257, photometric="palette", colormap=wide)
    np.testing.assert_array_equal(shown(data), expected)
    ramp[2] = 0
    assert reason_of(tiff(GREY8, photometric="palette", colormap=ramp)) == "true_colour"


def test_a_palette_with_alpha():
    """As Office writes it: an index and an alpha sample. The file is a grey one whose tags are changed."""
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, 3)
    tags = [(320, "H", 768, ramp.tobytes(), True)]
    data = tiff(np.dstack([GREY8, OPAQUE8]), photometric="minisblack", extrasamples=["unassalpha"], extratags=tags)
    grey, palette = (struct.pack("<HHII", 262, 3, 1, kind) for kind in (1, 3))
    assert data.count(grey) == 1
    np.testing.assert_array_equal(shown(data.replace(grey, palette)), stretched(GREY8.astype(int) * 257))


@pytest.mark.parametrize(
    "data",
    [
        tiff(np.dstack([255 - GREY8] * 3 + [0 * GREY8]), photometric="separated"),
        tiff(np.dstack([0 * GREY8] * 3 + [255 - GREY8]), photometric="separated"),
        tiff(np.stack([0 * GREY8] * 3 + [255 - GREY8]), photometric="separated", planarconfig="separate"),
        tiff(np.dstack([255 - GREY8] * 3 + [0 * GREY8, OPAQUE8]), photometric="separated", extrasamples=["unassalpha"]),
        tiff(np.dstack([GREY8, OPAQUE8]), photometric="minisblack", extrasamples=["unassalpha"]),
        tiff(np.dstack([255 - GREY8, OPAQUE8]), photometric="miniswhite", extrasamples=["unassalpha"]),
        tiff(GREY8, bigtiff=True, tile=(16, 16), compression="deflate", predictor=2),
        tiff(GREY8.astype(">u1"), byteorder=">", rowsperstrip=7, compression="packbits"),
    ],
)
def test_inks_alpha_and_layouts_of_tiff(data):
    found = read_radiograph(data, ANY)
    assert found.greyscale == "stored"
    np.testing.assert_array_equal(found.pixels, GREY8)


def test_inks_that_are_colours_or_unknown():
    inks = np.random.default_rng(0).integers(0, 255, (20, 30, 4)).astype(np.uint8)
    assert reason_of(tiff(inks, photometric="separated")) == "true_colour"
    assert reason_of(tiff(inks, photometric="separated", extratags=[(332, "H", 1, 2, True)])) == "unsupported_pixels"
    assert reason_of(tiff(GREY8, photometric="cfa")) == "unsupported_pixels"


def test_cmyk_jpeg():
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    inks = Image.fromarray(np.dstack([0 * smooth] * 3 + [255 - smooth]), "CMYK")
    buffer = io.BytesIO()
    inks.save(buffer, "JPEG", quality=95)
    assert np.abs(shown(buffer.getvalue()) - smooth).max() <= 4


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"])
def test_miniswhite_is_turned_round_whatever_the_sign(kind):
    film = (TWELVE // 32 if kind == "int8" else TWELVE).astype(kind)
    film = film - (60 if kind == "int8" else 2000) if kind.startswith("int") else film
    white = shown(tiff(np.invert(film), photometric="miniswhite"))
    np.testing.assert_array_equal(white, shown(tiff(film, photometric="minisblack")))
    np.testing.assert_array_equal(white, stretched(film.astype(int)))


# ---- more than 16 bits ----


@pytest.mark.parametrize(("kind", "first"), [("uint32", 2**31 + 5), ("int32", -(2**31)), ("uint64", 2**63 + 5), ("int64", 0)])
def test_whole_numbers_far_from_zero(kind, first):
    film = TWELVE.astype(kind) + np.array(first, kind)
    np.testing.assert_array_equal(shown(tiff(film, photometric="minisblack")), stretched(TWELVE))


def test_the_digest_of_stored_values_knows_equal_numbers_and_only_these():
    assert stored_digest(TWELVE) == stored_digest(TWELVE.astype(np.int64)) == stored_digest(TWELVE.astype(np.uint32))
    high = TWELVE.astype(np.uint64) + 2**32
    assert stored_digest(high) != stored_digest(TWELVE)


FAR = [np.nan, np.inf, -np.inf, 1e6, -1e6, -3.4028235e38, 1e300, -(2.0**31)]
WHOLE = [("int32", far) for far in FAR if np.isfinite(far) and abs(far) <= 2**31]


@pytest.mark.parametrize(("kind", "far"), [(f"float{bits}", far) for bits in (16, 32, 64) for far in FAR] + WHOLE)
def test_one_far_value_leaves_the_rest_as_it_is(kind, far):
    film = TWELVE.astype(kind)
    expected = stretched(film.astype(float))
    with np.errstate(over="ignore"):
        film[3, 3] = far
    found = shown(tiff(film, photometric="minisblack"))
    found[3, 3] = expected[3, 3] = 0
    assert np.abs(found - expected).max() <= 1


def test_ordinary_floats_are_stretched_between_their_percentiles():
    film = (TWELVE / 4096).astype(np.float32)
    film[0, :2] = [0, 1]
    scaled = np.rint((film.astype(float) - 0) / 1 * 0xFFFF)
    np.testing.assert_array_equal(shown(tiff(film, photometric="minisblack")), stretched(scaled))


def test_what_a_tiff_calls_no_data_is_black():
    no_data = [(42113, "s", 0, "-9999", True)]
    film = np.where(np.arange(64) < 8, -9999, TWELVE.astype(np.float32))
    found = shown(tiff(film, photometric="minisblack", extratags=no_data))
    assert not found[:, :8].any()
    assert np.abs(found - stretched(TWELVE))[:, 8:].max() <= 2


@pytest.mark.parametrize(("sense", "hole"), [("minisblack", 0), ("minisblack", 255), ("miniswhite", 255)])
def test_what_a_tiff_of_eight_bits_calls_no_data_is_black_too(sense, hole):
    bright = (GREY8 // 4 + 100).astype(np.uint8)
    film = np.where(np.arange(30) < 8, np.uint8(hole), bright if sense == "minisblack" else ~bright)
    found = shown(tiff(film, photometric=sense, extratags=[(42113, "s", 0, str(hole), True)]))
    assert not found[:, :8].any()
    assert np.array_equal(found[:, 8:], bright[:, 8:])


def test_nothing_but_holes_is_blank():
    for value in (np.nan, np.inf, -3.4028235e38, 0.5):
        assert reason_of(tiff(np.full((9, 9), value, np.float32), photometric="minisblack")) == "blank"


# ---- which way is up ----

# What each orientation stores in the first row and the first column: TIFF 6.0, page 36.
AS_STORED = {
    1: lambda film: film,
    2: lambda film: film[:, ::-1],
    3: lambda film: film[::-1, ::-1],
    4: lambda film: film[::-1],
    5: lambda film: film.T,
    6: lambda film: np.rot90(film, 1),
    7: lambda film: film[::-1, ::-1].T,
    8: lambda film: np.rot90(film, -1),
}


def oriented(film, orientation):
    """The film as stored under an orientation, in every kind of file that can say so."""
    stored, tag = np.ascontiguousarray(AS_STORED[orientation](film)), (274, "H", 1, orientation, True)
    plain, found = pillow(stored, "PNG"), exif(orientation)
    profile = b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n{len(found):8}\n{found.hex()}\n".encode())
    return [
        tiff(stored, photometric="minisblack", extratags=[tag]),
        pillow(stored, "JPEG", quality=95, exif=found),
        with_chunk(plain, b"eXIf", found.removeprefix(b"Exif\0\0")),
        with_chunk(plain, b"zTXt", profile),
    ]


@pytest.mark.parametrize("orientation", AS_STORED)
def test_a_picture_that_says_how_it_is_turned_comes_out_upright(orientation):
    film = np.add.outer(np.arange(40) * 5, np.arange(24)).astype(np.uint8)
    for data in oriented(film, orientation):
        found = read_radiograph(data, ANY)
        assert found.source_size == film.shape
        assert found.notes == (("turned",) if orientation > 1 else ())
        assert np.abs(found.pixels.astype(int) - film).max() <= 3
        cut = read_radiograph(data, ANY, (4, 10, 20, 30))
        assert cut.box == (4, 10, 20, 30)
        assert np.abs(cut.pixels.astype(int) - film[10:30, 4:20]).max() <= 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    found = read_radiograph(tiff(GREY8, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)]), ANY)
    np.testing.assert_array_equal(found.pixels, GREY8)
    assert found.notes == ()


def test_the_orientation_of_a_text_about_the_picture_is_not_the_pictures():
    text = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    exif = Image.Exif()
    assert np.array_equal(shown(pillow(GREY8, "JPEG", xmp=text)), shown(pillow(GREY8, "JPEG")))
    exif[274] = 3
    assert np.array_equal(shown(pillow(GREY8, "JPEG", xmp=text, exif=exif)), shown(pillow(GREY8, "JPEG"))[::-1, ::-1])


def test_exif_that_cannot_be_read_says_nothing():
    data = with_chunk(pillow(GREY8, "PNG"), b"eXIf", b"MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(shown(data), GREY8)


# ---- what comes along with the picture ----

MUCH = zlib.compress(np.random.default_rng(0).integers(0, 4, 3 << 20).astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"iCCP", b"profile\0\0" + MUCH),
        (b"zTXt", b"history\0\0" + MUCH),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MUCH),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * (3 << 20)),
        (b"gAMA", b"\0"),
        (b"prVt", b"anything"),
    ],
)
@pytest.mark.parametrize("damaged", [False, True])
def test_metadata_of_a_png_changes_nothing(kind, content, damaged):
    np.testing.assert_array_equal(shown(with_chunk(pillow(GREY8, "PNG"), kind, content, damaged)), GREY8)


def test_texts_of_a_png_beyond_what_pillow_holds(monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1000)
    np.testing.assert_array_equal(shown(with_chunk(pillow(GREY8, "PNG"), b"tEXt", b"note\0" + b"x" * 2000)), GREY8)


def pages(*kinds, subifds=0):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for number, (array, kind) in enumerate(kinds):
            below = {"subifds": subifds} if subifds and number == 0 else {}
            photometric = "mask" if kind == MASK else "minisblack"
            file.write(array, subfiletype=kind, photometric=photometric, metadata=None, **below)
    return buffer.getvalue()


FULL, REDUCED, PAGE, MASK = 0, 1, 2, 4
SMALL = GREY8[::4, ::4].copy()


@pytest.mark.parametrize(
    "data",
    [
        pages((GREY8, FULL), (SMALL, REDUCED)),
        pages((SMALL, REDUCED), (GREY8, FULL)),
        pages((GREY8, FULL), (SMALL, REDUCED), (SMALL[::2], REDUCED), (GREY8 > 9, MASK)),
        pages((GREY8, PAGE), (SMALL, REDUCED)),
        pages((GREY8, FULL), (SMALL, REDUCED), subifds=1),
        pages((SMALL, REDUCED), (GREY8, FULL), subifds=1),
        pages(*[(GREY8, REDUCED)]),
    ],
)
def test_thumbnails_and_masks_are_no_pages(data):
    np.testing.assert_array_equal(shown(data), GREY8)


@pytest.mark.parametrize("kinds", [(FULL, FULL), (PAGE, PAGE), (FULL, FULL, REDUCED), (REDUCED, REDUCED)])
def test_several_pages_are_several(kinds):
    assert reason_of(pages(*((GREY8, kind) for kind in kinds))) == "multi_frame"


def test_several_pictures_in_a_png_or_jpeg():
    buffer = io.BytesIO()
    frames = [Image.fromarray(array) for array in (GREY8, 255 - GREY8)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    assert reason_of(buffer.getvalue()) == "multi_frame"
    buffer = io.BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    assert reason_of(buffer.getvalue()) == "multi_frame"
    undefined, thumbnail = struct.pack("<I", 0), struct.pack("<I", 0x010001)
    place = buffer.getvalue().index(undefined + struct.pack("<I", len(pillow(255 - GREY8, "JPEG"))))
    changed = buffer.getvalue()[:place] + thumbnail + buffer.getvalue()[place + 4 :]
    assert np.abs(shown(changed) - shown(pillow(GREY8, "JPEG"))).max() == 0


# ---- damage ----


def test_a_strip_or_tile_that_is_not_there_is_not_shown_as_black():
    whole = tiff(TWELVE, photometric="minisblack", compression="deflate", rowsperstrip=16)
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        offsets, counts = file.pages.first.tags[273], file.pages.first.tags[279]
    assert offsets.count == counts.count == 4
    sizes = {1: "B", 3: "H", 4: "I"}
    for tag, value in ((offsets, 0), (offsets, len(whole)), (counts, 0), (counts, 60_000)):
        changed = bytearray(whole)
        step = struct.calcsize(sizes[tag.dtype])
        struct.pack_into(f"<{sizes[tag.dtype]}", changed, tag.valueoffset + 2 * step, value)
        assert reason_of(bytes(changed)) == "truncated"
    assert reason_of(tiff(TWELVE, photometric="minisblack")[:-2]) == "truncated"
    assert reason_of(whole[:-2]) == "truncated"


def test_a_last_strip_that_is_said_to_be_as_long_as_the_others_and_one_strip_that_holds_all_are_whole():
    whole = tiff(TWELVE, photometric="minisblack", rowsperstrip=15)
    with tifffile.TiffFile(io.BytesIO(whole)) as file:
        counts, ends = file.pages.first.tags[279], file.pages.first.dataoffsets[-1] + file.pages.first.databytecounts[-1]
    assert ends == len(whole)
    assert counts.value[-1] < counts.value[0]
    sizes = {3: "H", 4: "I"}
    changed = bytearray(whole)
    place = counts.valueoffset + (counts.count - 1) * struct.calcsize(sizes[counts.dtype])
    struct.pack_into(f"<{sizes[counts.dtype]}", changed, place, counts.value[0])
    assert np.array_equal(shown(bytes(changed)), shown(whole))
    assert reason_of(bytes(changed[:-2])) == "truncated"
    one = bytearray(tiff(TWELVE, photometric="minisblack"))
    with tifffile.TiffFile(io.BytesIO(bytes(one))) as file:
        rows = file.pages.first.tags[278]
    for number in (0, 1):
        struct.pack_into(f"<{sizes[rows.dtype]}", one, rows.valueoffset, number)
        assert np.array_equal(shown(bytes(one)), shown(whole))


@pytest.mark.parametrize(
    ("channels", "options"), [(1, {}), (3, {}), (3, {"subsampling": 2}), (1, {"restart_marker_rows": 1}), (1, {"quality": 30})]
)
def test_a_jpeg_that_ends_early_but_properly_is_not_shown_with_a_grey_half(channels, options):
    film = (np.add.outer(np.arange(128), np.arange(96)) + np.random.default_rng(0).integers(0, 30, (128, 96))).astype(np.uint8)
    film[64:, 48:] = 0
    film[-16:] = 0  # a dark border, as many have
    whole = pillow(np.squeeze(np.dstack([film] * channels)), "JPEG", **options)
    assert np.abs(shown(whole) - film).mean() < 10
    shown(whole + b"padding")
    start = whole.index(b"\xff\xda")
    for share in (0.3, 0.6, 0.9):
        cut = whole[: start + round((len(whole) - start) * share)].rstrip(b"\xff") + b"\xff\xd9"
        assert np.asarray(Image.open(io.BytesIO(cut))).shape[:2] == film.shape
        assert reason_of(cut) == "truncated"
    profile = cut[:2] + b"\xff\xe2\0\x20" + b"ICC_PROFILE\0\1\1" + bytes(16) + cut[2:]
    assert reason_of(profile) == "truncated"


def test_a_damaged_colour_profile_and_much_behind_the_picture_do_not_make_a_jpeg_incomplete():
    film = GREY8.copy()
    film[-16:] = 0
    whole = pillow(film, "JPEG")
    for profile in (b"no profile at all", bytes(5000)):
        assert np.array_equal(shown(pillow(film, "JPEG", icc_profile=profile)), shown(whole))
    assert np.array_equal(shown(whole + np.random.default_rng(0).bytes(6_000_000)), shown(whole))


def test_a_tile_may_not_be_larger_than_any_radiograph():
    data = bytearray(tiff(GREY8, photometric="minisblack", tile=(16, 16)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = [file.pages.first.tags[name] for name in ("TileWidth", "TileLength")]
    for tag in tags:
        struct.pack_into("<H", data, tag.valueoffset, 65_520)
    assert reason_of(bytes(data)) == "too_large"


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0"])
def test_what_only_begins_like_a_picture_is_none(start, caplog):
    assert reason_of(start + b"\0\0\0\1" * 200) in ("not_an_image", "undecodable")
    assert "KeyError" not in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError, "too_large"), (IndexError, "undecodable"), (RecursionError, "undecodable"), (OSError, "undecodable")],
)
@pytest.mark.parametrize("place", [(picture.Image, "open"), (picture, "one_channel"), (decode, "_to_grey")])
def test_whatever_a_decoder_raises_is_that_files_reason(monkeypatch, caplog, error, reason, place):
    def broken(*_, **__):
        raise error("Mustermann, Erika")

    monkeypatch.setattr(*place, broken)
    with caplog.at_level(logging.DEBUG), pytest.raises(ExcludedRadiograph) as caught:
        read_radiograph(pillow(GREY8, "PNG"), ANY)
    assert caught.value.reason == reason
    assert error.__name__ in caplog.text
    assert "Mustermann" not in caplog.text + str(caught.value)
