"""What tests of several packages share: the reference files beside the project, a small prepared experiment, one local Ray."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cohorts import cohort_settings, dicom_bytes, prepare_here, write_cohort

from sacro_ray import disk
from sacro_ray.config import Experiment, build_experiment


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
def local_ray(experiment: Experiment) -> Iterator[None]:
    """One Ray of our own for all tests that ask for it; after `experiment`, whose cache its workers use."""
    from sacro_ray.cluster.runtime import ray_session

    with ray_session("local"):
        yield
