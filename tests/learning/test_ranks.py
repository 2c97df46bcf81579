"""Several processes of one run: every radiograph once, the very AUC of one process, and what the first does alone."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from sacro_ray.config import Model
from sacro_ray.learning.inference import area_under_roc, score_split
from sacro_ray.learning.network import build_network
from sacro_ray.learning.place import Place

RADIOGRAPHS = 131  # no multiple of the batch, nor of any number of ranks


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


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_every_rank_has_the_very_scores_and_auc_of_one_process(ranks, tmp_path):
    alone = scores(Place(torch.device("cpu")))
    assert len(np.unique(alone)) > RADIOGRAPHS // 2
    multiprocessing.spawn(rank_main, (ranks, str(tmp_path)), nprocs=ranks)
    labels = split()[1]
    for rank in range(ranks):
        found = np.load(tmp_path / f"{rank}.npy")
        assert np.array_equal(found, alone)
        assert area_under_roc(labels, found) == area_under_roc(labels, alone)


def train_alone(rank: int, ranks: int, folder: str) -> None:
    """The first rank passes a batch through synchronised batch norm, the others do nothing; keeps the statistics."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    if rank == 0:
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(torch.nn.BatchNorm1d(3))
        Place(torch.device("cpu"), rank, ranks).set_apart(network)
        network(torch.arange(12.0).reshape(4, 3))
        np.save(f"{folder}/mean.npy", network.state_dict()["running_mean"].numpy())
    dist.barrier()
    dist.destroy_process_group()


def test_a_range_test_on_the_first_rank_waits_for_no_other_though_batch_norm_is_synchronised(tmp_path):
    multiprocessing.spawn(train_alone, (2, str(tmp_path)), nprocs=2)
    # A tenth of the batch's means, 4.5, 5.5 and 6.5: the momentum of the running mean.
    assert np.load(tmp_path / "mean.npy") == pytest.approx([0.45, 0.55, 0.65])
