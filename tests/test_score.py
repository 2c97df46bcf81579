"""The command `score`: what it refuses, and how it says so."""

import subprocess
import sys
from pathlib import Path

import pytest

from sacro_ray import score
from sacro_ray.errors import UserError
from sacro_ray.learning.network import build_network
from sacro_ray.learning.run_folder import RunFolder


@pytest.fixture
def run(experiment, tmp_path) -> RunFolder:
    """A run folder with weights, without validation predictions."""
    folder = RunFolder(tmp_path / "run")
    folder.claim(experiment)
    folder.save_best(build_network(experiment.model).state_dict(), {"size_px": 48})
    return folder


def arguments(run: Path, given: object, out: Path) -> list[str]:
    return ["--run", str(run), "--input", str(given), "--out", str(out)]


def test_no_run_folder(experiment, tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        score.main(arguments(tmp_path, experiment.cohorts["ours"].table, tmp_path / "out"))


def test_a_run_without_a_checkpoint(experiment, tmp_path):
    RunFolder(tmp_path / "run").claim(experiment)
    with pytest.raises(UserError, match="no best checkpoint"):
        score.main(arguments(tmp_path / "run", experiment.cohorts["ours"].table, tmp_path / "out"))


def test_a_run_without_predictions_has_no_cutoffs_and_the_message_says_what_to_train(run, experiment, tmp_path):
    with pytest.raises(UserError, match=r"no predictions/validation\.csv.*train is started again.*--set name=NAME"):
        score.main(arguments(run.path, experiment.cohorts["ours"].table, tmp_path / "out"))


def test_an_input_without_images_leaves_no_folder_behind(run, tmp_path):
    run.validation_predictions.parent.mkdir()
    run.validation_predictions.write_text("radiograph_id,probability,label\na,0.2,0\nb,0.4,1\nc,0.3,0\nd,0.6,1\n")
    (tmp_path / "films").mkdir()
    with pytest.raises(UserError, match="no image in"):
        score.main(arguments(run.path, tmp_path / "films", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_wrong_input_is_one_message_and_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sacro_ray.score", *arguments(tmp_path, tmp_path, tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--run", "--out"])
def test_a_folder_of_ours_needs_a_name_in_utf8(option, tmp_path):
    folder = f"{tmp_path}/\udce9"  # as Python takes a Latin-1 name
    given = {"--run": str(tmp_path), "--out": str(tmp_path), "--input": str(tmp_path)} | {option: folder}
    with pytest.raises(UserError, match="not UTF-8"):
        score.main([part for pair in given.items() for part in pair])


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as exit_:
        score.main(["--help"])
    assert exit_.value.code == 0
    assert "example: python -m sacro_ray.score --run" in capsys.readouterr().out
