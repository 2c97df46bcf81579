"""The report in a headless Chromium: on a desktop, on a phone, in the dark, on paper; and faults that these tests must see."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import Visit, chromium, needs_chromium
from playwright.sync_api import Browser

pytestmark = needs_chromium
SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]

# Point at the first value of each figure that has some; what the tip then says.
TIPS = """() => [...document.querySelectorAll("figure.chart svg")].map((svg) => {
  const figure = svg.closest("figure"), points = JSON.parse(figure.dataset.hover);
  if (!points.length) return "none";
  const at = new DOMPoint(points[0][0], points[0][1]).matrixTransform(svg.getScreenCTM());
  svg.dispatchEvent(new PointerEvent("pointermove", {clientX: at.x, clientY: at.y}));
  return figure.querySelector(".tip")?.textContent === points[0][2] ? "right" : "wrong";
})"""
BROKEN = "() => [...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
# The lowest contrast (WCAG 2.1) of any text of the page against what lies behind it.
CONTRAST = """() => {
  const shade = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return a === 0 ? null : 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = shade(getComputedStyle(e).backgroundColor);
      if (found !== null) return found;
    }
    return 1;
  };
  const ratios = [...document.querySelectorAll("p, th, td, h1, h2, h3, h4, li, a, span, figcaption, svg text")]
    .filter((e) => e.textContent.trim() && e.checkVisibility())
    .map((e) => {
      const style = getComputedStyle(e), ink = shade(e.namespaceURI.endsWith("svg") ? style.fill : style.color), paper = behind(e);
      return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    });
  return Math.min(...ratios);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def visit(browser: Browser, page: Path, width: int = 1280, scheme: str = "light") -> Visit:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, is_mobile=width < 500)
    context.set_default_timeout(30_000)
    return Visit(context.new_page(), page.as_uri())


def faults(visited: Visit) -> list[str]:
    """Console messages, outside requests, missing images."""
    visited.page.wait_for_load_state("networkidle")
    broken = visited.page.evaluate(BROKEN)
    return [*visited.said, *visited.outside(), *(["missing image"] * broken)]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_it_shows_without_a_fault(report: Path, browser: Browser, width: int, scheme: str) -> None:
    visited = visit(browser, report, width, scheme)
    assert faults(visited) == []
    assert visited.page.evaluate("document.images.length") == 16
    assert visited.too_wide_px() <= 0
    assert set(visited.page.evaluate(TIPS)) == {"right", "none"}
    assert visited.page.evaluate(CONTRAST) >= 4.5
    visited.page.context.close()


@pytest.mark.parametrize(
    "fault",
    [
        '<script>throw new Error("x")</script>',
        '<script>console.error("x")</script>',
        '<img src="https://example.org/a.png">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<img src="data:image/png;base64,AAAA">',
        '<img src="absent.png">',
    ],
)
def test_it_would_see_a_fault(report: Path, browser: Browser, fault: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", fault + "</body>"), encoding="utf-8")
    visited = visit(browser, page)
    assert faults(visited) != []
    visited.page.context.close()


def test_on_paper_there_is_no_navigation_and_nothing_is_cut_off(report: Path, browser: Browser) -> None:
    visited = visit(browser, report, 688)  # A4 less margins of 14 mm
    visited.page.emulate_media(media="print")
    assert visited.page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert visited.too_wide_px() <= 0
    hidden = "() => [...document.querySelectorAll('.scroll')].filter((e) => getComputedStyle(e).overflowX !== 'visible').length"
    assert visited.page.evaluate(hidden) == 0
    assert visited.page.pdf(format="A4").startswith(b"%PDF-")
    visited.page.context.close()
