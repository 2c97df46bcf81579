"""The page on Ray Serve in a real browser: a DICOM file, a PNG, a file that is none, one too large."""

from pathlib import Path

import numpy as np
import pytest
from browsers import Visit, chromium, needs_chromium
from serving_fakes import noise, png_bytes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300), needs_chromium]


def test_files_of_all_kinds_one_after_the_other(served_run, make_dicom, tmp_path: Path):
    films = {
        "film.dcm": make_dicom(np.random.default_rng(0).integers(0, 4096, (300, 200)).astype(np.uint16)),
        "film.png": png_bytes(noise()),
        "letter.pdf": b"%PDF-1.7",
        "huge.dcm": b"x" * (2**20 + 1),
    }
    for name, data in films.items():
        (tmp_path / name).write_bytes(data)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        visit = Visit(page, served_run)
        probabilities = []
        for name in ("film.dcm", "film.png"):
            page.set_input_files("#file", tmp_path / name)
            page.wait_for_selector(".answer:not([hidden])")
            probabilities.append(page.inner_text(".probability"))
            assert [page.evaluate(f"document.querySelector('.{name}').naturalWidth") for name in ("radiograph", "overlay")] == [
                384
            ] * 2
            page.click("#again")
        assert probabilities[0] != probabilities[1]
        assert (visit.said, visit.outside()) == ([], [])
        for name, says in (("letter.pdf", "neither DICOM nor TIFF"), ("huge.dcm", "larger than 1 MiB")):
            page.set_input_files("#file", tmp_path / name)
            page.wait_for_selector(".card .message.error")
            assert says in page.inner_text(".card .message")
            page.wait_for_selector("body:not(.busy)")
        assert all("the server responded with a status of 415" in line for line in visit.said)
        assert visit.outside() == []
