"""The lines of a training on the log."""

import logging

import pytest

from sacro_ray.cluster import progress
from sacro_ray.cluster.progress import describe_epoch, describe_rate, seconds_left
from sacro_ray.config import Stage, Training
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import plan

STAGES = [
    Stage(size_px=100, batch_size=8, frozen_epochs=1, unfrozen_epochs=2),
    Stage(size_px=200, batch_size=8, frozen_epochs=0, unfrozen_epochs=3, lr=1e-4),
]
PHASES = plan(Training(lr="auto", stages=STAGES))


def row(epoch: int, phase: str, seconds: float) -> dict[str, str]:
    values = {"epoch": epoch, "stage": 1, "size_px": 100, "phase": phase, "lr": 0.00123, "train_loss": 0.5, "val_auc": 0.75}
    return {
        name: str(value) for name, value in (values | {"best_val_auc": 0.8, "images_per_s": 12.5, "seconds": seconds}).items()
    }


def test_the_time_left_grows_with_the_pixels():
    rows = [row(1, "frozen", 2.0), row(2, "unfrozen", 10.0)]
    # One more epoch of 10 s, and three of four times the pixels.
    assert seconds_left(rows, PHASES) == pytest.approx(10 + 3 * 40)
    assert describe_epoch(rows[1], rows, PHASES) == (
        "epoch 2/6  100 px unfrozen  loss 0.500  AUC 0.750  best 0.800  2 min left"
    )


def test_the_line_of_a_long_run_fits_80_columns():
    phases = plan(Training(lr=1e-3, stages=[Stage(size_px=1024, batch_size=8, frozen_epochs=0, unfrozen_epochs=600)]))
    one = row(100, "unfrozen", 3600.0) | {"size_px": "1024"}
    line = describe_epoch(one, [one] * 100, phases)
    assert line.endswith("500.0 h left")
    assert len(line) <= 80


def test_a_range_tests_rate_is_told_once_a_phase_and_a_given_rate_never():
    assert describe_rate(row(1, "frozen", 1.0), PHASES) == (
        "learning rate of epoch 1: 1.2e-03, by the range test (range_test/epoch_0001.png)"
    )
    assert describe_rate(row(2, "unfrozen", 1.0), PHASES) is not None
    assert describe_rate(row(3, "unfrozen", 1.0), PHASES) is None
    assert describe_rate(row(4, "unfrozen", 1.0), PHASES) is None


def test_epochs_that_are_trained_again_are_told_again(tmp_path, caplog):
    """Workers that went on from the state of epoch 1 shorten the history to it, or have written more before it was looked at."""
    caplog.set_level(logging.INFO, logger="sacro_ray")
    phases = plan(Training(lr=1e-3, stages=STAGES))
    folder, rows = RunFolder(tmp_path), [row(number, "unfrozen", 1.0) for number in (1, 2, 3)]
    again = [rows[0], row(2, "unfrozen", 1.5), row(3, "unfrozen", 1.5)]
    folder.save_history(rows[:1])
    lines = progress.EpochLines(folder, phases)
    for history, expected in ((rows, "23"), (rows[:1], ""), (rows[:2], "2"), (rows, "3"), (again, "23"), (again, "")):
        caplog.clear()
        folder.save_history(history)
        lines.look()
        assert [record.message.split("/")[0] for record in caplog.records] == [f"epoch {number}" for number in expected]


def test_the_log_follows_the_history_until_the_block_ends(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="sacro_ray")
    monkeypatch.setattr(progress, "POLL_S", 3600)
    folder = RunFolder(tmp_path)
    with progress.epochs_logged(folder, plan(Training(lr=1e-3, stages=STAGES))):
        folder.save_history([row(1, "unfrozen", 1.0)])
    assert [record.message.split("/")[0] for record in caplog.records] == ["epoch 1"]
