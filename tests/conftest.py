"""What tests of several packages share: the reference files beside the project, a small prepared experiment, one local Ray."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cohorts import cohort_settings, dicom_bytes, prepare_here, write_cohort

from sacro_ray import disk
from sacro_ray.config import Experiment, build_experiment

if TYPE_CHECKING:
    from sacro_ray.learning.run_folder import RunFolder


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """No test has one; forcing every file to the disk takes seconds. tests/test_disk.py sees that it is done."""
    before, disk._sync = disk._sync, lambda path: None
    yield
    disk._sync = before


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference files beside the repository; tests that need them skip without them."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the reference files (../shared) are not here")
    return path


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., bytes]:
    """`dicom_bytes`, for tests."""
    return dicom_bytes


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    """A small prepared experiment: 72 radiographs to develop on, 16 to test on, two stages of few epochs."""
    base = tmp_path_factory.mktemp("experiment")
    found = build_experiment(
        {
            "name": "small",
            "cohorts": {
                "ours": cohort_settings(write_cohort(base / "ours", 72, 1, ["a"], splits=True), "development", ["a"]),
                "theirs": cohort_settings(write_cohort(base / "theirs", 16, 2, ["a", "b"]), "external_test", ["a", "b"]),
            },
            "prepare": {"shards": str(base / "shards"), "samples_per_shard": 10},
            "model": {"architecture": "resnet18", "weights": "none"},
            "training": {
                "lr": 0.001,
                "precision": "fp32",
                "stages": [
                    {"size_px": 32, "batch_size": 8, "frozen_epochs": 1, "unfrozen_epochs": 2},
                    {"size_px": 48, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 2},
                ],
            },
        }
    )
    before = os.environ.get("SACRO_RAY_CACHE")
    os.environ["SACRO_RAY_CACHE"] = str(base / "cache")
    prepare_here(found)
    yield found
    if before is None:
        del os.environ["SACRO_RAY_CACHE"]
    else:
        os.environ["SACRO_RAY_CACHE"] = before


@pytest.fixture(scope="session")
def random_run(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> "RunFolder":
    """What train leaves behind, with weights that were never trained: 48 px, history, validation predictions and all."""
    import torch

    from sacro_ray.dataset.cache import open_split
    from sacro_ray.learning.inference import score_batch
    from sacro_ray.learning.network import build_network
    from sacro_ray.learning.place import Place
    from sacro_ray.learning.predictions import write_validation_predictions
    from sacro_ray.learning.run_folder import HISTORY_COLUMNS, RunFolder

    here = Place(torch.device("cpu"))
    folder = RunFolder(tmp_path_factory.mktemp("runs") / experiment.name)
    folder.claim(experiment)
    torch.manual_seed(7)
    network = build_network(experiment.model)
    # A random head answers nearly the same for everything; its last layer is scaled so that the logits lie around 0 with spread 2.
    images = open_split(experiment.prepare.shards, ["ours"], "validation", 48, experiment.model.fit, 1.0).images
    logits = score_batch(network.eval(), images, here, "fp32", flip=False)
    scale = 2 / float(logits.std())
    with torch.no_grad():
        network.head[-1].weight.mul_(scale)
        network.head[-1].bias.mul_(scale).sub_(scale * float(logits.mean()))
    versions = {"torch": torch.__version__}
    folder.save_best(network.state_dict(), {"size_px": 48, "precision": "fp32", "auc": 0.6, "versions": versions})
    row = {"epoch": 1, "stage": 1, "size_px": 48, "phase": "unfrozen", "lr": 0.001, "train_loss": 0.7, "seconds": 1.0}
    folder.save_history([dict.fromkeys(HISTORY_COLUMNS, 0.6) | row])
    write_validation_predictions(experiment, folder, here)
    return folder


@pytest.fixture(scope="session")
def local_ray(experiment: Experiment) -> Iterator[None]:
    """One Ray of our own for all tests that ask for it; after `experiment`, whose cache its workers use."""
    from sacro_ray.cluster.runtime import ray_session

    with ray_session("local"):
        yield
