"""Rate and time left, on a clock that the test sets."""

import logging

from sacro_ray.dataset.progress import Progress


def told(caplog, total, *results):
    """What is logged when so many radiographs come at these seconds."""
    now = 0.0
    with caplog.at_level(logging.INFO, logger="sacro_ray"):
        progress = Progress("scored", total, clock=lambda: now)
        for now, count in results:  # noqa: B007 - the clock reads it
            progress.advance(count)
    return [record.message for record in caplog.records]


def test_the_start_of_the_workers_is_not_taken_for_slowness(caplog):
    """Two workers start for 60 s and bring 32 each; then they bring 32 each every 16 s."""
    lines = told(caplog, 256, (60, 32), (60.5, 32), (76, 32), (76.5, 32), (92, 32), (92.5, 32))
    assert lines == [
        "scored: 32 of 256 radiographs",
        "scored: 96 of 256 radiographs, 4.0 a second, 40 s left",
        "scored: 160 of 256 radiographs, 4.0 a second, 24 s left",
    ]


def test_few_seconds_are_not_enough_for_an_estimate(caplog):
    lines = told(caplog, 1000, (9, 8), (12, 8), (18, 8), (30, 8))
    assert lines == ["scored: 16 of 1000 radiographs", "scored: 32 of 1000 radiographs, 1.1 a second, 847 s left"]


def test_an_end_with_the_first_result_divides_by_nothing(caplog):
    assert told(caplog, 8, (20, 8), (31, 0)) == ["scored: 8 of 8 radiographs", "scored: 8 of 8 radiographs"]
