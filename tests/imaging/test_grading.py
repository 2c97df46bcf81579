import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacro_ray.imaging.grading import ReadingError, adjudicated, agreement, consensus, modified_new_york, positive

READERS = ["local", "central_1", "central_2"]


def test_modified_new_york_over_all_25_pairs():
    table = [  # rows: right 0 to 4, columns: left 0 to 4, from the wording of the criteria
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]
    assert [[modified_new_york(right, left) for left in range(5)] for right in range(5)] == table


@pytest.mark.parametrize(
    ("rule", "reading", "expected"),
    [
        ("modified_new_york", {"grade_right": 2, "grade_left": 2}, 1),
        ("modified_new_york", {"grade_right": 2, "grade_left": 1}, 0),
        ("grade_at_least:2", {"grade": 2}, 1),
        ("grade_at_least:2", {"grade": 1}, 0),
        ("grade_at_least:4", {"grade": 3}, 0),
        ("grade_at_least:2", {"grade_right": 0, "grade_left": 2}, 1),
        ("grade_at_least:1", {"grade_right": 0, "grade_left": 0}, 0),
        ("definite", {"definite": 1}, 1),
        ("definite", {"definite": 0}, 0),
    ],
)
def test_rules(rule, reading, expected):
    assert positive(rule, reading) == expected


@pytest.mark.parametrize(
    ("rule", "reading", "word"),
    [
        ("grade_at_least:2", {"grade": 5}, "0 to 4"),
        ("grade_at_least:2", {"grade": -1}, "0 to 4"),
        ("definite", {"definite": 2}, "0 to 1"),
        ("modified_new_york", {"grade_right": 4}, "one side"),
        ("grade_at_least:2", {"grade_left": 4}, "one side"),
        ("modified_new_york", {"grade": 4}, "grade_right"),
        ("definite", {"grade": 4}, "definite"),
        ("grade_at_least:2", {"definite": 1}, "grade"),
    ],
)
def test_readings_that_a_rule_cannot_use(rule, reading, word):
    with pytest.raises(ReadingError, match=word):
        positive(rule, reading)


def test_adjudication_over_all_readings():
    """Label, adjudicated, re-classified for every combination of 0, 1 and missing, worked out by hand from the protocol."""
    expected = {
        (0, 0): (0, False, False),
        (1, 1): (1, False, False),
        (0, None): (0, False, False),
        (1, None): (1, False, False),
        (None, 0): (0, False, False),
        (None, 1): (1, False, False),
    }
    for (first, second), outcome in expected.items():
        for third in (0, 1, None):  # kept, not used
            readings = {n: v for n, v in zip(READERS, (first, second, third), strict=True) if v is not None}
            found = adjudicated(readings, READERS)
            assert (found.label, found.adjudicated, found.reclassified) == outcome
    assert adjudicated({"local": 0, "central_1": 1, "central_2": 1}, READERS) == consensus(
        "adjudicated", {"local": 0, "central_1": 1, "central_2": 1}, READERS
    )
    both = adjudicated({"local": 0, "central_1": 1, "central_2": 1}, READERS)
    assert (both.label, both.adjudicated, both.reclassified) == (1, True, True)
    local_right = adjudicated({"local": 1, "central_1": 0, "central_2": 1}, READERS)
    assert (local_right.label, local_right.adjudicated, local_right.reclassified) == (1, True, False)
    assert adjudicated({"local": 1, "central_1": 0}, READERS).outcome == "undecided"
    assert adjudicated({"local": 1, "central_1": 0}, READERS[:2]).outcome == "undecided"
    assert adjudicated({"central_2": 1}, READERS).outcome == "no_reading"
    assert adjudicated({"central": 1}, ["central"]).label == 1


@given(st.lists(st.integers(0, 1), min_size=3, max_size=3))
def test_adjudication_is_the_majority_of_three(values):
    readings = dict(zip(READERS, values, strict=True))
    assert adjudicated(readings, READERS).label == int(sum(values) >= 2)


def test_agreement():
    for values in itertools.product((0, 1), repeat=3):
        found = agreement(dict(zip(READERS, values, strict=True)), READERS)
        assert found.label == (values[0] if len(set(values)) == 1 else None)
        assert found.outcome == ("labelled" if len(set(values)) == 1 else "discordant")
    assert agreement({"local": 1}, READERS).outcome == "reading_missing"
    assert agreement({"local": 1, "central_1": 0}, READERS).outcome == "discordant"
    assert agreement({}, READERS).outcome == "no_reading"
    assert agreement({"a": 1}, ["a"]).label == 1
