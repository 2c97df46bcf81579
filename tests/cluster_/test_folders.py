"""Folders in which commands work: full or forbidden ones, two commands at once, files that a crash of the machine has cut short."""

import errno
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import torch
from disks import CUTS, cut, fill, make_read_only, small_disk
from PIL import Image

from sacro_ray.cluster import evaluate_driver, preparation, prepare_driver, runtime, score_driver, search
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.train_driver import train
from sacro_ray.cluster.trial import drop_damaged
from sacro_ray.config import build_experiment
from sacro_ray.dataset.completion import read_index
from sacro_ray.dataset.files import alone, locked
from sacro_ray.dataset.half_finished import start_folder
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.parts import finished_part, write_shard
from sacro_ray.dataset.plan import plan_cohort
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import DiskError
from sacro_ray.errors import UserError
from sacro_ray.evaluate import main as evaluate
from sacro_ray.learning import state_files
from sacro_ray.learning.familiarity import familiarity_path, load_familiarity
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder

HERE = Place(torch.device("cpu"))


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """What is told here is told before Ray starts."""

    def refuse(address=None):
        raise AssertionError("Ray was started")

    for module in (runtime, preparation, search):
        monkeypatch.setattr(module, "ray_session", refuse, raising=False)


@pytest.fixture
def run(random_run, tmp_path):
    """A copy of the run with random weights, to be damaged."""
    return RunFolder(Path(shutil.copytree(random_run.path, tmp_path / "run")))


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("L", (40, 40), 50).save(tmp_path / "pictures" / "one.png")
    return tmp_path / "pictures"


@pytest.fixture
def tables(tmp_path):
    table = pd.DataFrame(
        {"radiograph_id": range(40), "probability": [i / 40 for i in range(40)], "label": [i // 2 % 2 for i in range(40)]}
    )
    table.to_csv(tmp_path / "validation.csv", index=False)
    return str(tmp_path / "validation.csv")


@pytest.fixture
def commands(experiment, run, pictures, tables):
    """Each command with the folder that it writes to, as a function of that folder."""

    def evaluate_run(out):
        shutil.copytree(run.path, out / "run") if not (out / "run").exists() else None
        evaluate_driver.evaluate_run(out / "run", [], None, {})

    def changed(*overrides):
        return build_experiment(experiment.as_dict(), overrides)

    return {
        "prepare": lambda out: prepare_driver.prepare_cohorts(changed(f"prepare.shards={out}/out")),
        "train": lambda out: train(experiment, out / "out"),
        "tune": lambda out: search.search(experiment, out / "out", resume=False),
        "evaluate RUN_DIR": evaluate_run,
        "evaluate": lambda out: evaluate(["--validation", tables, "--out", str(out / "out")]),
        "score": lambda out: score_driver.score_input(run.path, pictures, out / "out"),
    }


COMMANDS = ("prepare", "train", "tune", "evaluate RUN_DIR", "evaluate", "score")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_takes_nothing_is_told_before_ray_starts(commands, run, tmp_path, name, fault):
    with small_disk(tmp_path / "disk", "200m") as disk:
        if name == "evaluate RUN_DIR":
            shutil.copytree(run.path, disk / "run")
        before = {path for path in disk.rglob("*") if path.is_file()}
        if fault == "full":
            before.add(fill(disk))
        else:
            make_read_only(disk)
        with pytest.raises(UserError) as told:
            commands[name](disk)
        assert f"{disk}/" in str(told.value)
        assert "make room" in str(told.value).lower() if fault == "full" else "read-only" in str(told.value)
        assert {path for path in disk.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["prepare", "tune", "evaluate RUN_DIR", "evaluate", "score"])
def test_two_at_once_in_one_folder(commands, run, tmp_path, name):
    """What trains waits instead: where the driver alone was killed, its workers go on for a moment."""
    if name == "evaluate RUN_DIR":
        shutil.copytree(run.path, tmp_path / "run2" / "run")
        tmp_path = tmp_path / "run2"
    place = {"tune": "out/small-sweep", "evaluate RUN_DIR": "run"}.get(name, "out")
    says = f"another `{name.split()[0]}` is at work in {tmp_path / place}; wait for its end"
    with WorkingFolder(tmp_path / place).alone(name.split()[0], "--out"), pytest.raises(UserError, match=says):
        commands[name](tmp_path)


def test_a_command_that_ends_leaves_no_lock_and_no_empty_folder(tmp_path):
    folder = WorkingFolder(tmp_path / "a" / "b")
    with folder.alone("score", "--out"):
        assert folder.lock.exists()
    assert not (tmp_path / "a").exists()
    with folder.alone("score", "--out"):
        (folder.path / "scores.csv").write_text("")
    assert {path.name for path in folder.path.iterdir()} == {"scores.csv"}


def test_who_waits_for_a_lock_that_is_removed_gets_the_next_one(tmp_path):
    """Or two would each hold the lock of another file."""
    path, order, waits = tmp_path / "lock", [], threading.Event()

    def wait(number):
        waits.set()
        with locked(path):
            order.append(("in", number))
            time.sleep(0.02)
            order.append(("out", number))

    with ThreadPoolExecutor(3) as pool:
        with alone(path, "score", tmp_path):
            waiting = [pool.submit(wait, number) for number in range(3)]
            waits.wait(10)
            time.sleep(0.05)
        for done in waiting:
            done.result()
    assert [what for what, _ in order] == ["in", "out"] * 3


def test_a_shard_that_does_not_fit_is_not_there(experiment, tmp_path):
    plan = plan_cohort("ours", experiment)
    with small_disk(tmp_path / "disk") as disk:
        folder = disk / "ours"
        start_folder(folder, plan.settings, plan.digest)
        filler = fill(disk)
        with pytest.raises(DiskError, match=f"^{folder}.*: the disk is full"):
            write_shard(plan.shards[0], folder, experiment.prepare)
        assert not [path for path in folder.rglob("*") if "tar" in path.name]
        filler.unlink()
        assert write_shard(plan.shards[0], folder, experiment.prepare).written


def test_a_training_whose_disk_fills_keeps_its_last_state_and_goes_on_from_it(experiment, tmp_path):
    short = build_experiment(
        experiment.as_dict(), ["training.stages=[{size_px=32, batch_size=32, frozen_epochs=3, unfrozen_epochs=0}]"]
    )
    with small_disk(tmp_path / "disk", "600m") as disk:
        folder = RunFolder(disk / "run")
        folder.claim(short)

        def full_after_the_first(row):
            if row["epoch"] == 1:
                fill(disk)

        with pytest.raises(
            DiskError, match=f"^{disk}/run.*: the disk is full.*What is complete is kept, and the same command goes on from it"
        ):
            TrainingRun(short, folder, HERE).fit(full_after_the_first)
        assert len(folder.load_latest()["history"]) == 1
        assert folder.load_best()[1]["epoch"] == 1
        (disk / "filler").unlink()
        after = TrainingRun(short, folder, HERE)
        after.fit()
        assert [row["epoch"] for row in after.history] == [1, 2, 3]


@pytest.mark.parametrize("left", CUTS)
@pytest.mark.parametrize("file", ["config.toml", "checkpoints/best.json", "checkpoints/best.pt", "predictions/validation.csv"])
def test_a_run_with_a_file_cut_short_is_named_with_what_to_do(run, pictures, tmp_path, file, left):
    cut(run.path / file, left)
    if file.endswith(".json") and left == "all but a byte":
        return  # the end of its last line alone
    for command in (
        lambda: score_driver.score_input(run.path, pictures, tmp_path / "out"),
        lambda: evaluate_driver.evaluate_run(run.path, [], None, {}),
    ):
        with pytest.raises(UserError, match=rf"{run.path / file} is (empty, cut short|damaged).* (R|r)emove"):
            command()


def test_a_configuration_that_was_removed_as_told_is_written_anew_by_the_same_experiment_alone(experiment, run):
    written = (run.path / "config.toml").read_bytes()
    weights, description = run.load_best()
    run.save_best(weights, {**description, "config": experiment.as_dict()})
    (run.path / "config.toml").unlink()
    with pytest.raises(UserError, match=r"holds another run; it differs in training\.lr"):
        run.claim(build_experiment(experiment.as_dict(), ["training.lr=0.03125"]))
    assert not (run.path / "config.toml").exists()
    run.claim(experiment)
    assert (run.path / "config.toml").read_bytes() == written


def test_a_state_that_the_disk_refuses_is_not_called_damaged(run, monkeypatch):
    run.save_latest({"history": []})

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(state_files, "load_state", refused)
    with pytest.raises(DiskError, match=r"latest\.pt: this user has no permission there"):
        drop_damaged(run)
    assert (run.checkpoints / "latest.pt").exists()


@pytest.mark.parametrize("left", CUTS)
def test_a_state_cut_short_says_what_to_delete(experiment, run, left):
    run.save_latest({"history": [], "weights": torch.ones(100)})
    cut(run.checkpoints / "latest.pt", left)
    with pytest.raises(UserError, match=r"latest\.pt is empty, cut short.*remove this file and rerun the same command"):
        TrainingRun(experiment, run, HERE).fit()


def test_metrics_cut_short_are_made_anew_by_evaluate(run, pictures, tmp_path):
    (run.path / "evaluation").mkdir()
    (run.path / "evaluation" / "metrics.json").write_text('{"cutoffs": {"balan')
    with pytest.raises(UserError, match=r"metrics\.json is empty, cut short.*Run `evaluate"):
        score_driver.score_input(run.path, pictures, tmp_path / "out")


@pytest.mark.parametrize("left", CUTS)
def test_a_statistic_cut_short_is_made_anew(run, left, caplog):
    from sacro_ray.learning.familiarity import write_familiarity

    write_familiarity(run, HERE)
    cut(familiarity_path(run), left)
    assert load_familiarity(run) is None
    assert "is made anew" in caplog.text


@pytest.mark.parametrize("left", CUTS)
@pytest.mark.parametrize("file", ["sweep.toml", "data.json", "trials/0000/values.json", "trials/0000/trial.json"])
def test_a_sweep_with_a_file_cut_short_is_named_with_what_to_do(experiment, tmp_path, file, left):
    folder = SweepFolder(tmp_path)
    folder.claim(experiment, {"ours": "1"})
    folder.begin(0, {"training.lr": 0.001})
    folder.keep({"number": 0, "best_auc": 0.5})
    cut(tmp_path / file, left)
    with pytest.raises(UserError, match=rf"{tmp_path / file} is empty, cut short"):
        (folder.check_same(experiment, {"ours": "1"}), folder.begun(), folder.records())


@pytest.mark.parametrize("left", CUTS)
@pytest.mark.parametrize("file", ["config.toml", "checkpoints/latest.pt"])
def test_a_trial_with_a_file_cut_short_begins_anew(experiment, run, file, left):
    run.save_latest({"history": [1]})
    run.validation_predictions.unlink()
    drop_damaged(run)
    assert run.load_latest() == {"history": [1]}
    cut(run.path / file, left)
    drop_damaged(run)
    assert run.load_latest() is None
    run.claim(experiment)
    assert run.experiment() == experiment


@pytest.mark.parametrize("left", CUTS)
@pytest.mark.parametrize("file", ["manifest.json", "index.csv"])
def test_a_cohort_with_a_file_cut_short_is_named(experiment, tmp_path, file, left):
    cohort = Path(shutil.copytree(f"{experiment.prepare.shards}/ours", tmp_path / "ours"))
    cut(cohort / file, left)
    if (file, left) == ("manifest.json", "all but a byte"):
        return  # the end of its last line alone
    with pytest.raises(UserError, match=rf"{cohort / file} .*prepare the cohort again"):
        (read_manifest(tmp_path, "ours"), read_index(cohort))


@pytest.mark.parametrize("left", CUTS)
def test_the_note_of_a_shard_cut_short_makes_the_shard_again(experiment, tmp_path, left):
    plan = plan_cohort("ours", experiment)
    start_folder(tmp_path / "ours", plan.settings, plan.digest)
    part = write_shard(plan.shards[0], tmp_path / "ours", experiment.prepare)
    assert finished_part(plan.shards[0], tmp_path / "ours") == part
    cut(next((tmp_path / "ours" / ".working").glob("train-*.json")), left)
    assert finished_part(plan.shards[0], tmp_path / "ours") is None
