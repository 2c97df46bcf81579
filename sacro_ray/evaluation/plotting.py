"""How figures look and are written: one palette, SVG and PNG, the same bytes each time.

The report shows the SVG inline and turns the palette's colours into CSS variables, so that one drawing serves light and dark.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Each colour of the figures, by the name of its CSS variable (report.css gives the dark values). Distinguishable with red-green
# blindness, and at least 3:1 against white; lines differ in dash as well as in colour.
INK, MUTED, GRID, PAPER = "#1b2733", "#5b6b7b", "#d4dbe2", "#fefefe"
BLUE, ORANGE, PURPLE, GREEN = "#1f6fb3", "#c4531b", "#7a4fa3", "#2c7f62"
VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BLUE: "blue", ORANGE: "orange", PURPLE: "purple", GREEN: "green",
}  # fmt: skip
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sacro_ray",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.facecolor": PAPER,
    "legend.edgecolor": GRID,
    "legend.framealpha": 0.9,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
POINTS_PER_INCH = 72  # a figure's resolution is set to this, so that its pixels are the SVG's units
HOVER_POINTS = 200


@dataclass(frozen=True)
class Chart:
    """A figure with its caption and what hovering over it says.

    Attributes:
        name: File name without ending.
        title: One line above it.
        caption: What is seen, with numbers; also its text alternative.
        figure: Drawn inside `style()`.
        hover: (axes, x, y, text) in data coordinates.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    hover: Sequence[tuple[Any, float, float, str]] = field(default_factory=list)

    @property
    def wide(self) -> bool:
        """Whether it takes a row of its own where two figures would fit."""
        return bool(self.figure.get_figwidth() > 5)

    def png(self) -> bytes:
        """The figure at 200 pixels an inch."""
        return self._rendered("png", 200, {"Software": None})

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG document, its text kept as text."""
        return self._rendered("svg", POINTS_PER_INCH, {"Date": None, "Creator": None}).decode()

    def inline_svg(self) -> str:
        """The figure as an SVG element for the report: palette as CSS variables, its ids its own."""
        text = self.svg
        text = text[text.index("<svg") :]
        text = re.sub(
            r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{self.title}">', text, count=1
        )
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r"url\(#", f"url(#{self.name}-", text)
        text = re.sub(r'href="#', f'href="#{self.name}-', text)
        for colour, variable in VARIABLES.items():
            text = re.sub(colour, f"var(--{variable})", text, flags=re.IGNORECASE)
        return text

    def hover_points(self) -> list[tuple[float, float, str]]:
        """The hover texts with their places in the SVG's units."""
        _ = self._layout
        height = self.figure.get_figheight() * POINTS_PER_INCH
        placed = [(*axes.transData.transform((x, y)), text) for axes, x, y, text in self.hover]
        return [(round(float(x), 1), round(float(height - y), 1), text) for x, y, text in placed]

    @cached_property
    def _layout(self) -> None:
        """Place everything once; a layout at each rendering would double the time, and differ with the resolution."""
        with style():
            self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")

    def _rendered(self, kind: str, dpi: int, metadata: dict[str, None]) -> bytes:
        buffer = io.BytesIO()
        _ = self._layout
        with style():
            self.figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
        return buffer.getvalue()


def style() -> Any:
    """The context in which figures are drawn and written."""
    return matplotlib.rc_context(STYLE)


def panel(width: float = 4.6, height: float = 4.2) -> tuple[Figure, Any]:
    """One figure with one set of axes, inches; small enough to be read on a phone."""
    figure = Figure(figsize=(width, height), dpi=POINTS_PER_INCH, layout="constrained")
    return figure, figure.add_subplot()


def thinned(count: int, limit: int = HOVER_POINTS) -> list[int]:
    """At most `limit` of the indices 0 to `count` - 1, evenly, first and last included."""
    if count <= limit:
        return list(range(count))
    return sorted({round(i * (count - 1) / (limit - 1)) for i in range(limit)})
