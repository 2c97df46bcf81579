"""Properties over headers, sizes and bit depths, and a fuzz run over damaged files."""

import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from sacro_ray.config import Prepare
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph
from sacro_ray.imaging.exclusion import REASONS


@st.composite
def films(draw):
    """Stored values of any allowed depth, signed or not, with what a header may say of them."""
    bits = draw(st.sampled_from([8, 10, 12, 14, 15, 16]))
    signed = draw(st.booleans())
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(low, high, (height, width), endpoint=True)
    kind = ("int" if signed else "uint") + ("8" if bits == 8 else "16")
    tags = {"PhotometricInterpretation": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))}
    if draw(st.booleans()):
        tags |= {"RescaleSlope": draw(st.sampled_from([1, 0.5, 2.25, -1])), "RescaleIntercept": draw(st.integers(-2000, 2000))}
    if draw(st.booleans()):
        tags |= {"WindowCenter": draw(st.integers(-5000, 70000)), "WindowWidth": draw(st.integers(0, 70000))}
    if draw(st.booleans()):
        tags["VOILUTFunction"] = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    syntax = draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]))
    return values.astype(kind), bits, syntax, tags


@settings(max_examples=150, deadline=None)
@given(film=films(), store=st.integers(32, 50), greyscale=st.sampled_from(["dicom", "percentile"]))
def test_any_film_comes_out_in_order(make_dicom, film, store, greyscale):
    """Size, type and kept order: of two pixels, the one with more in MONOCHROME2 sense is never the darker."""
    values, bits, syntax, tags = film
    data = make_dicom(values, syntax, bits_stored=bits, **tags)
    try:
        found = read_radiograph(data, Prepare(store_size=store, greyscale=greyscale))
    except ExcludedRadiograph as error:
        assert error.reason == "blank"  # noqa: PT017
        return
    height, width = values.shape
    assert found.pixels.dtype == np.uint8
    assert max(found.pixels.shape) == min(store, max(height, width))
    assert found.source_size == (height, width)
    if max(height, width) <= store:
        rising = values.astype(float) * (-1 if tags["PhotometricInterpretation"] == "MONOCHROME1" else 1)
        rising *= -1 if tags.get("RescaleSlope", 1) < 0 else 1
        order = np.argsort(rising.ravel(), kind="stable")
        assert (np.diff(found.pixels.ravel()[order].astype(int)) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(film=films())
def test_both_photometric_senses_agree(make_dicom, film):
    """A film without a window, and its negative sent as the other photometric interpretation."""
    values, bits, syntax, _ = film
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if values.dtype.kind == "i" else (0, 2**bits - 1)
    negative = (low + high - values.astype(int)).astype(values.dtype)
    window = {"WindowCenter": (low + high + 1) / 2, "WindowWidth": high - low + 1}
    outcomes = []
    for pixels, sense in ((values, "MONOCHROME2"), (negative, "MONOCHROME1")):
        try:
            data = make_dicom(pixels, syntax, bits_stored=bits, PhotometricInterpretation=sense, **window)
            outcomes.append(read_radiograph(data, Prepare()).pixels.astype(int))
        except ExcludedRadiograph as error:
            outcomes.append(error.reason)
    if isinstance(outcomes[0], str) or isinstance(outcomes[1], str):
        assert str(outcomes[0]) == str(outcomes[1])
    else:
        assert np.abs(outcomes[0] - outcomes[1]).max() <= 1  # a tie between two levels rounds up in both senses


def pictures():
    """A film as PNG, TIFF and JPEG, in forms whose decoders differ."""
    film = np.random.default_rng(0).integers(0, 256, (24, 32)).astype(np.uint8)
    deep = film.astype(np.uint16) * 16
    for array, options in (
        (film, {"format": "PNG"}),
        (np.dstack([film] * 4), {"format": "PNG"}),
        (film, {"format": "JPEG"}),
        (np.dstack([film] * 3), {"format": "JPEG", "progressive": True}),
    ):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, **options)
        yield buffer.getvalue()
    yield imagecodecs.png_encode(np.dstack([deep] * 3))
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    for array, options in (
        (deep, {"compression": "deflate", "tile": (16, 16), "predictor": 2}),
        (deep.astype(np.float32), {"rowsperstrip": 5, "extratags": [(274, "H", 1, 6, True)]}),
        (film, {"photometric": "palette", "colormap": ramp}),
        (np.dstack([film] * 4), {"photometric": "separated", "compression": "lzw"}),
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **{"photometric": "minisblack", **options})
        yield buffer.getvalue()


@pytest.mark.parametrize("data", list(pictures()))
def test_damaged_pictures_have_a_listed_reason(data):
    rng = np.random.default_rng(len(data))
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(8, min(len(data), 400))] = rng.integers(0, 256)
        if rng.random() < 0.2:
            changed = changed[: rng.integers(1, len(changed))]
        try:
            assert read_radiograph(bytes(changed), Prepare()).pixels.ndim == 2
        except ExcludedRadiograph as error:
            assert error.reason in REASONS  # noqa: PT017


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_have_a_listed_reason(make_dicom, seed):
    """A short fuzz run; benchmarks/fuzz_decoding.py is the long one, its figures are in docs/preparation.md."""
    rng = np.random.default_rng(seed)
    film = rng.integers(0, 4000, (24, 24)).astype(np.uint16)
    syntax = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless)[seed]
    data = make_dicom(film, syntax, WindowCenter=2000, WindowWidth=4000, PixelSpacing=[0.1, 0.1], PatientName="A^B")
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            changed[rng.integers(128, len(changed))] = rng.integers(0, 256)
        if rng.random() < 0.2:
            changed = changed[: rng.integers(1, len(changed))]
        try:
            assert read_radiograph(bytes(changed), Prepare()).pixels.ndim == 2
        except ExcludedRadiograph as error:
            assert error.reason in REASONS  # noqa: PT017
