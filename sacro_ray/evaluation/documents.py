"""What stands beside the report as text: the model card, and the reporting guidelines' items with where each is answered."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from html import unescape
from importlib.resources import files
from typing import Any

from sacro_ray.evaluation.context import ReportContext
from sacro_ray.evaluation.report import Section
from sacro_ray.evaluation.tables import Table, at_cutoffs, confusion, performance
from sacro_ray.evaluation.words import SACROILIITIS, methods, outcome, summary


def checklists(report: str, sections: Sequence[Section], card: str, context: ReportContext) -> dict[str, str]:
    """CLAIM, TRIPOD+AI and STARD-AI as Markdown, by file name.

    An item is answered where this very report, or its model card, has the words that answer it; all others are left to the authors.

    Args:
        report: The HTML of the report.
        sections: Its sections.
        card: The model card.
        context: Its `config` stands in the report.
    """
    guidelines = tomllib.loads(files("sacro_ray.evaluation").joinpath("checklists.toml").read_text(encoding="utf-8"))
    texts = section_texts(report)
    places = {section.id: (f"report.html, section {section.title}", texts[section.id]) for section in sections}
    places["model card"] = ("model_card.md", card)
    places["configuration"] = ("report.html, section Methods and configuration (the experiment file)", context.config or "")
    return {f"{name}.md": _checklist(guideline, places) for name, guideline in guidelines.items()}


def section_texts(report: str) -> dict[str, str]:
    """What a reader of the report finds in each section, by its id: the text without tags, with single spaces."""
    found = re.findall(r'<section id="([^"]*)">(.*?)</section>', report, re.DOTALL)
    return {name: " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split()) for name, text in found}


def _checklist(guideline: Mapping[str, Any], places: Mapping[str, tuple[str, str]]) -> str:
    lines = [
        f"# {guideline['title']}",
        "",
        f"Items in short, after: {guideline['source']}.",
        "",
        "| item | topic | answered in |",
    ]
    lines += ["|---|---|---|"]
    answered = 0
    for number, topic, where, *words in guideline["items"]:
        place, text = places.get(where, ("", ""))
        found = bool(words) and all(any(word in text for word in either.split("|")) for either in words)
        answered += found
        lines.append(f"| {number} | {topic} | {place if found else '**authors**'} |")
    lines += [
        "",
        f"{answered} items are answered or begun by this evaluation; {len(guideline['items']) - answered} are the authors'.",
    ]
    return "\n".join(lines) + "\n"


def model_card(metrics: Mapping[str, Any], context: ReportContext) -> str:
    """A model card (Mitchell et al. 2019) as Markdown, from what this evaluation knows."""
    finding = outcome(context)
    field = (
        "Research on conventional pelvic radiographs of adults with suspected or known axial spondyloarthritis: a score for definite "
        "radiographic sacroiliitis (modified New York criteria). Not for children, other joints, magnetic resonance or computed tomography."
        if finding == SACROILIITIS
        else f"Research on conventional radiographs like those it was trained on: a score for {finding}."
    )
    parts = [f"# Model card: {context.title}", ""]
    if context.simulated:
        parts += ["**SIMULATED DATA: these numbers say that the program works, and nothing about patients.**", ""]
    parts += [
        "## Intended use",
        "",
        field + " It is no medical device, and not for decisions about a single patient.",
        "",
        "## Performance",
        "",
        *(line for remark in metrics["remarks"] for line in (f"**Remark:** {remark}.", "")),
        *(line for paragraph in summary(metrics, finding) for line in (paragraph, "")),
        *_markdown(performance(metrics)),
    ]
    for split in ("validation", "test"):
        if split in metrics:
            parts += [*_markdown(at_cutoffs(split, metrics[split])), *_markdown(confusion(split, metrics[split]))]
    parts += ["## How the numbers were made", "", *(line for paragraph in methods() for line in (paragraph, ""))]
    parts += [
        "## Limits",
        "",
        "- The reference is the readers' judgement of the same radiograph, not magnetic resonance imaging or the course of the disease.",
        "- Radiographs on which readers differ without a third reading have no reference; performance on them is not known.",
        "- Another site, device or population can change both the order of the scores and the right cut-off: check on local radiographs.",
        "",
    ]
    facts = [f"- {name} {version}" for name, version in sorted(context.versions.items())]
    if context.data_digest:
        facts.append(f"- data digest: {context.data_digest}")
    if facts:
        parts += ["## Versions and data", "", *facts, ""]
    return "\n".join(parts)


def _markdown(table: Table) -> list[str]:
    head = [f"### {table.title}", "", "| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    note = [table.note, ""] if table.note else []
    return [*head, *("| " + " | ".join(row) + " |" for row in table.text_rows()), "", *note]
