"""Several processes of one run: every radiograph once, the very AUC of one process, and what the first does alone."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from sacro_ray.config import Model, build_experiment
from sacro_ray.learning.data import open_stage
from sacro_ray.learning.inference import area_under_roc, score_split
from sacro_ray.learning.loop import TrainingRun
from sacro_ray.learning.network import build_network, folded
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder
from sacro_ray.learning.stages import plan

# The ranks of all tests are forked from one process that has imported torch and holds nothing else: importing takes seconds for each.
multiprocessing.set_forkserver_preload(["sacro_ray.learning.loop"])
RADIOGRAPHS = 131  # no multiple of the batch, nor of any number of ranks


def run_ranks(main: Callable[..., None], ranks: int, *arguments: Any) -> None:
    """Run `main(rank, ranks, *arguments)` in as many processes as there are ranks, and wait for all."""
    start_processes(main, (ranks, *arguments), nprocs=ranks, start_method="forkserver")


def split() -> tuple[np.ndarray, np.ndarray]:
    """Noise and labels."""
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (RADIOGRAPHS, 32, 32), dtype=np.uint8), rng.integers(0, 2, RADIOGRAPHS).astype(np.float32)


def scores(place: Place) -> np.ndarray:
    """The split's scores by a network of random weights, the same in every process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network(Model(architecture="resnet18", weights="none")).to(memory_format=torch.channels_last).eval()
    return score_split(network, split()[0], place, "fp32", flip=True)


def rank_main(rank: int, ranks: int, folder: str) -> None:
    """One rank of a group on this machine; keeps what it got."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    np.save(f"{folder}/{rank}.npy", scores(Place(torch.device("cpu"), rank, ranks)))
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3, pytest.param(4, marks=pytest.mark.slow), 5])
def test_every_rank_has_the_very_scores_and_auc_of_one_process(ranks, tmp_path):
    alone = scores(Place(torch.device("cpu")))
    assert len(np.unique(alone)) > RADIOGRAPHS // 2
    run_ranks(rank_main, ranks, str(tmp_path))
    labels = split()[1]
    for rank in range(ranks):
        found = np.load(tmp_path / f"{rank}.npy")
        assert np.array_equal(found, alone)
        assert area_under_roc(labels, found) == area_under_roc(labels, alone)


@pytest.fixture
def group_of_one(tmp_path):
    """A process group with this process alone in it."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
def test_the_first_rank_tests_rates_alone_though_batch_norm_is_synchronised(experiment, tmp_path):
    """On a CPU, synchronised batch norm raises in a process group; on GPUs it would wait for the ranks that wait for the rate."""
    run = TrainingRun(experiment, RunFolder(tmp_path / "run"), Place(torch.device("cpu")))
    run.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(run.network).train()
    images = torch.rand(4, 1, 32, 32)
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on"):
        run.network(images)
    phase = plan(experiment.training)[0]
    copied = run.copy_for(phase).train()
    assert torch.isfinite(copied(images)).all()
    assert copied.state_dict().keys() == run.network.state_dict().keys()
    assert not any(parameter.requires_grad for parameter in copied.body.parameters())


def averaged_rank(rank: int, ranks: int, folder: str, values: dict) -> None:
    """One rank of a training with averaged weights; keeps its scores of the validation split."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    place, seen = Place(torch.device("cpu"), rank, ranks), []
    run = TrainingRun(build_experiment(values), RunFolder(Path(folder)), place)
    run.fit(lambda row: seen.append(row["val_auc"]))
    np.savez(f"{folder}/{rank}.npz", aucs=seen, **{name: value.numpy() for name, value in run.phase_best.items()})
    dist.destroy_process_group()


@pytest.mark.parametrize(("precision", "frozen", "unfrozen"), [("fp32", 0, 1), ("bf16", 1, 0)])
def test_averaged_weights_are_the_same_on_every_rank_and_score_as_in_one_process(
    experiment, tmp_path, precision, frozen, unfrozen
):
    averaged = build_experiment(
        experiment.as_dict(),
        [
            "training.weight_averaging=0.5",
            f"training.precision={precision}",
            f"training.stages=[{{size_px=32, batch_size=8, frozen_epochs={frozen}, unfrozen_epochs={unfrozen}}}]",
        ],
    )
    run_ranks(averaged_rank, 2, str(tmp_path), averaged.as_dict())
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    for name, value in first.items():
        assert np.array_equal(value, second[name]), name
    network = build_network(averaged.model)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in first.items() if name != "aucs"})
    validation = open_stage(averaged, 32).validation
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = score_split(
        folded(network.to(memory_format=torch.channels_last)), validation.images, Place(torch.device("cpu")), precision, False
    )
    torch.set_num_threads(threads)
    assert area_under_roc(validation.labels, found) == first["aucs"][-1]
