"""The lines of a training on the log."""

import logging
import time

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
        "epoch 2/6  stage 1 100 px unfrozen  loss 0.5000  AUC 0.7500  best 0.8000  12.5 images/s  2 min left"
    )


def test_a_range_tests_rate_is_told_once_a_phase_and_a_given_rate_never():
    assert describe_rate(row(1, "frozen", 1.0), PHASES) == (
        "learning rate of epoch 1: 1.2e-03, by the range test (range_test/epoch_0001.png)"
    )
    assert describe_rate(row(2, "unfrozen", 1.0), PHASES) is not None
    assert describe_rate(row(3, "unfrozen", 1.0), PHASES) is None
    assert describe_rate(row(4, "unfrozen", 1.0), PHASES) is None


def test_epochs_that_are_trained_again_are_told_again(tmp_path, monkeypatch, caplog):
    """Workers that went on from the state of epoch 1 shorten the history to it."""
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    folder, rows = RunFolder(tmp_path), [row(number, "unfrozen", 1.0) for number in (1, 2, 3)]

    def told() -> list[str]:
        return [record.message.split("/")[0] for record in caplog.records if record.message.startswith("epoch ")]

    with caplog.at_level(logging.INFO, logger="sacro_ray"), progress.epochs_logged(folder, PHASES):
        for history, expected in ((rows, "123"), (rows[:1], "123"), (rows[:2], "1232")):
            folder.save_history(history)
            end = time.monotonic() + 20
            while len(told()) < len(expected) and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.2)
            assert told() == [f"epoch {number}" for number in expected]
