import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from sacro_ray.config import Prepare
from sacro_ray.imaging.codestream import stated
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph

FILM = np.random.default_rng(0).integers(0, 255, (37, 61)).astype(np.uint8)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_size_of_dicom_frames(make_dicom, syntax):
    dataset = pydicom.dcmread(io.BytesIO(make_dicom(FILM, syntax)))
    assert stated(next(generate_frames(dataset.PixelData, number_of_frames=1)))[:2] == (37, 61)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_size_of_jpeg(options):
    buffer = io.BytesIO()
    Image.fromarray(FILM).save(buffer, format="JPEG", comment=b"x" * 300, **options)
    data = buffer.getvalue()
    assert stated(data)[:2] == (37, 61)
    for end in range(0, len(data), 7):
        assert (stated(data[:end]) or (37, 61))[:2] == (37, 61)
    assert stated(b"RLE has no size") is None


def test_a_codestream_that_claims_millions_of_columns_is_not_decoded(make_dicom):
    dataset = pydicom.dcmread(io.BytesIO(make_dicom(FILM, JPEG2000Lossless)))
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    place = frame.find(b"\xff\x4f\xff\x51")
    frame[place + 8 : place + 12] = (7_799_115).to_bytes(4, "big")
    dataset.PixelData = encapsulate([bytes(frame)])
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(ExcludedRadiograph) as caught:
        read_radiograph(buffer.getvalue(), Prepare())
    assert caught.value.reason == "undecodable"
