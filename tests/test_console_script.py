"""The console script, and what the package brings along."""

import sys
from pathlib import Path

import pytest

from sacro_ray import __main__ as console
from sacro_ray.demo import EXPERIMENT


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("prepair", "prepare"),
        ("evalute", "evaluate"),
        ("TRAIN", "train"),
        ("scoring", "score"),
        ("tine", "tune"),
        ("xyzzy", None),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest(given, nearest, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sacro-ray", given])
    with pytest.raises(SystemExit) as caught:
        console.main()
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: unknown command {given}" + (f"; the nearest is {nearest}" if nearest else "")
    assert said[1].startswith("usage: sacro-ray COMMAND")


def test_the_demos_experiment_is_a_file_of_its_own_and_the_same_as_the_packages():
    shown = Path(__file__).parents[1] / "experiments" / "demo.toml"
    assert not shown.is_symlink(), "a link dangles in copies and where links are not kept"
    assert shown.read_bytes() == EXPERIMENT.read_bytes()


def test_no_file_of_the_project_is_a_link():
    root = Path(__file__).parents[1]
    folders = ("sacro_ray", "experiments", "docs", "deploy", "benchmarks")
    assert not [
        path for folder in folders for path in (root / folder).rglob("*") if path.is_symlink() and "runs" not in path.parts
    ]
