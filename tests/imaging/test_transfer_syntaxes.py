"""Every transfer syntax that a permissive decoder reads, the pixels encoded by another library than the one that decodes."""

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
import pydicom
import pytest
from cohorts import dicom_bytes
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from sacro_ray.config import Prepare
from sacro_ray.imaging.decode import read_radiograph

FILM = (np.add.outer(np.arange(64), np.arange(96)) * 24).astype(np.uint16)  # 0 to 3792
LOSSLESS: dict[str, Callable[[], bytes]] = {
    JPEGLossless: lambda: imagecodecs.ljpeg_encode(FILM, bitspersample=12),
    JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(FILM, bitspersample=12),
    JPEGLSLossless: lambda: imagecodecs.jpegls_encode(FILM),
    JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(FILM, codecformat="j2k", reversible=True, level=0),
    HTJ2KLossless: lambda: imagecodecs.htj2k_encode(FILM, reversible=True),
    HTJ2KLosslessRPCL: lambda: imagecodecs.htj2k_encode(FILM, reversible=True),
    HTJ2K: lambda: imagecodecs.htj2k_encode(FILM, reversible=True),
}


def encapsulated(data: bytes, syntax: str, frame: bytes) -> bytes:
    """The same DICOM file with its pixels replaced by one compressed frame."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: pydicom.uid.UID(syntax).name)
def test_lossless_syntaxes_give_the_same_film(syntax):
    plain = dicom_bytes(FILM, WindowCenter=2048, WindowWidth=4096)
    both = (plain, encapsulated(plain, syntax, LOSSLESS[syntax]()))
    expected, found = (read_radiograph(data, Prepare(), digest=True) for data in both)
    assert found.greyscale == "window"
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert found.stored_sha256 == expected.stored_sha256 != ""


def test_lossy_jpeg_of_8_and_of_12_bits():
    eight = (FILM // 24).astype(np.uint8)
    for film, bits, syntax in ((eight, 8, JPEGBaseline8Bit), (FILM, 12, JPEGExtended12Bit)):
        plain = dicom_bytes(film, bits_stored=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
        frame = imagecodecs.jpeg_encode(film, bitspersample=bits, level=95)
        expected, found = (
            read_radiograph(d, Prepare()).pixels.astype(int) for d in (plain, encapsulated(plain, syntax, frame))
        )
        assert np.abs(found - expected).max() <= 1


def test_a_film_is_known_again_under_another_crop_and_window(make_dicom):
    one = read_radiograph(make_dicom(FILM, WindowCenter=2048, WindowWidth=4096), Prepare(), digest=True)
    other = read_radiograph(make_dicom(FILM, WindowCenter=1000, WindowWidth=3000), Prepare(), (0, 0, 50, 60), digest=True)
    another = read_radiograph(make_dicom(FILM + 1, WindowCenter=2048, WindowWidth=4096), Prepare(), digest=True)
    assert other.pixels.shape != one.pixels.shape
    assert other.stored_sha256 == one.stored_sha256 != another.stored_sha256
