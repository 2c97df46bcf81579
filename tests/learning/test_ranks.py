"""Several processes of one run: every radiograph once, and the very AUC of one process."""

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
