"""What `POST /score` answers to good and bad uploads, and what the pages load."""

import asyncio
import json
import re
import tempfile
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from serving_fakes import ABOUT, CUT_ABOUT, png_bytes, score_brightness, show_grey

from sacro_ray.imaging.remarks import REMARKS
from sacro_ray.serving.app import PAGE, build_app
from sacro_ray.serving.upload import CROP

LIMIT = ABOUT.largest_upload


def upload(data: bytes, field: str = "file") -> dict:
    return {"files": {field: ("Doe_Jane.png", data)}}


def test_a_radiograph_is_answered_with_probability_and_calls(ask, picture):
    response = ask("POST", "/score", **upload(png_bytes(picture)))
    assert response.status_code == 200
    answer = response.json()
    assert answer["probability"] == pytest.approx(picture.mean() / 255)
    assert answer["calls"] == {
        "sensitivity": {"cutoff": 0.2, "definite": True},
        "specificity": {"cutoff": 0.8, "definite": False},
        "balanced": {"cutoff": 0.55, "definite": False},
    }
    assert (answer["quality"], answer["familiarity"]) == (["small", "unfamiliar"], 12.5)
    assert "research use only" in answer["notice"]
    assert answer["radiograph"] is answer["overlay"] is None
    assert response.headers["cache-control"] == "no-store"


def test_remarks_are_sentences_before_the_number(ask, picture):
    answer = ask("POST", "/score", **upload(png_bytes(picture))).json()
    assert answer["remarks"] == [REMARKS["unfamiliar"], REMARKS["small"]]
    assert list(answer).index("remarks") < list(answer).index("probability")


def cropped(data: bytes, *edges: object) -> dict:
    return {**upload(data), "data": dict(zip(CROP, map(str, edges), strict=False))}


def test_a_box_cuts_the_radiograph_and_one_that_is_needed_is_asked_for(ask, picture):
    cut = build_app(score_brightness, show_grey, CUT_ABOUT)
    boxed = cropped(png_bytes(picture), 20, 10, 100, 80)
    for application in (None, cut):
        answer = ask("POST", "/score", **({"application": application} if application else {}), **boxed)
        assert answer.json()["probability"] == pytest.approx(picture[5:40, 10:50].mean() / 255)
    refused = ask("POST", "/score", application=cut, **upload(png_bytes(picture)))
    assert (refused.status_code, refused.json()["reason"]) == (422, "no_box")
    assert "crop_left, crop_top, crop_right, crop_bottom" in refused.json()["detail"]
    assert 'data-box-needed="true"' in ask("GET", "/", application=cut).text
    assert 'data-box-needed="false"' in ask("GET", "/").text


WRONG_BOXES = [
    (1,),
    (1, 2, 3),
    (5, 1, 5, 9),
    (1, 9, 5, 9),
    (9, 1, 5, 9),
    (-1, 1, 5, 9),
    (1.5, 1, 5, 9),
    ("a", 1, 5, 9),
    ("", 1, 5, 9),
]


@pytest.mark.parametrize("edges", WRONG_BOXES, ids=map(str, WRONG_BOXES))
def test_half_a_box_and_one_that_cannot_be_are_refused(ask, picture, edges):
    answer = ask("POST", "/score", **cropped(png_bytes(picture), *edges))
    assert (answer.status_code, answer.json()["reason"]) == (422, "wrong_box")
    assert "whole numbers of pixels" in answer.json()["detail"]


def test_the_whole_picture_is_shown_to_draw_on_with_the_size_of_the_file(ask, picture):
    answer = ask("POST", "/picture", **upload(png_bytes(picture)))
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == (160, 120)
    assert answer.json()["picture"].startswith("data:image/png;base64,")
    assert answer.headers["cache-control"] == "no-store"
    assert ask("POST", "/picture", **upload(b"%PDF")).json()["reason"] == "not_an_image"
    assert ask("POST", "/picture", **upload(b"x" * (LIMIT + 1))).status_code == 413


def test_overlays_are_sent_where_they_are_asked_for(ask, picture):
    answer = ask("POST", "/score?overlay=true", **upload(png_bytes(picture))).json()
    assert answer["radiograph"].startswith("data:image/png;base64,")
    assert answer["overlay"].startswith("data:image/png;base64,")


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
REFUSED = {
    "no image": (upload(b"%PDF-1.7"), 415, "not_an_image"),
    "empty": (upload(b""), 415, "not_an_image"),
    "not scored": (upload(b"poison"), 422, "decoder_crashed"),
    "network gone": (upload(b"busy"), 503, "not_ready"),
    "no form": ({"content": b"\x89PNG", "headers": {"Content-Type": "image/png"}}, 415, "not_a_form"),
    "no type": ({"content": b"\x89PNG"}, 415, "not_a_form"),
    "nothing at all": ({}, 415, "not_a_form"),
    "json": ({"json": {"file": "x"}}, 415, "not_a_form"),
    "another field": (upload(b"x", "image"), 422, "no_file"),
    "a field that is no file": ({"data": {"file": "x"}, "files": {"other": b""}}, 422, "no_file"),
    "two files": ({"files": [("file", b"1"), ("file", b"2")]}, 422, "damaged_form"),
    "many fields": ({"data": {f"f{i}": "x" for i in range(9)}, "files": {"file": b"1"}}, 422, "damaged_form"),
    "a long field": ({"data": {"f": "x" * (2**20 + 1)}, "files": {"file": b"1"}}, 422, "damaged_form"),
    "no boundary": ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "damaged_form"),
    "a form of nonsense": ({"content": b"nonsense", "headers": FORM}, 422, "damaged_form"),
    "an empty form": ({"content": b"", "headers": FORM}, 422, "no_file"),
    "a part without a name": (
        {"content": b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n", "headers": FORM},
        422,
        "damaged_form",
    ),
    "too large": (upload(b"x" * (LIMIT + 1)), 413, "too_large_file"),
    "much too large": (upload(b"x" * (3 * LIMIT)), 413, "too_large_file"),
}


@pytest.mark.parametrize(("sent", "status", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_scored_is_refused_with_a_reason(ask, sent, status, reason):
    response = ask("POST", "/score", **sent)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert response.json()["detail"]
    assert "Doe" not in response.text
    assert response.headers["cache-control"] == "no-store"


def test_the_largest_allowed_file_is_taken(ask, picture):
    data = png_bytes(picture)
    assert ask("POST", "/score", **upload(data + b"\0" * (LIMIT - len(data)))).status_code == 200
    assert ask("POST", "/score", **upload(data + b"\0" * (LIMIT - len(data) + 1))).status_code == 413


def test_a_form_in_chunks_of_unknown_length_is_held_to_the_limit(ask):
    async def chunks(count: int):
        yield b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
        for _ in range(count):
            yield b"y" * 2**16
        yield b"\r\n--x--\r\n"

    most = LIMIT // 2**16
    assert ask("POST", "/score", content=chunks(most), headers=FORM).json()["reason"] == "not_an_image"
    assert ask("POST", "/score", content=chunks(most + 2), headers=FORM).json()["reason"] == "too_large_file"


def test_a_wrong_parameter_is_refused(ask, picture):
    response = ask("POST", "/score?overlay=maybe", **upload(png_bytes(picture)))
    assert (response.status_code, response.json()["reason"]) == (422, "wrong_parameter")


@pytest.mark.parametrize("body", [b"", b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nhalf"])
def test_an_upload_that_breaks_off_is_no_fault_of_the_server(app: FastAPI, body):
    messages = [{"type": "http.request", "body": body, "more_body": True}, {"type": "http.disconnect"}]
    sent: list[dict] = []

    async def receive() -> dict:
        return messages.pop(0)

    async def send(message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": headers, "root_path": ""}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["reason"] == "disconnected"


def test_nothing_is_spooled_to_the_disk(ask, picture, monkeypatch):
    # Starlette's form parser opens this one file for each upload; beyond its limit it would roll over to the disk.
    opened = []

    class Watched(tempfile.SpooledTemporaryFile):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            opened.append(self)

        def rollover(self):
            raise AssertionError("an upload went to the disk")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Watched)
    data = png_bytes(picture)
    assert ask("POST", "/score", **upload(data + b"\0" * (LIMIT - len(data)))).status_code == 200
    assert ask("POST", "/score", **upload(b"x" * (LIMIT + 1))).status_code == 413
    assert [file.closed for file in opened] == [True, True]


class Addresses(HTMLParser):
    """All that a page's elements load or lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attributes if name in ("src", "href", "action", "srcset", "data")]


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere_and_all_they_load_is_there(ask, page):
    response = ask("GET", page)
    assert response.status_code == 200
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+|@import", response.text)
    addresses = Addresses(response.text).found
    assert len(addresses) >= 3
    for address in addresses:
        assert ask("GET", page.rsplit("/", 1)[0] + "/" + address.lstrip("/")).status_code == 200, address


def test_the_pages_own_files_name_no_address():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|@import|url\(", text), path.name


def test_the_page_may_run_and_load_only_its_own(ask):
    policy = dict(part.split(" ", 1) for part in ask("GET", "/").headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert ask("GET", "/").headers["referrer-policy"] == "no-referrer"


def test_the_page_says_whose_it_is_and_what_it_is_for(ask):
    text = ask("GET", "/").text
    assert "For research use only" in text
    assert "a &lt;run&gt;" in text, "escaped"
    assert "up to 1.5 MiB" in text
    assert f'data-largest-bytes="{LIMIT}"' in text


def test_other_paths_and_methods_are_refused(ask):
    assert ask("GET", "/score").status_code == 405
    assert ask("GET", "/nothing").status_code == 404
    assert ask("GET", "/page/../app.py").status_code == 404
    assert ask("GET", "/page/%2e%2e/app.py").status_code == 404


def test_the_description_for_programs_names_the_form_and_every_status(ask):
    described = ask("GET", "/openapi.json").json()
    assert set(described["paths"]) == {"/score", "/picture"}
    score = described["paths"]["/score"]["post"]
    assert set(score["responses"]) == {"200", "400", "413", "415", "422", "503"}
    assert score["requestBody"]["content"]["multipart/form-data"]["schema"]["required"] == ["file"]


def test_a_limit_of_less_than_a_mebibyte_is_written_readably(ask):
    small = build_app(score_brightness, show_grey, replace(ABOUT, largest_upload=2**19))
    assert "up to 0.5 MiB" in ask("GET", "/", application=small).text
