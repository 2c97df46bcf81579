"""What is wrong and needs neither Ray nor PyTorch to be seen is said before either is imported, which takes seconds."""

import json
import subprocess
import sys

import pytest

from sacro_ray.learning.run_folder import RunFolder

PROBE = """
import json, sys
from sacro_ray import {command}
slow = ("ray", "torch", "torchvision", "optuna", "matplotlib", "sklearn")
at_import = [name for name in ("pydantic", "numpy", *slow) if name in sys.modules]
try:
    {command}.cli(json.loads(sys.argv[1]))
finally:
    print(json.dumps([at_import, [name for name in slow if name in sys.modules]]))
"""


@pytest.fixture
def places(experiment, tmp_path):
    """An experiment file, an empty folder, a run that was trained by another configuration, and what lies where."""
    file = tmp_path / "small.toml"
    file.write_text(experiment.as_toml())
    begun = RunFolder(tmp_path / "runs" / "small")
    begun.claim(experiment.model_copy(update={"seed": 7}))
    begun.checkpoints.mkdir()
    (begun.checkpoints / "latest.pt").touch()
    (tmp_path / "empty").mkdir()
    return {"file": str(file), "runs": str(tmp_path / "runs"), "empty": str(tmp_path / "empty"), "new": str(tmp_path / "new")}


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("train", ["{file}", "--runs", "{runs}"], "holds another run"),
        ("train", ["{file}", "--runs", "{new}", "--set", "prepare.shards={empty}"], "no prepared cohort ours"),
        ("train", ["{file}", "--runs", "{new}", "--set", "model.weights=nowhere.pth"], "is neither a file nor one of"),
        ("train", ["{file}", "--runs", "{new}", "--set", "training.lrr=1"], "unknown key training.lrr"),
        ("tune", ["{file}", "--runs", "{new}", "--set", "prepare.shards={empty}"], "no prepared cohort ours"),
        ("tune", ["{file}", "--runs", "{new}", "--resume"], "no sweep to resume at"),
        ("evaluate", ["{empty}"], "is not a run folder"),
        ("evaluate", ["{runs}/small"], "has no predictions/validation.csv"),
        ("score", ["--run", "{empty}", "--input", "{empty}", "--out", "{new}"], "is not a run folder"),
        ("serve", ["--run", "{runs}/small"], "has no best checkpoint yet"),
        ("prepare", ["nowhere.toml"], "no experiment file at nowhere.toml"),
        ("prepare", ["{file}", "--set", "cohorts.ours.table=absent.csv"], "no table"),
        ("simulate", ["{new}", "--patients", "0"], "patients is 0"),
        ("demo", ["--out", "{new}", "--set", "training.lrr=1"], "unknown key training.lrr"),
    ],
)
def test_an_error_that_needs_neither_ray_nor_pytorch_imports_neither(places, command, arguments, says):
    given = json.dumps([argument.format(**places) for argument in arguments])
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(command=command), given], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stderr
    *_, error = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert says in error
    at_import, at_end = json.loads(result.stdout)
    assert at_import == []  # the command is there, and listens to Ctrl-C, before anything that takes time
    assert at_end == []


def test_the_first_line_says_what_the_command_is_about_to_do(places):
    given = [places["file"], "--runs", places["runs"]]
    result = subprocess.run([sys.executable, "-m", "sacro_ray.train", *given], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[0] == f"train: {places['file']} -> {places['runs']}/small"
