"""The training loop on a small prepared cohort, in this process; tests/test_train.py runs it through Ray Train."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from sacro_ray.config import build_experiment
from sacro_ray.errors import UserError
from sacro_ray.learning import loop
from sacro_ray.learning.data import open_stage
from sacro_ray.learning.inference import score_split
from sacro_ray.learning.loop import DivergedError, TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import HISTORY_COLUMNS, RunFolder
from sacro_ray.learning.stages import plan

HERE = Place(torch.device("cpu"))
MEASURED = ["images_per_s", "seconds"]


def train(experiment, path, on_epoch=lambda row: None):
    folder = RunFolder(path)
    folder.claim(experiment)
    run = TrainingRun(experiment, folder, HERE)
    run.fit(on_epoch)
    return run, folder


def test_history_and_best_checkpoint_tell_of_the_same_run(experiment, tmp_path):
    run, folder = train(experiment, tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert list(history.columns) == list(HISTORY_COLUMNS)
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert history["phase"].tolist() == ["frozen", "unfrozen", "unfrozen", "unfrozen", "unfrozen"]
    assert history["size_px"].tolist() == [32, 32, 32, 48, 48]
    assert history["best_val_auc"].tolist() == history["val_auc"].cummax().tolist()
    weights, description = folder.load_best()
    assert description["auc"] == history["val_auc"].max()
    assert description["epoch"] == int(history.loc[history["val_auc"].idxmax(), "epoch"])
    assert weights.keys() == run.network.state_dict().keys()
    assert {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.pt", "best.json", "latest.pt"}


def test_each_improvement_is_kept_however_short_the_epochs(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVING_SHARE", 1e-9)
    planned = iter([0.5, 0.4, 0.6, 0.6, 0.7, 0.3, 0.2])
    monkeypatch.setattr(loop, "area_under_roc", lambda labels, scores: next(planned))
    stages = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=7, unfrozen_epochs=0}]"
    found = []

    def look(row):
        folder = RunFolder(tmp_path / "run")
        found.append((folder.load_best()[1]["epoch"], len(folder.load_latest()["history"])))

    train(build_experiment(experiment.as_dict(), [stages]), tmp_path / "run", look)
    assert found == [(1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (5, 5), (5, 7)]


SLOW = pytest.mark.slow


@pytest.mark.usefixtures("a_state_an_epoch")
@pytest.mark.parametrize("stop_after", [pytest.param(1, marks=SLOW), 2, pytest.param(3, marks=SLOW)])
def test_a_stopped_run_goes_on_to_the_very_same_end(experiment, tmp_path, stop_after):
    """Stopped in the middle of a phase, at the end of a phase and at the end of a stage: same history, same weights."""
    averaged = build_experiment(experiment.as_dict(), ["training.weight_averaging=0.9"])
    assert_the_very_same_end(averaged, tmp_path, stop_after)


def test_a_run_stopped_before_a_range_test_finds_the_same_rate_again(experiment, tmp_path):
    stages = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=1}]"
    found = build_experiment(experiment.as_dict(), ["training.lr=auto", stages])
    assert_the_very_same_end(found, tmp_path, stop_after=1)
    assert {p.name for p in (tmp_path / "stopped" / "range_test").iterdir()} == {
        f"epoch_000{first}.{kind}" for first in (1, 2) for kind in ("csv", "png")
    }


def test_the_auc_in_bf16_is_that_of_the_kept_weights(experiment, tmp_path):
    """The rounded copy that validates during training scores as the network that is loaded from the checkpoint."""
    stages = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=1}]"
    rounded = build_experiment(experiment.as_dict(), ["training.precision=bf16", stages])
    scores, scorer = [], loop.score_split
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "score_split", lambda *given: scores.append(scorer(*given)) or scores[-1])
        run, folder = train(rounded, tmp_path / "run")
    network, _, _ = load_best_network(folder, HERE)
    again = score_split(network, open_stage(rounded, 32).validation.images, HERE, "bf16", False)
    best = [row["val_auc"] for row in run.history].index(folder.load_best()[1]["auc"])
    assert np.array_equal(again, scores[best])
    exact = score_split(network, open_stage(rounded, 32).validation.images, HERE, "fp32", False)
    assert not np.array_equal(again, exact), "bf16 rounds"


@pytest.mark.parametrize("updates", [False, True])
def test_batch_norm_of_a_frozen_body_moves_where_it_is_asked_to(experiment, tmp_path, updates):
    stages = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=0}]"
    asked = build_experiment(experiment.as_dict(), [stages, f"training.frozen_batch_norm_updates={str(updates).lower()}"])
    run = TrainingRun(asked, RunFolder(tmp_path / "run"), HERE)
    before = {name: value.clone() for name, value in run.network.body.state_dict().items()}
    run.fit()
    moved = {
        name.rsplit(".", 1)[1] for name, value in run.network.body.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == ({"running_mean", "running_var", "num_batches_tracked"} if updates else set())
    norms = [module for module in run.trained_in(run.phases[0]).body.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert bool(norms) == updates


def test_short_epochs_share_a_state_and_a_stopped_run_loses_no_more_than_these(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVING_SHARE", 1e-9)
    monkeypatch.setattr(loop, "area_under_roc", lambda labels, scores: 0.5)
    states, save = [], RunFolder.save_latest

    def noted(folder, state):
        states.append((folder.path.name, len(state["history"])))
        save(folder, state)

    monkeypatch.setattr(RunFolder, "save_latest", noted)
    assert_the_very_same_end(experiment, tmp_path, stop_after=4)
    undisturbed = [("undisturbed", epoch) for epoch in (1, 3, 5)]  # the first, and the last of a phase
    stopped = [("stopped", epoch) for epoch in (1, 3, 4, 5)]  # the fourth is the first of the second start
    assert states == undisturbed + stopped


@pytest.fixture
def a_state_an_epoch(monkeypatch):
    monkeypatch.setattr(loop, "SAVING_SHARE", float("inf"))


def assert_the_very_same_end(experiment, tmp_path, stop_after):
    """Train without and with a stop after some epoch."""
    run, undisturbed = train(experiment, tmp_path / "undisturbed")

    class StoppedError(Exception):
        pass

    def stop(row):
        if row["epoch"] == stop_after:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(experiment, tmp_path / "stopped", stop)
    again, stopped = train(experiment, tmp_path / "stopped")
    histories = [pd.read_csv(folder.path / "history.csv").drop(columns=MEASURED) for folder in (undisturbed, stopped)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    for name, value in undisturbed.load_best()[0].items():
        assert torch.equal(value, stopped.load_best()[0][name]), name


def test_each_phase_starts_from_the_best_weights_of_the_one_before(experiment, tmp_path, monkeypatch):
    """With a validation AUC that falls in the second epoch of each phase, the next starts from the weights of the first."""
    stages = "training.stages=[{size_px=32, batch_size=8, frozen_epochs=2, unfrozen_epochs=2}, "
    stages += "{size_px=48, batch_size=8, frozen_epochs=2, unfrozen_epochs=1}]"
    planned = iter([0.5, 0.4, 0.9, 0.1, 0.7, 0.6, 0.8])
    monkeypatch.setattr(loop, "area_under_roc", lambda labels, scores: next(planned))
    starts, ends = {}, {}
    original = TrainingRun.train_epoch

    def weights_of(run):
        return {name: value.clone() for name, value in run.network.state_dict().items()}

    def same(one, other):
        return all(torch.equal(value, other[name]) for name, value in one.items())

    def watched(self, model, phase, data, epoch, *rest):
        starts[epoch] = weights_of(self)
        loss = original(self, model, phase, data, epoch, *rest)
        ends[epoch] = weights_of(self)
        return loss

    monkeypatch.setattr(TrainingRun, "train_epoch", watched)
    train(build_experiment(experiment.as_dict(), [stages]), tmp_path / "run")
    assert [phase.first_epoch for phase in plan(build_experiment(experiment.as_dict(), [stages]).training)] == [1, 3, 5, 7]
    for best, last, border in ((1, 2, 3), (3, 4, 5), (5, 6, 7)):
        assert same(starts[border], ends[best]), border
        assert not same(starts[border], ends[last]), border
    assert same(starts[2], ends[1]), "within a phase training goes on"


def test_a_frozen_body_does_not_move(experiment, tmp_path):
    frozen = build_experiment(
        experiment.as_dict(), ["training.stages=[{size_px=32, batch_size=8, frozen_epochs=2, unfrozen_epochs=0}]"]
    )
    torch.manual_seed(frozen.seed)
    run = TrainingRun(frozen, RunFolder(tmp_path / "run"), HERE)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.fit()
    after = run.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("body."))
    assert not torch.equal(before["head.3.weight"], after["head.3.weight"])


def test_a_flipped_radiograph_keeps_its_label_and_is_seen_once_an_epoch(experiment, tmp_path, monkeypatch):
    flipped = build_experiment(
        experiment.as_dict(),
        [
            "training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=0}]",
            "training.mixup_alpha=0",
            "training.augmentation={flip_probability=1.0, rotation_degrees=0.0, zoom=1.0, lighting=0.0, warp=0.0}",
        ],
    )
    images, targets, change, loss = [], [], loop.augment, loop.smoothed_cross_entropy

    def noted_images(*given):
        images.extend((changed := change(*given))[:, 0])
        return changed

    def noted_targets(logits, given, smoothing):
        targets.extend(given)
        return loss(logits, given, smoothing)

    monkeypatch.setattr(loop, "augment", noted_images)
    monkeypatch.setattr(loop, "smoothed_cross_entropy", noted_targets)
    train(flipped, tmp_path / "run")
    split = open_stage(flipped, 32).training
    labels = {pixels.tobytes(): label for pixels, label in zip(split.images, split.labels, strict=True)}
    mirrored_back = [
        ((image.flip(-1) * 255).round().to(torch.uint8).numpy().tobytes(), float(target))
        for image, target in zip(images, targets, strict=True)
    ]
    assert len(labels) == len(mirrored_back) == len(split.labels)
    assert dict(mirrored_back) == labels


def test_a_loss_that_is_not_finite_stops_and_names_epoch_and_radiographs(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "smoothed_cross_entropy", lambda logits, targets, s: logits * float("nan"))
    with pytest.raises(DivergedError, match=r"epoch 1 is not finite; the batch held the radiographs r\d+, "):
        train(experiment, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_does_not_go_on_with_other_shards(experiment, tmp_path, monkeypatch):
    cut = build_experiment(
        experiment.as_dict(), ["training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=0}]"]
    )
    train(cut, tmp_path / "run")
    monkeypatch.setattr(loop, "data_digests", lambda *_: {"ours": "0" * 64})
    with pytest.raises(UserError, match="not those that this run began with"):
        train(cut, tmp_path / "run")


def test_best_json_says_how_the_weights_came_about(experiment, tmp_path):
    cut = build_experiment(
        experiment.as_dict(), ["training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=0}]"]
    )
    train(cut, tmp_path / "run")
    description = json.loads((tmp_path / "run" / "checkpoints" / "best.json").read_text())
    assert description["boxes"] == {"share": 0.0, "width": None, "height": None}, "its table has no boxes"
    assert build_experiment(description["config"]) == cut
    assert {"torch", "ray", "sacro_ray"} <= description["versions"].keys()
    assert len(description["data"]["ours"]) == 64
    assert description["size_px"] == 32
    assert np.isfinite(description["auc"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same(experiment, tmp_path, monkeypatch):
    """Other kernels round otherwise, and draw other dropout; the weights are kept under the names of the plain network."""
    cut = ["model.dropout=0", "training.stages=[{size_px=32, batch_size=8, frozen_epochs=1, unfrozen_epochs=1}]"]
    plain, _ = train(build_experiment(experiment.as_dict(), cut), tmp_path / "plain")
    asked, compiler = [], torch.compile
    monkeypatch.setattr(loop.torch, "compile", lambda model: asked.append(model) or compiler(model))
    compiled, folder = train(build_experiment(experiment.as_dict(), [*cut, "training.compile=true"]), tmp_path / "compiled")
    losses = [[row["train_loss"] for row in run.history] for run in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len(asked) == 2
    assert folder.load_best()[0].keys() == plain.network.state_dict().keys()
