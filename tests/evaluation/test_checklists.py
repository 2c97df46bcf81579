"""The reporting guidelines: an item is answered where the report says it, and nowhere else."""

import re
import tomllib
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from sacro_ray.evaluation.documents import section_texts

GUIDELINES = tomllib.loads(files("sacro_ray.evaluation").joinpath("checklists.toml").read_text(encoding="utf-8"))
POINTERS = [(name, *item) for name, guideline in GUIDELINES.items() for item in guideline["items"] if item[2] != "authors"]


class Sections(HTMLParser):
    """The text of each section as a browser would show it, and its title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.titles: dict[str, str] = {}
        self.at, self.heading = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.at = str(dict(attrs)["id"])
        self.heading = tag == "h2"

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self.at = ""

    def handle_data(self, data: str) -> None:
        if self.heading and data.strip():
            self.titles[data.strip()] = self.at
        self.texts[self.at] = f"{self.texts.get(self.at, '')} {' '.join(data.split())}"


def answers(report: Path, guideline: str) -> list[tuple[str, str, str]]:
    """Number, topic and place of each item of a checklist that was written."""
    lines = (report.parent / "checklists" / f"{guideline}.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [(number, topic, where) for number, topic, where in rows if number != "item"]


def test_every_pointer_of_a_whole_report_leads_to_text_that_says_it(report: Path) -> None:
    page = Sections(report.read_text(encoding="utf-8"))
    card = (report.parent / "model_card.md").read_text(encoding="utf-8")
    configuration = re.search("<pre>(.*?)</pre>", report.read_text(encoding="utf-8"), re.DOTALL)[1].replace("&#34;", '"')
    places = {(name, number, topic): place for name in GUIDELINES for number, topic, place in answers(report, name)}
    for guideline, number, topic, where, *words in POINTERS:
        place = places[guideline, number, topic]
        if place == "model_card.md":
            text = card
        elif place.endswith("(the experiment file)"):
            text = configuration
        else:
            title = place.removeprefix("report.html, section ")
            assert page.titles[title] == where
            text = page.texts[where]
        assert words, f"{guideline} {number} {topic}: which words answer it?"
        for either in words:
            assert any(word in text for word in either.split("|")), f"{guideline} {number} {topic}: no {either!r} in {place}"


def test_the_text_of_a_section_is_what_a_browser_shows(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    shown = Sections(page).texts
    for name, text in section_texts(page).items():
        assert text.split() == shown[name].split()


@pytest.mark.parametrize(
    ("guideline", "number", "lacking"),
    [
        ("claim", "20", "partitions"),
        ("claim", "36", "a baseline"),
        ("claim", "30", "robustness"),
        ("claim", "9", "a configuration"),
        ("claim", "31", "Grad-CAM"),
        ("tripod_ai", "12d", "sites"),
        ("stard_ai", "15", "readers who differ"),
    ],
)
def test_what_predictions_alone_do_not_say_is_left_to_the_authors(
    bare: Path, guideline: str, number: str, lacking: str
) -> None:
    (place,) = [where for n, _, where in answers(bare, guideline) if n == number]
    assert place == "**authors**", lacking


def test_what_they_do_say_is_pointed_to(bare: Path) -> None:
    places = {number: where for number, _, where in answers(bare, "claim")}
    assert places["37"] == "report.html, section ROC and precision-recall"
    assert places["33"] == "**authors**", "there is no test set"
