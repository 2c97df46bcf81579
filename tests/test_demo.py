"""`demo`: the six steps in their order, each on what the one before made; and, slowly, the whole path on few patients."""

import json
import logging
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from sacro_ray import demo
from sacro_ray.config import load_experiment

STEPS = {
    "simulate": "sacro_ray.simulation.cohort.write_cohorts",
    "prepare": "sacro_ray.cluster.prepare_driver.prepare_cohorts",
    "tune": "sacro_ray.cluster.search.search",
    "train": "sacro_ray.cluster.train_driver.train",
    "evaluate": "sacro_ray.cluster.evaluate_driver.evaluate_run",
    "score": "sacro_ray.cluster.score_driver.score_input",
}


@pytest.fixture
def steps(monkeypatch) -> list[tuple]:
    """Each step notes that it was called, with what, and does nothing."""
    called: list[tuple] = []

    def noted(name, result):
        def step(*given, **named):
            called.append((name, given, named))
            return result

        return step

    @contextmanager
    def session(address):
        called.append(("ray", (address,), {}))
        yield
        called.append(("end of ray", (), {}))

    for name, place in STEPS.items():
        monkeypatch.setattr(place, noted(name, Path("made") / name))
    monkeypatch.setattr("sacro_ray.cluster.runtime.ray_session", session)
    monkeypatch.setattr("sacro_ray.evaluate.tell", lambda report: report)
    return called


def test_the_steps_come_in_their_order_each_with_what_the_one_before_made(steps, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sacro_ray")
    out = tmp_path / "demo"
    report = demo.main(["--out", str(out), "--address", "local", "--set", "search.trials=2", "--set", "seed=5"])
    assert report == Path("made/evaluate"), "the report is what the command ends with"
    assert [name for name, *_ in steps] == [
        "simulate", "ray", "prepare", "tune", "train", "evaluate", "score", "end of ray",
    ]  # fmt: skip
    given = {name: (arguments, named) for name, arguments, named in steps}
    assert given["simulate"][0] == (out / "data", demo.DEVELOPMENT_PATIENTS, demo.TEST_PATIENTS, 5, demo.RADIOGRAPH_PX)
    experiment = given["prepare"][0][0]
    assert (experiment.search.trials, experiment.seed) == (2, 5)
    assert given["tune"][0] == (experiment, out / "runs")
    assert given["tune"][1]["resume"] is False
    assert given["train"][0] == (experiment, out / "runs", "local")
    assert given["evaluate"][0][0] == Path("made/train")
    # The table and not its folder: it holds the boxes to which the network's radiographs are cut.
    assert given["score"][0] == (Path("made/train"), out / "data" / "gespic" / "cohort.csv", out / "scores", "local")
    lines = [record.message[:3] for record in caplog.records if record.message[1:2] == "/"]
    assert lines == [f"{number}/6" for number in range(1, 7)]


def test_started_again_the_sweep_goes_on(steps, tmp_path):
    sweep = tmp_path / "runs" / "demo-sweep"
    sweep.mkdir(parents=True)
    (sweep / "sweep.toml").touch()
    demo.main(["--out", str(tmp_path)])
    assert next(named for name, _, named in steps if name == "tune")["resume"] is True


def test_all_paths_of_the_demo_are_below_its_folder_and_the_rest_is_the_experiments_own(tmp_path):
    experiment = demo.demo_experiment(tmp_path, ["training.lr=0.5"])
    named = [experiment.prepare.shards, *(path for c in experiment.cohorts.values() for path in (c.table, c.readings))]
    assert all(Path(path).is_relative_to(tmp_path) for path in named)
    as_it_is = load_experiment(demo.EXPERIMENT, ["training.lr=0.5"])
    assert experiment.training == as_it_is.training
    assert (list(experiment.cohorts), experiment.search) == (list(as_it_is.cohorts), as_it_is.search)


TINY = [
    "training.stages=[{size_px=32, batch_size=8, frozen_epochs=0, unfrozen_epochs=1}]",
    "search.stages=[{size_px=32, batch_size=8, frozen_epochs=0, unfrozen_epochs=1}]",
    "search.trials=1", "evaluation.bootstrap_repetitions=20", "evaluation.cutoff_repeats=1", "prepare.store_size=64",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("local_ray")
def test_the_whole_path_on_few_patients_and_again(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="sacro_ray")
    for name, value in (("DEVELOPMENT_PATIENTS", 40), ("TEST_PATIENTS", 16), ("RADIOGRAPH_PX", 128)):
        monkeypatch.setattr(demo, name, value)
    arguments = ["--out", str(tmp_path), *(word for value in TINY for word in ("--set", value))]
    report = demo.main(arguments)
    assert report == tmp_path / "runs" / "demo" / "evaluation" / "report.html"
    assert "SIMULATED DATA" in report.read_text(encoding="utf-8")
    metrics = json.loads((report.parent / "metrics.json").read_text())
    predicted = pd.read_csv(tmp_path / "runs" / "demo" / "predictions" / "test.csv")
    assert metrics["test"]["n"] == int((predicted["subset"] == "concordant").sum())
    scores = pd.read_csv(tmp_path / "scores" / "scores.csv")
    assert set(scores["status"]) == {"ok"}
    # The same radiographs by two ways: from the shards, and from their files as a new cohort.
    both = scores.merge(predicted, left_on="input", right_on="radiograph_id")
    assert len(both) == len(predicted)
    assert (both["probability_x"] - both["probability_y"]).abs().max() < 1e-4
    assert (tmp_path / "runs" / "demo-sweep" / "best.toml").exists()
    before = {path: path.read_bytes() for path in (report.parent / "metrics.json", tmp_path / "scores" / "scores.csv")}
    caplog.clear()
    assert demo.main(arguments) == report
    assert all(path.read_bytes() == content for path, content in before.items())
    for said in ("complete and verified, left as it is", "the run", "is complete", "are scored already", "the scores in"):
        assert said in caplog.text
