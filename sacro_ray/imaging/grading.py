"""From grades to one reference label: the rules of a single reading and the consensus of several readers.

Pure functions over plain values. Grades are those of the modified New York criteria, 0 (normal) to 4 (ankylosis), a side each
(van der Linden et al. 1984; study, Reading of the radiographs).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

GRADES = range(5)
SIDES = ("grade_right", "grade_left")


class ReadingError(ValueError):
    """A reading that the rule cannot use; the message says why, without naming radiograph or reader."""


@dataclass(frozen=True)
class Consensus:
    """What the readers agreed on.

    Attributes:
        label: 1 definite sacroiliitis, 0 none, None where the readers leave it open.
        outcome: `labelled`; `discordant` (readers differ, protocol agreement); `undecided` (the first two differ and no third
            reading settles it, protocol adjudicated); `no_reading` (none of the readers who decide has read);
            `reading_missing` (protocol agreement, a reader has not read).
        adjudicated: The third reader's reading was needed and used.
        reclassified: The label differs from what the first reader said.
    """

    label: int | None
    outcome: Literal["labelled", "discordant", "undecided", "no_reading", "reading_missing"]
    adjudicated: bool = False
    reclassified: bool = False


def modified_new_york(right: int, left: int) -> int:
    """1 when both sides are grade 2 or more, or at least one side is grade 3 or more; else 0."""
    return int(min(right, left) >= 2 or max(right, left) >= 3)


def positive(rule: str, reading: Mapping[str, int]) -> int:
    """Apply a rule to one reading.

    Args:
        rule: `modified_new_york`, `grade_at_least:N` (N from 1 to 4; of two sides the worse counts) or `definite`.
        reading: The values given, of `grade_right`, `grade_left`, `grade` (0 to 4; beside both sides the worse one's) and `definite`
            (0 or 1).

    Returns:
        1 or 0.

    Raises:
        ReadingError: A value is out of range, a side is missing, `grade` is not that of the worse side, or the reading does not hold
            what the rule needs.
    """
    for name, value in reading.items():
        allowed = range(2) if name == "definite" else GRADES
        if value not in allowed:
            raise ReadingError(f"{name} is {value}, allowed are {allowed.start} to {allowed.stop - 1}")
    sides = [reading[side] for side in SIDES if side in reading]
    if len(sides) == 1:
        raise ReadingError("one side has no grade; grade both sides or take the reading out")
    if sides and "grade" in reading and reading["grade"] != max(sides):
        raise ReadingError(f"grade is {reading['grade']}, and the worse side has {max(sides)}; correct one, or leave grade out")
    if rule == "definite":
        if "definite" not in reading:
            raise ReadingError("the rule definite needs a value (0 or 1) in the column definite")
        return reading["definite"]
    if rule == "modified_new_york":
        if not sides:
            raise ReadingError("the rule modified_new_york needs grade_right and grade_left")
        return modified_new_york(*sides)
    grades = [reading["grade"]] if "grade" in reading else sides
    if not grades:
        raise ReadingError(f"the rule {rule} needs grade, or grade_right and grade_left")
    return int(max(grades) >= int(rule.rpartition(":")[2]))


def adjudicated(readings: Mapping[str, int], readers: Sequence[str]) -> Consensus:
    """Two readers decide, a third settles their disagreement by two of three (study, Reading of the radiographs).

    Where only one of the first two has read, that reading stands. A third reading that was not needed is not used.

    Args:
        readings: 0 or 1 a reader who has read.
        readers: One to three names, in the order in which they read.
    """
    first_two = [readings[reader] for reader in readers[:2] if reader in readings]
    if not first_two:
        return Consensus(None, "no_reading")
    if len(set(first_two)) == 1:
        return Consensus(first_two[0], "labelled")
    third = readings.get(readers[2]) if len(readers) > 2 else None
    if third is None:
        return Consensus(None, "undecided")
    return Consensus(third, "labelled", adjudicated=True, reclassified=third != readings[readers[0]])


def agreement(readings: Mapping[str, int], readers: Sequence[str]) -> Consensus:
    """The label is what all readers say; where they differ there is none, and the radiograph is discordant.

    Args:
        readings: 0 or 1 a reader who has read.
        readers: All readers; a missing reading leaves it open whether all agree.
    """
    given = {readings[reader] for reader in readers if reader in readings}
    if len(given) > 1:
        return Consensus(None, "discordant")
    if not given:
        return Consensus(None, "no_reading")
    if any(reader not in readings for reader in readers):
        return Consensus(None, "reading_missing")
    return Consensus(given.pop(), "labelled")


def consensus(protocol: str, readings: Mapping[str, int], readers: Sequence[str]) -> Consensus:
    """`adjudicated` or `agreement`, by the name in the experiment file."""
    return {"adjudicated": adjudicated, "agreement": agreement}[protocol](readings, readers)
