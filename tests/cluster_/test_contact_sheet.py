"""The contact sheet: on each radiograph the cautions before the number, and those that could not be scored, with the reason."""

import html
import re
from pathlib import Path

import numpy as np
import pytest
from browsers import Visit, chromium, needs_chromium
from PIL import Image

from sacro_ray.cluster.scoring_overlays import write_contact_sheet
from sacro_ray.imaging.remarks import REMARKS

CUTOFFS = {"sensitivity": 0.2, "specificity": 0.8, "balanced": 0.5}


def scored(name: str, probability: float, quality: str = "") -> dict:
    calls = {f"definite_{cutoff}": int(probability >= value) for cutoff, value in CUTOFFS.items()}
    row = {"input": name, "status": "ok", "error": "", "probability": probability, "quality": quality}
    return {**row, **calls, "overlay": "overlays/00000000.png"}


ROWS = [
    scored("low.dcm", 0.1),
    scored("<high>.dcm", 0.91, "small unfamiliar never_heard_of"),
    {**scored("broken.dcm", 0.0), "status": "error", "error": "truncated: fewer pixels than promised", "probability": None},
    scored("middle.dcm", 0.5, "unfamiliar"),
]


@pytest.fixture
def sheet(tmp_path) -> Path:
    (tmp_path / "overlays").mkdir()
    Image.fromarray(np.full((384, 384, 3), 90, np.uint8)).save(tmp_path / "overlays" / "00000000.png")
    write_contact_sheet(tmp_path / "contact_sheet.html", iter(ROWS), CUTOFFS, "a run")
    return tmp_path / "contact_sheet.html"


def words_of(page: str) -> list[str]:
    """The text between the tags, in order."""
    return [html.unescape(text).strip() for text in re.findall(r">([^<]+)<", page.partition("<body>")[2]) if text.strip()]


def test_cautions_stand_before_the_number_and_errors_with_their_reason(sheet):
    words = words_of(sheet.read_text())
    high, middle, low = (words.index(name) for name in ("<high>.dcm", "middle.dcm", "low.dcm"))
    assert words[high : middle + 3] == [
        "<high>.dcm", REMARKS["unfamiliar"], REMARKS["small"], "Never heard of.", "0.910",
        "sensitivity: definite · specificity: definite · balanced: definite", "middle.dcm", REMARKS["unfamiliar"], "0.500",
    ]  # fmt: skip
    assert words[low + 1] == "0.100"
    assert words[words.index("broken.dcm") :] == ["broken.dcm", "fewer pixels than promised", "truncated"]


def test_the_sheet_begins_with_how_many_carry_which_remark_and_how_many_are_missing(sheet):
    words = words_of(sheet.read_text())
    first = words.index("<high>.dcm")
    assert "2 of 3 radiographs carry a remark, which stands above the number." in words[:first]
    assert words[words.index(REMARKS["unfamiliar"]) + 1] == "2"
    assert "1 of 4 radiographs could not be scored" in words[:first]


def test_a_sheet_without_remarks_and_errors_speaks_of_none(tmp_path):
    write_contact_sheet(tmp_path / "sheet.html", ROWS[:1], CUTOFFS, "a run")
    text = tmp_path.joinpath("sheet.html").read_text()
    assert "Before you read" not in text
    assert "Not scored" not in text
    write_contact_sheet(tmp_path / "sheet.html", ROWS[2:3], CUTOFFS, "a run")
    assert "fewer pixels than promised" in tmp_path.joinpath("sheet.html").read_text()


@needs_chromium
def test_caution_and_number_of_a_radiograph_are_on_one_screen(sheet):
    with chromium() as browser:
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 844})
            visit = Visit(page, sheet.as_uri())
            card = page.locator(".sheet > li").first
            caution, number = (card.locator(name).bounding_box() for name in (".caution", ".probability"))
            assert caution["y"] + caution["height"] <= number["y"]
            assert number["y"] + number["height"] - caution["y"] < 844
            assert visit.too_wide_px() <= 0
            assert visit.said == []
