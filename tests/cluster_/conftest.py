"""A run folder with random weights, and its page."""

import socket
from collections.abc import Iterator

import pytest
import torch

from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.cluster.serving import served
from sacro_ray.config import Experiment
from sacro_ray.dataset.cache import open_split
from sacro_ray.learning.inference import score_batch
from sacro_ray.learning.network import build_network
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import write_validation_predictions
from sacro_ray.learning.run_folder import RunFolder


@pytest.fixture(scope="session")
def random_run(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What train leaves behind, with weights that were never trained: 48 px, validation predictions and all."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / experiment.name)
    folder.claim(experiment)
    torch.manual_seed(7)
    network = build_network(experiment.model)
    # A random head answers nearly the same for everything; its last layer is scaled so that the logits lie around 0 with spread 2.
    images = open_split(experiment.prepare.shards, ["ours"], "validation", 48, experiment.model.fit, 1.0).images
    logits = score_batch(network.eval(), images, Place(torch.device("cpu")), "fp32", flip=False)
    scale = 2 / float(logits.std())
    with torch.no_grad():
        network.head[-1].weight.mul_(scale)
        network.head[-1].bias.mul_(scale).sub_(scale * float(logits.mean()))
    folder.save_best(network.state_dict(), {"size_px": 48, "precision": "fp32"})
    write_validation_predictions(experiment, folder, Place(torch.device("cpu")))
    return folder


@pytest.fixture(scope="package")
def served_run(local_ray, random_run: RunFolder) -> Iterator[str]:
    """The address of the page of `random_run`, which takes uploads of at most 1 MiB."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with served(ScoringRun.at(random_run.path), "127.0.0.1", port, None, 2**20) as url:
        yield url
