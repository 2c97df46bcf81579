"""`tune`: Optuna on Ray Tune over a small experiment."""

import re

import optuna
import pandas as pd
import pytest

from sacro_ray import command, tune
from sacro_ray.cluster.search import search
from sacro_ray.cluster.space import distributions, own_values, with_values
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.sweep_study import SweepStudy
from sacro_ray.config import build_experiment, load_experiment
from sacro_ray.errors import UserError
from sacro_ray.learning.data import data_digests

SHORT = "search.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=1}]"


def cut(experiment, *overrides):
    return build_experiment(experiment.as_dict(), [SHORT, "search.trials=3", *overrides])


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_sweep_ends_with_a_best_that_train_takes(experiment, tmp_path):
    small = cut(experiment)
    best = search(small, tmp_path, resume=False)
    table = pd.read_csv(tmp_path / "small-sweep" / "trials.csv")
    assert table["number"].tolist() == [0, 1, 2]
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    assert table["training.lr"].iloc[0] == small.training.lr
    assert ((table["training.lr"] >= 1e-4) & (table["training.lr"] <= 1e-2)).all()
    chosen = load_experiment(best)
    winner = table.loc[table["best_auc"].idxmax()]
    assert chosen.training.lr == pytest.approx(winner["training.lr"])
    assert chosen.training.mixup_alpha == pytest.approx(winner["training.mixup_alpha"])
    assert chosen.training.stages == small.training.stages
    assert chosen.name == "small-best"
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/small-sweep/study.db")
    assert [trial.value for trial in study.trials] == pytest.approx(table["best_auc"].tolist())
    page = (tmp_path / "small-sweep" / "sweep.html").read_text()
    assert "3 of 3 trials have ended" in page
    assert not (tmp_path / "small-sweep" / "ray").exists()
    # An ended sweep resumed with the same settings has nothing to do; without --resume it is refused.
    before = (tmp_path / "small-sweep" / "trials.csv").read_bytes()
    assert search(small, tmp_path, resume=True) == best
    assert (tmp_path / "small-sweep" / "trials.csv").read_bytes() == before
    with pytest.raises(UserError, match="holds a sweep already; go on with it by --resume"):
        search(small, tmp_path, resume=False)
    # A larger budget goes on where the smaller one ended.
    search(cut(experiment, "search.trials=4"), tmp_path, resume=True)
    longer = pd.read_csv(tmp_path / "small-sweep" / "trials.csv")
    assert longer["number"].tolist() == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(longer.iloc[:3], table, check_dtype=False)


@pytest.mark.parametrize(("auc", "said"), [(0.36, True), (0.9, False)])
def test_a_sweep_whose_best_is_worse_than_chance_ends_with_a_remark(experiment, tmp_path, caplog, auc, said):
    small = cut(experiment, "search.trials=1")
    folder = SweepFolder(tmp_path / "small-sweep")
    folder.claim(small, data_digests(small, ["ours"]))
    number, values = SweepStudy(small, folder).ask()
    ended = {"best_auc": auc, "epoch": 1, "epochs": 2, "seconds": 1.0, "aucs": [auc, auc - 0.1], "error": None}
    folder.keep({"number": number, "state": "COMPLETE", "values": values, **ended})
    search(small, tmp_path, resume=True)
    assert ("remark: the best trial: the AUC of 0.36 is worse than chance" in caplog.text) is said


def test_another_space_or_other_data_is_not_resumed(experiment, tmp_path):
    small = cut(experiment)
    folder = SweepFolder(tmp_path / "small-sweep")
    folder.claim(small, data_digests(small, ["ours"]))
    other = cut(experiment, "search.space.training.lr={low=0.01, high=0.1, log=true}")
    with pytest.raises(
        UserError, match=r"was another: it differs in .*search.space.training.lr.low \(0.0001 there, 0.01 now\)"
    ):
        search(other, tmp_path, resume=True)
    (folder.path / "data.json").write_text('{"ours": "0123"}')
    with pytest.raises(UserError, match="the shards have changed since the sweep"):
        search(small, tmp_path, resume=True)


def test_a_folder_in_which_no_trial_has_begun_is_free(experiment, tmp_path):
    folder, small = SweepFolder(tmp_path / "small-sweep"), cut(experiment)
    folder.claim(small, {})
    folder.claim(cut(experiment, "seed=3"), {})
    folder.begin(0, {"training.lr": 0.1})
    with pytest.raises(UserError, match="holds a sweep already"):
        folder.claim(small, {})


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_trials_that_all_fail_end_the_sweep_with_status_1_and_the_first_error(experiment, tmp_path, capsys):
    file = tmp_path / "small.toml"
    file.write_text(
        cut(experiment, "search.trials=2", 'search.space={"training.lr"={low=1e30, high=1e31, log=true}}').as_toml()
    )
    with pytest.raises(SystemExit) as caught:
        command.run(tune.main, [str(file), "--runs", str(tmp_path)])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert re.search(r"error: all 2 trials failed; the first error: DivergedError: .*is not finite", said)
    assert "Traceback" not in said
    folder = SweepFolder(tmp_path / "small-sweep")
    assert [(record["state"], record["best_auc"]) for record in folder.records()] == [("FAIL", None)] * 2
    assert pd.read_csv(folder.path / "trials.csv")["error"].str.contains("is not finite").all()
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{folder.path}/study.db")
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.FAIL] * 2
    assert "is not finite" in study.trials[0].user_attrs["error"]
    assert not (folder.path / "best.toml").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_trial_of_several_workers_leaves_them_their_cpus(experiment, tmp_path):
    """Driver and workers together ask for no more than the workers alone: on two CPUs, two workers and their driver run."""
    search(cut(experiment, "search.trials=1", "search.workers_per_trial=2"), tmp_path, resume=False)
    assert [record["state"] for record in SweepFolder(tmp_path / "small-sweep").records()] == ["COMPLETE"]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ['search.space={"training.lrr"={low=1.0, high=2.0}}'],
            "unknown key training.lrr; the nearest known key is training.lr",
        ),
        (['search.space={"training.label_smoothing"={low=0.0, high=2.0}}'], "training.label_smoothing = 2.0"),
        (['search.space={"prepare.store_size"={low=64, high=128, integer=true}}'], "settings of [training] and [model] only"),
        (['search.space={"training.lr"={low=0.1, high=0.01}}'], "low (0.1) must lie below high (0.01)"),
        (['search.space={"training.mixup_alpha"={low=0.0, high=0.8, log=true}}'], "a log range must lie above zero"),
        (['search.space={"training.stages.0.batch_size"={low=4.5, high=8, integer=true}}'], "give whole numbers as its ends"),
        (['search.space={"training.lr"={low=1e-4, high=inf}}'], "training.lr.high = inf: Input should be a finite number"),
        (['search.space={"training.lr"={low=nan, high=1.0}}'], "training.lr.low = nan: Input should be a finite number"),
        ([f"name={'n' * 61}"], "adds -best to it; give at most 59"),
        (["search.trials=0"], "search.trials = 0"),
        (["search.gpus_per_trial=99"], "a trial asks for 99 GPUs (search.gpus_per_trial), this Ray has"),
        (["search.cpus_per_trial=999.0"], "a trial asks for 999 CPUs"),
        (["--resume"], "no sweep to resume at"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(experiment, tmp_path, capsys, arguments, says):
    file = tmp_path / "small.toml"
    file.write_text(cut(experiment).as_toml())
    given = [part for a in arguments for part in (["--set", a] if "=" in a else [a])]
    with pytest.raises(SystemExit) as caught:
        command.run(tune.main, [str(file), "--runs", str(tmp_path / "runs"), *given])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    assert says in said
    assert "Traceback" not in said
    # What was refused leaves nothing behind that would stand in the way of the next try.
    assert not (tmp_path / "runs").exists()


def test_the_space_holds_integers_and_choices_and_the_experiments_own_values(experiment):
    overrides = [
        "search.space.training.stages.0.batch_size={low=4, high=16, integer=true}",
        'search.space.model.architecture={choices=["resnet18", "resnet34"]}',
        "search.space.training.lr={low=0.01, high=0.1, log=true}",
        "search.space.training.mixup_alpha={low=0.1, high=0.8}",
        "search.space.training.label_smoothing={low=0.0, high=0.2}",
    ]
    searched = build_experiment(experiment.as_dict(), overrides)
    space = distributions(searched)
    assert isinstance(space["training.stages.0.batch_size"], optuna.distributions.IntDistribution)
    # The own learning rate, 1e-3, lies outside the range: the sampler chooses it.
    own = {
        "training.stages.0.batch_size": 8,
        "model.architecture": "resnet18",
        "training.mixup_alpha": 0.4,
        "training.label_smoothing": 0.1,
    }
    assert own_values(searched) == own
    changed = with_values(searched, {"training.stages.0.batch_size": 6, "training.lr": 0.05})
    assert (changed.training.stages[0].batch_size, changed.training.lr) == (6, 0.05)
