"""Whatever is sent, as the description allows or not: an answer of the described kind, never a 5xx."""

import numpy as np
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving_fakes import ABOUT, png_bytes, score_brightness, show_grey

from sacro_ray.serving.app import build_app

schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(score_brightness, show_grey, ABOUT))
quick = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@schema.parametrize()
@settings(quick, max_examples=40)
def test_no_request_is_a_fault_of_the_server(case):
    # Most bytes are no image, and are refused as they should be.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    + png_bytes(np.arange(64, dtype=np.uint8).reshape(8, 8))
    + b"\r\n--x--\r\n"
)


@given(
    st.lists(st.tuples(st.integers(0, len(FORM) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(FORM)),
    st.integers(0, 40),
    st.sampled_from(["x", "x; charset=utf-16", "y", "", '"x"', "x; charset=none", "x\0"]),
)
@settings(quick, max_examples=150)
def test_a_damaged_form_is_refused_or_read(ask, changes, start, dropped, boundary):
    body = bytearray(FORM)
    for place, value in changes:
        body[place] = value
    del body[start : start + dropped]
    response = ask("POST", "/score", content=bytes(body), headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert response.status_code in (200, 415, 422)
    assert response.status_code == 200 or response.json()["reason"]
