"""report.html: one file with everything in it, from sections of text, figures and tables."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sacro_ray.evaluation.gallery import Picture
from sacro_ray.evaluation.participants import FlowStep
from sacro_ray.evaluation.plotting import Chart
from sacro_ray.evaluation.tables import Table


@dataclass(frozen=True)
class Card:
    """A number of the summary, with its interval and on whom."""

    label: str
    value: str
    interval: str
    who: str


@dataclass(frozen=True)
class Confusion:
    """A 2 x 2 table in the study's form, with kappa and accuracy as text."""

    split: str
    title: str
    tn: int
    fp: int
    fn: int
    tp: int
    kappa: str
    accuracy: str


@dataclass(frozen=True)
class Section:
    """A part of the report; empty parts are not shown.

    `remarks` are what must be read before the numbers; `files` are tables that are written but shown in another form.
    """

    id: str
    title: str
    text: Sequence[str] = field(default_factory=list)
    remarks: Sequence[str] = field(default_factory=list)
    cards: Sequence[Card] = field(default_factory=list)
    charts: Sequence[Chart] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)
    files: Sequence[Table] = field(default_factory=list)
    flow: Sequence[FlowStep] = field(default_factory=list)
    confusions: Sequence[Confusion] = field(default_factory=list)
    pictures: Sequence[Picture] = field(default_factory=list)
    code: str = ""


def render(title: str, finding: str, sections: Sequence[Section], simulated: bool) -> str:
    """The report as an HTML document.

    Args:
        title: Its heading.
        finding: What the network detects.
        sections: In their order.
        simulated: Whether a banner says that the data are simulated.
    """
    package = files("sacro_ray.evaluation")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(package.joinpath("report.html").read_text(encoding="utf-8"))
    document = template.render(
        title=title,
        finding=finding,
        sections=[_prepared(section) for section in sections],
        banner=banner() if simulated else "",
        css=Markup(package.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(package.joinpath("hover.html").read_text(encoding="utf-8")),
    )
    return re.sub(r"(\d)–(\d)", "\\1\u2060–\u2060\\2", document)  # word joiners keep an interval on one line


def banner() -> Markup:
    """What every page about simulated radiographs says at its top, as HTML for report.css."""
    return Markup(files("sacro_ray.evaluation").joinpath("banner.html").read_text(encoding="utf-8"))


def _prepared(section: Section) -> dict[str, Any]:
    splits = list(dict.fromkeys(confusion.split for confusion in section.confusions))
    confusions = [(split, [c for c in section.confusions if c.split == split]) for split in splits]
    charts = [
        {
            "title": c.title,
            "caption": c.caption,
            "svg": Markup(c.inline_svg()),
            "hover": json.dumps(c.hover_points()),
            "wide": c.wide,
        }
        for c in section.charts
    ]
    return {
        **section.__dict__,
        "confusions": confusions,
        "charts": charts,
        "tables": [table for table in section.tables if table.rows],
    }
