"""Grad-CAM against its formula written out, and what it must never do to the network."""

import numpy as np
import pytest
import torch

from sacro_ray.config import Model
from sacro_ray.learning.augmentation import as_input
from sacro_ray.learning.explanation import grad_cam
from sacro_ray.learning.network import GREY_MEAN, GREY_STD, SacroiliitisNet, empty_network
from sacro_ray.learning.place import Place

PLACE = Place(torch.device("cpu"))


@pytest.fixture(scope="module")
def network() -> SacroiliitisNet:
    torch.manual_seed(3)
    return empty_network(Model(architecture="resnet18", hidden_units=16)).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 64, 64), dtype=np.uint8)


def written_out(network: SacroiliitisNet, image: np.ndarray) -> np.ndarray:
    """The formula of Selvaraju et al.: channels weighted by their mean gradient, summed, negative parts cut off."""
    features = network.body((as_input(torch.from_numpy(image[None])) - GREY_MEAN) / GREY_STD).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.head(features).sum(), features)
    weighted = (gradient.mean(dim=(2, 3), keepdim=True) * features.detach()).sum(dim=1, keepdim=True).relu()
    return torch.nn.functional.interpolate(weighted, size=image.shape, mode="bilinear")[0, 0].numpy()


def test_is_the_published_formula_scaled_to_one(network, images):
    maps = grad_cam(network, images, PLACE)
    assert maps.shape == images.shape
    assert maps.dtype == np.float32
    some = 0
    for image, heat in zip(images, maps, strict=True):
        expected = written_out(network, image)
        if expected.max() > 0:
            some += 1
            expected = expected / expected.max()
            assert heat.max() == pytest.approx(1.0)
        np.testing.assert_allclose(heat, expected, atol=1e-4)
    assert some > 0


def test_an_image_is_explained_the_same_alone_and_among_others(network, images):
    np.testing.assert_allclose(grad_cam(network, images, PLACE)[9:10], grad_cam(network, images[9:10], PLACE), atol=1e-4)


def test_nothing_that_speaks_for_sacroiliitis_is_a_map_of_zeros(network, images):
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        network.head[-1].weight.data.zero_()
        assert not grad_cam(network, images[:2], PLACE).any()
    finally:
        network.load_state_dict(weights)


def test_leaves_the_network_as_it_was(network, images):
    network.body.conv1.weight.requires_grad_(False)
    before = {name: (p.requires_grad, p.detach().clone()) for name, p in network.named_parameters()}
    grad_cam(network, images[:1], PLACE)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == before[name][0]
        assert torch.equal(parameter, before[name][1])
        assert parameter.grad is None
    assert not network.body.layer4._forward_hooks
    network.body.conv1.weight.requires_grad_(True)


def test_works_where_gradients_are_switched_off(network, images):
    with torch.no_grad():
        maps = grad_cam(network, images[:3], PLACE)
    np.testing.assert_array_equal(maps, grad_cam(network, images[:3], PLACE))
