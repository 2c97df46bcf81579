import numpy as np
import pytest
import torch

from sacro_ray.config import Model, Stage, Training
from sacro_ray.learning.network import build_network
from sacro_ray.learning.optimisation import build_optimizer, build_schedule, group_rates, range_test, suggested_rate
from sacro_ray.learning.stages import plan


def test_group_rates_are_even_steps_of_the_logarithm():
    assert group_rates(1e-2, 3, 0.01) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert group_rates(1e-2, 1, 0.01) == pytest.approx([1e-2])


def test_each_layer_group_gets_its_rate_and_a_frozen_body_none():
    network = build_network(Model(architecture="resnet18", weights="none"))
    training = Training(discriminative_ratio=0.01)
    assert [g["lr"] for g in build_optimizer(network, training, 1e-2).param_groups] == pytest.approx([1e-4, 1e-3, 1e-2])
    network.body.requires_grad_(False)
    optimizer = build_optimizer(network, training, 1e-2)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([1e-2])
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(network.head.parameters()))


@pytest.mark.parametrize("schedule", ["one_cycle", "triangular"])
def test_schedule_reaches_the_rate_and_never_passes_it(schedule):
    network = build_network(Model(architecture="resnet18", weights="none"))
    training = Training(schedule=schedule, discriminative_ratio=0.1)
    optimizer = build_optimizer(network, training, 1e-2)
    scheduler = build_schedule(optimizer, training, 100)
    head = []
    for _ in range(100):
        head.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(head) == pytest.approx(1e-2, rel=0.02)
    assert head[0] < 1e-3


@pytest.mark.parametrize("schedule", ["one_cycle", "triangular"])
@pytest.mark.parametrize("steps", range(1, 9))
def test_the_shortest_phases_have_a_schedule(schedule, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1e-2)
    scheduler = build_schedule(optimizer, Training(schedule=schedule), steps)
    for _ in range(steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 1e-2 * (1 + 1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("curvature", [20.0, 200.0])
def test_range_test_finds_the_optimum_of_a_parabola(curvature):
    """Gradient descent on c x^2 / 2 reaches the bottom in one step at a rate of 1 / c, and diverges beyond 2 / c."""
    x = torch.tensor(1.0)

    def step(rate):
        nonlocal x
        loss = curvature * x**2 / 2
        x = x - rate * curvature * x
        return loss

    rates, losses = range_test(step)
    assert suggested_rate(rates, losses) == pytest.approx(1 / curvature, rel=0.25)


def test_range_test_stops_at_a_loss_that_is_not_finite():
    losses = iter([1.0, 0.5, float("nan")])
    rates, means = range_test(lambda rate: torch.tensor(next(losses)))
    assert len(rates) == len(means) == 2
    assert np.isfinite(means).all()


def test_plan_of_the_published_recipe():
    stages = [
        Stage(size_px=s, batch_size=b, frozen_epochs=100, unfrozen_epochs=100) for s, b in ((224, 64), (512, 32), (768, 84))
    ]
    phases = plan(Training(stages=stages))
    assert [(p.size_px, p.batch_size, p.name, p.first_epoch, p.last_epoch) for p in phases] == [
        (224, 64, "frozen", 1, 100), (224, 64, "unfrozen", 101, 200), (512, 32, "frozen", 201, 300),
        (512, 32, "unfrozen", 301, 400), (768, 84, "frozen", 401, 500), (768, 84, "unfrozen", 501, 600),
    ]  # fmt: skip
    assert {p.lr for p in phases} == {"auto"}


def test_a_stages_own_rate_and_a_phase_without_epochs():
    phases = plan(Training(lr=1e-3, stages=[Stage(size_px=64, batch_size=4, frozen_epochs=0, unfrozen_epochs=3, lr=1e-4)]))
    assert [(p.name, p.epochs, p.lr) for p in phases] == [("unfrozen", 3, 1e-4)]
