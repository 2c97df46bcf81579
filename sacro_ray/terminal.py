"""Text for a terminal: lines broken between words. What goes to a file or a pipe is left as it is, so that a log can be searched."""

import os
import textwrap


def wrapped(text: str, descriptor: int | None) -> str:
    """The text as it goes to a file descriptor; None stands for a stream without one.

    A word that is longer than a line, such as a path, stays whole.
    """
    if descriptor is None or not os.isatty(descriptor):
        return text
    width = os.get_terminal_size(descriptor).columns or 80
    return "\n".join(_fit(line, width) for line in text.split("\n"))


def descriptor_of(stream: object) -> int | None:
    """The file descriptor of a stream, or None where it has none, as a captured one."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None


def _fit(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())] + "  "
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
