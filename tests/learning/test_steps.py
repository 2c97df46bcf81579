import numpy as np
import pytest
import torch

from sacro_ray.config import Augmentation, Training
from sacro_ray.learning.augmentation import changes_from, draw
from sacro_ray.learning.place import Place
from sacro_ray.learning.steps import steps_of

LABELS = (np.arange(37) % 3 == 0).astype(np.float32)
SEED, EPOCH = 5, 2


def steps(rank, ranks, mixup_alpha=0.4, seed=SEED):
    settings = Training.model_validate(
        {"mixup_alpha": mixup_alpha, "stages": [{"size_px": 32, "batch_size": 10, "frozen_epochs": 1, "unfrozen_epochs": 1}]}
    )
    return steps_of(EPOCH, LABELS, 10, settings, seed, Place(torch.device("cpu"), rank, ranks))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_each_radiograph_is_in_one_step_and_is_changed_alike_whatever_the_ranks(ranks):
    every = [step for rank in range(ranks) for step in steps(rank, ranks)]
    assert sorted(np.concatenate([step.indices for step in every])) == list(range(37))
    expected = changes_from(draw(37, torch.Generator().manual_seed(SEED * 1_000_003 + EPOCH)), Augmentation())
    for step in every:
        assert torch.allclose(step.changes, expected[step.indices], atol=1e-6)
    for together in zip(*(steps(rank, ranks) for rank in range(ranks)), strict=True):
        assert {step.radiographs for step in together} == {sum(len(step.indices) for step in together)}


def test_targets_are_mixed_as_the_images_will_be():
    for step in steps(0, 1):
        own, other = LABELS[step.indices], LABELS[step.indices][step.partners.numpy()]
        assert sorted(step.partners.tolist()) == list(range(len(step.indices))), "partners are of the same batch"
        assert (step.weights >= 0.5).all()
        share = step.weights.numpy()
        assert step.targets.numpy() == pytest.approx(own * share + other * (1 - share), abs=1e-6)


def test_without_mixup_targets_are_the_labels():
    for step in steps(0, 1, mixup_alpha=0.0):
        assert np.array_equal(step.targets.numpy(), LABELS[step.indices])


def test_another_epoch_has_other_batches():
    settings = Training.model_validate(
        {"stages": [{"size_px": 32, "batch_size": 10, "frozen_epochs": 1, "unfrozen_epochs": 1}]}
    )
    first, second = (steps_of(epoch, LABELS, 10, settings, SEED, Place(torch.device("cpu"))) for epoch in (1, 2))
    assert not np.array_equal(first[0].indices, second[0].indices)


def test_the_largest_seed_that_an_experiment_may_have_is_no_overflow():
    largest = steps(0, 1, seed=2**63 - 1)
    assert sorted(np.concatenate([step.indices for step in largest])) == list(range(37))
    torch.manual_seed(2**63 - 1)
