import pytest
import torch
from torch import nn
from torchvision import models

from sacro_ray.config import Model
from sacro_ray.errors import UserError
from sacro_ray.learning.network import ConcatPool, build_network, folded, with_grey_stem


def test_grey_stem_equals_three_equal_channels():
    torch.manual_seed(0)
    three = models.resnet18(weights=None).eval()
    grey = torch.randn(2, 1, 64, 64)
    expected = three(grey.expand(-1, 3, -1, -1))
    assert torch.allclose(with_grey_stem(three)(grey), expected, atol=1e-5)


def test_concat_pool_is_average_beside_maximum():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert ConcatPool()(features).tolist() == [[3.0, 6.0]]


def test_layer_groups_hold_every_parameter_once():
    network = build_network(Model(architecture="resnet18", weights="none"))
    grouped = [id(p) for group in network.layer_groups() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


def test_head_has_two_linear_layers_over_both_poolings():
    network = build_network(Model(architecture="resnet50", weights="none"))
    linear = [(m.in_features, m.out_features) for m in network.head if isinstance(m, nn.Linear)]
    assert linear == [(4096, 512), (512, 1)]


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_folded_network_is_the_same_function_without_batch_norm_in_its_body(architecture):
    torch.manual_seed(0)
    network = build_network(Model(architecture=architecture, weights="none")).to(memory_format=torch.channels_last)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):  # as after some training
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.uniform_(norm.bias, -0.2, 0.2)
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(3, 1, 64, 64)
    expected = network.eval()(images)
    network.train()
    small = folded(network)
    found = small.eval()(images)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 1e-3, "the images differ"
    assert not any(isinstance(m, nn.BatchNorm2d) for m in small.modules())
    assert torch.equal(folded(small).eval()(images), found), "folded once more, nothing changes"
    assert small.head is network.head
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_file_is_loaded_into_the_body(tmp_path):
    source = models.resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    network = build_network(Model(architecture="resnet18", weights=str(tmp_path / "weights.pth")))
    assert torch.equal(network.body.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert torch.allclose(network.body.conv1.weight, source.conv1.weight.sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: torch.save(models.resnet34(weights=None).state_dict(), path), "does not fit model.architecture"),
        (lambda path: path.write_bytes(b"no zip file"), "not a state_dict file"),
        (lambda path: torch.save([1, 2], path), "holds no state_dict"),
        (lambda path: None, "neither a file nor one of"),
    ],
)
def test_wrong_weights_are_the_users_error(tmp_path, make, says):
    make(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=says):
        build_network(Model(architecture="resnet18", weights=str(tmp_path / "weights.pth")))


def test_pickled_code_in_a_weights_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"conv1.weight": Bomb()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not a state_dict file"):
        build_network(Model(architecture="resnet18", weights=str(tmp_path / "weights.pth")))
    assert not (tmp_path / "ran").exists()
