"""`tune`: Optuna on Ray Tune over a small experiment."""

import optuna
import pandas as pd
import pytest

from sacro_ray.cluster.search import AllTrialsFailedError, search
from sacro_ray.cluster.space import distributions, own_values, with_values
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.config import build_experiment, load_experiment
from sacro_ray.errors import UserError

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
    # An ended sweep resumed with the same settings has nothing to do; without --resume it is refused.
    assert search(small, tmp_path, resume=True) == best
    with pytest.raises(UserError, match="holds a sweep already; go on with it by --resume"):
        search(small, tmp_path, resume=False)
    with pytest.raises(UserError, match=r"was another: it differs in search.reduction_factor"):
        search(cut(experiment, "search.reduction_factor=2.0"), tmp_path, resume=True)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_trials_that_all_fail_end_the_sweep_with_the_first_error(experiment, tmp_path):
    broken = cut(
        experiment, "search.stages=[{size_px=32, batch_size=2, frozen_epochs=1, unfrozen_epochs=0}]", "training.cache_gib=1e-9"
    )
    with pytest.raises(AllTrialsFailedError, match=r"all 3 trials failed; the first error: .*cache_gib"):
        search(broken, tmp_path, resume=False)
    assert {record["state"] for record in SweepFolder(tmp_path / "small-sweep").records()} == {"FAIL"}


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_nothing_to_resume_is_the_users_error(experiment, tmp_path):
    with pytest.raises(UserError, match="no sweep to resume"):
        search(cut(experiment), tmp_path, resume=True)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("override", "says"),
    [
        ('search.space={"training.lrr"={low=1.0, high=2.0}}', "unknown key training.lrr"),
        ('search.space={"training.label_smoothing"={low=0.0, high=2.0}}', "training.label_smoothing = 2.0"),
        (
            'search.space={"prepare.store_size"={low=64, high=128, integer=true}}',
            r"settings of \[training\] and \[model\] only",
        ),
        ("search.cpus_per_trial=999.0", "a trial asks for 999 CPUs"),
    ],
)
def test_wrong_spaces_and_resources(experiment, tmp_path, override, says):
    with pytest.raises(UserError, match=says):
        search(cut(experiment, override), tmp_path, resume=False)


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
