"""The distance from the training set: its formula, its percentile, and what the network does not notice."""

import numpy as np
import pytest
import torch

from sacro_ray.config import Model
from sacro_ray.errors import UserError
from sacro_ray.learning.augmentation import as_input
from sacro_ray.learning.familiarity import fit_familiarity, load_familiarity, tapped, write_familiarity
from sacro_ray.learning.inference import score_batch
from sacro_ray.learning.network import GREY_MEAN, GREY_STD, build_network, empty_network
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder

PLACE = Place(torch.device("cpu"))


def drawn(count: int, seed: int) -> np.ndarray:
    """Features that vary in three directions, and a little in all."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(3, 80))
    return rng.normal(size=(count, 3)) @ directions + 0.1 * rng.normal(size=(count, 80)) + 5


def test_with_all_directions_kept_it_is_the_distance_of_mahalanobis():
    rng = np.random.default_rng(0)
    training, others = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(9, 6))
    model = fit_familiarity(training, others, "x")
    inverse = np.linalg.inv(np.cov(training.T, bias=True))
    centred = others - training.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, inverse, centred) / 6)
    np.testing.assert_allclose(model.distances(others), expected, rtol=1e-6)


def test_validation_spreads_over_all_percentages_and_strangers_are_at_zero():
    model = fit_familiarity(drawn(300, 1), drawn(200, 2), "x")
    fresh = model.percentages(drawn(400, 3))
    assert 40 < fresh.mean() < 60
    outside = drawn(50, 4) + np.random.default_rng(5).normal(size=(50, 80))
    far_along = (drawn(50, 4) - 5) * 12 + 5
    for strangers in (outside, far_along):
        assert (model.percentages(strangers) == 0).mean() > 0.9
        assert np.median(model.relative_distances(strangers)) > 1.5
    assert np.quantile(model.relative_distances(drawn(400, 3)), 0.9) < 1


def test_few_radiographs_and_dead_channels_are_no_division_by_zero():
    training = np.concatenate([drawn(3, 1), np.zeros((3, 4))], axis=1)
    model = fit_familiarity(training, training, "x")
    assert np.isfinite(model.distances(training + 1)).all()


def test_the_tap_notes_the_features_and_changes_no_score():
    torch.manual_seed(0)
    network = empty_network(Model(architecture="resnet18")).eval()
    images = np.random.default_rng(0).integers(0, 255, (5, 48, 48), dtype=np.uint8)
    before = score_batch(network, images, PLACE, "fp32", flip=True)
    with tapped(network) as tap:
        again = score_batch(network, images, PLACE, "fp32", flip=True)
    np.testing.assert_array_equal(before, again)
    assert tap.features().shape == (5, 64 + 128 + 256 + 512)
    with torch.no_grad():
        last = network.body((as_input(torch.from_numpy(images)) - GREY_MEAN) / GREY_STD).mean(dim=(2, 3))
    np.testing.assert_allclose(tap.features()[:, -512:], last, atol=1e-4)
    assert not network.body.layer1._forward_hooks


def test_kept_beside_the_checkpoint_and_void_with_other_weights(experiment, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(experiment)
    torch.manual_seed(1)
    folder.save_best(build_network(experiment.model).state_dict(), {"size_px": 32})
    assert load_familiarity(folder) is None
    written = write_familiarity(folder, PLACE)
    loaded = load_familiarity(folder)
    probe = np.random.default_rng(0).normal(size=(4, len(written.mean)))
    np.testing.assert_array_equal(loaded.percentages(probe), written.percentages(probe))
    folder.save_best(build_network(experiment.model).state_dict(), {"size_px": 32})
    assert load_familiarity(folder) is None


def test_cohorts_that_are_not_here_are_the_users_to_mend(experiment, tmp_path):
    elsewhere = experiment.model_copy(
        update={"prepare": experiment.prepare.model_copy(update={"shards": str(tmp_path / "none")})}
    )
    folder = RunFolder(tmp_path / "run")
    folder.claim(elsewhere)
    folder.save_best(build_network(experiment.model).state_dict(), {"size_px": 32})
    with pytest.raises(UserError, match="run prepare"):
        write_familiarity(folder, PLACE)
