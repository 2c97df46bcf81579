"""The console script, and what the package brings along."""

import importlib
import sys
from pathlib import Path

import pytest

from sacro_ray import __main__ as console
from sacro_ray import evaluate
from sacro_ray.demo import EXPERIMENT
from sacro_ray.errors import UserError


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


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("score", ["--run", "s3://me:secret@bucket/run", "--input", "films", "--out", "out"]),
        ("score", ["--run", "run", "--input", "s3://me:secret@bucket/films", "--out", "out"]),
        ("score", ["--run", "run", "--input", "films", "--out", "s3://me:secret@bucket/out"]),
        ("serve", ["--run", "s3://me:secret@bucket/run"]),
        ("prepare", ["--verify", "s3://me:secret@bucket/shards/ours"]),
        ("evaluate", ["--validation", "validation.csv", "--out", "s3://me:secret@bucket/out"]),
    ],
)
def test_a_key_in_an_address_is_shown_nowhere(command, given, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")
    with pytest.raises(UserError) as refused:
        importlib.import_module(f"sacro_ray.{command}").main(given)
    assert "secret" not in f"{caplog.text} {refused.value}"


def test_tables_are_evaluated_into_a_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="give a path"):
        evaluate.main(["--validation", "validation.csv", "--out", "s3://bucket/out"])
    assert list(tmp_path.iterdir()) == []
