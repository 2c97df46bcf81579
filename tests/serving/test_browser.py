"""The page in a real browser, with something in place of the network: drop, choose, slider, refusals, both widths."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn
from browsers import Visit, chromium, needs_chromium
from serving_fakes import ABOUT, CUT_ABOUT, png_bytes, score_brightness, show_grey

from sacro_ray.serving.app import build_app
from sacro_ray.serving.upload import CROP

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    """What was sent to the server, in pieces."""
    return []


@contextmanager
def listening(app) -> Iterator[str]:
    """An application behind a real socket."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(app, bodies) -> Iterator[str]:
    """The application, which notes what it is sent."""

    async def noting(scope, receive, send) -> None:
        async def noted():
            message = await receive()
            bodies.append(message.get("body", b""))
            return message

        await app(scope, noted if scope["type"] == "http" else receive, send)

    with listening(noting) as found:
        yield found


@pytest.fixture(scope="module")
def cut_url() -> Iterator[str]:
    """The application of a run that was trained on radiographs cut to boxes."""
    with listening(build_app(score_brightness, show_grey, CUT_ABOUT)) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser, url, request) -> Iterator[Visit]:
    """A desktop's window, or that of the parameter."""
    width, scheme = getattr(request, "param", (1280, "light"))
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.set_default_timeout(20_000)
    yield Visit(page, url)
    page.close()


both_widths = pytest.mark.parametrize("visit", [(1280, "light"), (390, "dark")], ids=["desktop", "phone"], indirect=True)


def choose(visit: Visit, data: bytes, name: str = "Doe_Jane.png") -> None:
    visit.page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": data})


@both_widths
def test_a_radiograph_is_shown_with_probability_cutoffs_flags_and_slider(visit, picture):
    choose(visit, png_bytes(picture))
    visit.page.wait_for_selector(".answer:not([hidden])")
    page = visit.page
    assert page.inner_text(".probability") == f"{picture.mean() / 255:.3f}"
    assert page.locator(".calls tr").all_inner_texts() == [
        "sensitivity\t0.200\tdefinite",
        "specificity\t0.800\tnot definite",
        "balanced\t0.550\tnot definite",
    ]
    assert page.locator(".label").all_inner_texts() == ["sensitivity 0.200", "balanced 0.550", "specificity 0.800"]
    assert len(page.locator(".remarks li").all()) == 2
    assert "do not rely" in page.inner_text(".remarks")
    assert "12.5 %" in page.inner_text(".familiarity")
    for name in ("radiograph", "overlay"):
        assert page.evaluate(f"document.querySelector('.{name}').naturalWidth") == 80
    opacity = "getComputedStyle(document.querySelector('.overlay')).opacity"
    assert page.evaluate(opacity) == "0.6"
    page.locator(".strength").fill("0")
    assert page.evaluate(opacity) == "0"
    remarks, number = (page.locator(name).bounding_box() for name in (".remarks", ".probability"))
    assert remarks["y"] + remarks["height"] <= number["y"], "the caution comes before the number"
    assert number["y"] + number["height"] - remarks["y"] < 844, "on the same screen"
    assert visit.too_wide_px() <= 0
    assert (visit.said, visit.outside()) == ([], [])
    page.click("#again")
    assert page.is_visible("#drop")
    assert page.locator(".card").count() == 0, "what was shown is given up"


@both_widths
def test_marks_of_cutoffs_stand_where_their_value_is_on_the_scale(visit, picture):
    choose(visit, png_bytes(picture))
    visit.page.wait_for_selector(".answer:not([hidden])")
    bar = visit.page.locator(".bar").bounding_box()
    for mark, cutoff in zip(visit.page.locator(".mark").all(), sorted(ABOUT.cutoffs.values()), strict=True):
        assert (mark.bounding_box()["x"] - bar["x"]) / bar["width"] == pytest.approx(cutoff, abs=0.01)
    for label in visit.page.locator(".label").all():
        box = label.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= visit.page.viewport_size["width"]
    pointer = visit.page.locator(".pointer").bounding_box()
    middle = (pointer["x"] + pointer["width"] / 2 - bar["x"]) / bar["width"]
    assert middle == pytest.approx(picture.mean() / 255, abs=0.01)


DROP = """files => {
    const transfer = new DataTransfer();
    for (const [name, base64] of files) {
        transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    }
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def drop(visit: Visit, **files: bytes) -> None:
    """Drop files of these names at once."""
    visit.page.evaluate(DROP, [[name, base64.b64encode(data).decode()] for name, data in files.items()])


def test_a_dropped_file_is_scored_and_its_name_stays_here(visit, picture, bodies):
    bodies.clear()
    drop(visit, Doe_Jane=png_bytes(picture))
    visit.page.wait_for_selector(".answer:not([hidden])")
    sent = b"".join(bodies)
    assert png_bytes(picture) in sent
    assert b"Doe" not in sent
    assert visit.said == []


def test_files_dropped_at_once_are_scored_one_after_the_other_and_all_are_shown(visit, picture):
    drop(visit, one=png_bytes(picture), none=b"%PDF-1.7", two=png_bytes(255 - picture))
    visit.page.wait_for_selector(".card:last-child .answer:not([hidden])")
    cards = visit.page.locator(".card").all()
    assert [card.locator(".name").inner_text() for card in cards] == ["one", "none", "two"]
    found = [card.locator(".probability").inner_text() for card in (cards[0], cards[2])]
    assert found == [f"{picture.mean() / 255:.3f}", f"{(255 - picture).mean() / 255:.3f}"]
    assert "neither a DICOM file nor" in cards[1].locator(".message.error").inner_text()
    visit.page.wait_for_selector("body:not(.busy)")
    drop(visit, three=png_bytes(picture))
    visit.page.wait_for_selector(".answer:not([hidden])")
    assert visit.page.locator(".name").all_inner_texts() == ["three"], "the next ones replace them"


def test_more_files_than_are_taken_at_once_are_said(visit):
    drop(visit, **{f"f{i}": b"%PDF-1.7" for i in range(21)})
    visit.page.wait_for_selector("body:not(.busy)")
    assert visit.page.locator(".card .message.error").count() == 20
    assert "The first 20 of 21 files are taken" in visit.page.inner_text("#message")


def test_files_that_wait_when_the_page_is_cleared_are_not_sent(visit, picture, bodies):
    sent = len(bodies)
    waiting = {f"f{i}": png_bytes(picture) for i in range(8)}
    visit.page.route("**/score*", lambda route: (visit.page.click("#again"), route.continue_()))
    drop(visit, **waiting)
    visit.page.wait_for_selector("body:not(.busy)")
    visit.page.unroute("**/score*")
    assert b"".join(bodies[sent:]).count(png_bytes(picture)) == 1
    assert visit.page.locator(".card").count() == 0


@pytest.fixture
def boxing(browser, cut_url) -> Iterator[Visit]:
    """The page of a run that was trained on radiographs cut to boxes."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(20_000)
    yield Visit(page, cut_url)
    page.close()


def test_a_run_that_knows_only_boxes_has_one_drawn_before_it_scores(boxing, picture):
    page = boxing.page
    choose(boxing, png_bytes(picture))
    page.wait_for_selector(".boxing:not([hidden])")
    assert "50 % of the picture's width and 40 % of its height" in page.inner_text(".boxing")
    assert not any("/score" in address for address in boxing.asked), "nothing is scored without a box"
    page.locator(".frame").scroll_into_view_if_needed()
    frame = page.locator(".frame").bounding_box()
    page.mouse.move(frame["x"] + 0.75 * frame["width"], frame["y"] + 0.75 * frame["height"])
    page.mouse.down()  # from the lower right, as some draw
    page.mouse.move(frame["x"] + 0.25 * frame["width"], frame["y"] + 0.25 * frame["height"], steps=4)
    page.mouse.up()
    edges = [int(page.input_value(f"[name={name}]")) for name in CROP]
    assert edges == pytest.approx([40, 30, 120, 90], abs=1)
    drawn = page.locator(".box").bounding_box()
    assert drawn["width"] / frame["width"] == pytest.approx(0.5, abs=0.02)
    for name, edge in zip(CROP, (40, 30, 120, 90), strict=True):
        page.fill(f"[name={name}]", str(edge))
    page.click("text=Score this box")
    page.wait_for_selector(".answer:not([hidden])")
    assert page.inner_text(".probability") == f"{picture[15:45, 20:60].mean() / 255:.3f}"
    page.click("text=Another box")
    assert page.is_hidden(".answer")
    page.fill("[name=crop_right]", "30")
    page.click("text=Score this box")
    assert "This is no box" in page.inner_text(".message.error")
    assert (boxing.said, boxing.outside()) == ([], [])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"%PDF-1.7", "neither a DICOM file nor"),
        (b"poison", "the decoder ended"),
        (b"busy", "try again in a minute"),
        (b"x" * (ABOUT.largest_upload + 1), "larger than 1.5 MiB"),
    ],
    ids=["no image", "not scored", "busy", "too large"],
)
def test_what_is_refused_is_said_and_the_next_file_can_be_dropped(visit, picture, data, says):
    choose(visit, data)
    visit.page.wait_for_selector(".card .message.error")
    assert says in visit.page.inner_text(".card .message")
    assert visit.page.is_visible("#drop")
    assert visit.page.is_hidden(".answer")
    # The browser itself notes a refused request; nothing else is on the console.
    assert all("the server responded with a status of" in line for line in visit.said)
    assert any("/score" in address for address in visit.asked) == (len(data) <= ABOUT.largest_upload)
    choose(visit, png_bytes(picture))
    visit.page.wait_for_selector(".answer:not([hidden])")
    assert visit.page.is_hidden(".card .message")


@pytest.mark.parametrize(("status", "says"), [(503, "too many at once"), (408, "took too long"), (500, "gave no answer")])
def test_refusals_of_the_server_below_are_understood_too(visit, picture, status, says):
    # Ray Serve's own proxy answers with plain text where it lets a request wait too long, or has too many.
    visit.page.route("**/score*", lambda route: route.fulfill(status=status, body="Request timed out"))
    choose(visit, png_bytes(picture))
    visit.page.wait_for_selector(".card .message.error")
    assert says in visit.page.inner_text(".card .message")


def test_a_server_that_is_gone_is_said(visit, picture):
    visit.page.route("**/score*", lambda route: route.abort())
    choose(visit, png_bytes(picture))
    visit.page.wait_for_selector(".card .message.error")
    assert "No answer from the server" in visit.page.inner_text(".card .message")


def test_it_can_be_used_with_keys_alone(visit):
    with visit.page.expect_file_chooser():
        for _ in range(4):
            visit.page.keyboard.press("Tab")
            if visit.page.evaluate("document.activeElement.id") == "file":
                break
        visit.page.keyboard.press("Enter")


def test_the_description_at_docs_loads_nothing_from_elsewhere(browser, url):
    # Under another name than localhost: Swagger's own validator would only then be asked.
    page = browser.new_page()
    page.route(
        "http://hospital.example/**",
        lambda route: route.continue_(url=route.request.url.replace("http://hospital.example/", url)),
    )
    visit = Visit(page, "http://hospital.example/docs")
    page.wait_for_selector("text=/score")
    page.wait_for_load_state("networkidle")
    assert (visit.said, [at for at in visit.asked if not at.startswith(("http://hospital.example/", "data:"))]) == ([], [])
    page.close()


def test_the_tests_see_errors_and_outside_requests(browser, url):
    page = browser.new_page()
    visit = Visit(page, url + "docs")  # which, unlike the page, forbids no outside request
    visit.url = url
    page.evaluate("console.error('x'); fetch('https://outside.example/a').catch(() => 0)")
    page.wait_for_timeout(200)
    assert "x" in visit.said
    assert visit.outside() == ["https://outside.example/a"]
    page.close()


def test_the_page_is_kept_from_outside_requests(visit):
    failed = visit.page.evaluate("fetch('https://outside.example/a').then(() => false, () => true)")
    assert failed
    assert any("Content Security Policy" in line for line in visit.said)


@both_widths
def test_pictures_are_as_large_as_the_page_allows_on_both_widths(visit):
    choose(visit, png_bytes(np.full((400, 300), 90, np.uint8)))
    visit.page.wait_for_selector(".answer:not([hidden])")
    box = visit.page.locator(".radiograph").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(400 / 300, rel=0.01)
    assert box == visit.page.locator(".overlay").bounding_box()
