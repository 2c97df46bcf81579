import json
import subprocess
import sys
from pathlib import Path

import pytest

from sacro_ray import evaluate

QUICK = ["--set", "evaluation.bootstrap_repetitions=50", "--set", "evaluation.cutoff_repeats=2"]
HEAD = "radiograph_id,probability,label\n"


def rows(prefix: str, n: int) -> str:
    """Predictions that are mostly right."""
    return "".join(f"{prefix}{i},{((i * 37) % 100) / 200 + 0.4 * (i % 2):.6f},{i % 2}\n" for i in range(n))


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "validation.csv").write_text(HEAD + rows("V", 30))
    (tmp_path / "test.csv").write_text(HEAD + rows("T", 30) + "T30,0.5,\n")
    return tmp_path


def run(folder: Path, *more: str, test: str | None = "test.csv") -> None:
    given = ["--validation", str(folder / "validation.csv"), "--out", str(folder / "out"), *QUICK, *more]
    evaluate.cli(given + (["--test", str(folder / test)] if test else []))


def test_the_command_prints_the_reports_path_last(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tables, "--cutoff", "half=0.5", "--cutoff", "low=0.25", "--set", "evaluation.target_sensitivity=0.9", "--set", "seed=4")
    assert capsys.readouterr().out == f"{tables / 'out' / 'report.html'}\n"
    metrics = json.loads((tables / "out" / "metrics.json").read_text())
    assert list(metrics["cutoffs"]) == ["sensitivity", "specificity", "balanced", "half", "low"]
    assert metrics["cutoffs"]["low"] == 0.25
    assert metrics["validation"]["at_cutoff"]["sensitivity"]["sensitivity"]["estimate"] >= 0.9
    assert metrics["test"]["discordant"]["n"] == 1


@pytest.mark.parametrize(
    ("validation", "test", "more", "said"),
    [
        (HEAD + "a,0.1,1\nb,0.2,1\n", None, [], "validation: 2 positive and 0 negative labels"),
        (None, HEAD + "T1,0.1,0\nT2,0.2,\n", [], "test: 0 positive and 1 negative labels"),
        (HEAD + "a,1.5,1\nb,0.2,0\n", None, [], "it is 1.5 for a"),
        (HEAD + "a,many,1\nb,0.2,0\n", None, [], "it is many for a"),
        (HEAD + "a,0.5,1\na,0.2,0\n", None, [], "given more than once: a"),
        ("radiograph_id,score,label\na,0.5,1\n", None, [], "no column probability"),
        (HEAD + "a,0.5,3\nb,0.2,0\n", None, [], "label must be 0, 1 or blank"),
        ("", None, [], "is empty"),
        (HEAD, None, [], "has no rows"),
        (None, HEAD + rows("V", 4), [], "4 radiograph(s) stand in validation and in test: V0, V1, V2, V3"),
        (None, None, ["--cutoff", "half"], "expected NAME=VALUE"),
        (None, None, ["--cutoff", "a b=0.5"], "a name of letters"),
        (None, None, ["--cutoff", "half=1.5"], "a value from 0 to 1"),
        (None, None, ["--cutoff", "half=nan"], "a value from 0 to 1"),
        (None, None, ["--cutoff", "a=0.5", "--cutoff", "a=0.6"], "a is given twice"),
        (None, None, ["--cutoff", "balanced=0.5"], "give the fixed cut-off another name"),
        (None, None, ["--set", "evaluation.bootstrap_repetition=5"], "nearest known key is evaluation.bootstrap_repetitions"),
        (None, None, ["--set", "evaluation.target_sensitivity=2"], "evaluation.target_sensitivity = 2"),
        (None, None, ["--set", "training.mixup_alpha=0.2"], "training.mixup_alpha has no part in it"),
        (None, None, ["some_run"], "not both"),
    ],
)
def test_wrong_input_is_status_2_and_one_message(
    tables: Path, capsys: pytest.CaptureFixture[str], validation: str | None, test: str | None, more: list[str], said: str
) -> None:
    if validation is not None:
        (tables / "validation.csv").write_text(validation)
    if test is not None:
        (tables / "test.csv").write_text(test)
    with pytest.raises(SystemExit) as left:
        run(tables, *more)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    message = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(message) == 1
    assert said in message[0]
    assert "Traceback" not in captured.err
    assert not (tables / "out" / "metrics.json").exists()


@pytest.mark.parametrize("given", [[], ["--validation", "v.csv"], ["--out", "x"]])
def test_something_must_be_given(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        evaluate.cli(given)
    assert left.value.code == 2
    assert "give a run folder, or --validation CSV and --out DIR" in capsys.readouterr().err


def test_another_evaluation_in_the_folder_is_kept(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tables, test=None)
    before = (tables / "out" / "metrics.json").read_bytes()
    with pytest.raises(SystemExit) as left:
        run(tables)
    assert left.value.code == 2
    assert "is kept" in capsys.readouterr().err
    assert (tables / "out" / "metrics.json").read_bytes() == before


def test_tables_of_predictions_need_neither_ray_nor_torch(tables: Path) -> None:
    program = (
        "import sys; from sacro_ray import evaluate; from sacro_ray.evaluation import sections;"
        "sections.build = lambda results: [];"  # the figures take the time, and import nothing that is not imported already
        f"evaluate.main(['--validation', {str(tables / 'validation.csv')!r}, '--out', {str(tables / 'out')!r}, *{QUICK!r}]);"
        "sys.exit(len({'ray', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
