import math

import numpy as np
import pytest
import torch

from sacro_ray.learning.objective import mixing, mixup, smoothed_cross_entropy


def test_smoothed_loss_by_hand():
    # s = 0.1 and t = 1: target 0.95; p = sigmoid(0) = 0.5, so the loss is ln 2 whatever the target.
    assert smoothed_cross_entropy(torch.tensor([0.0]), torch.tensor([1.0]), 0.1).item() == pytest.approx(math.log(2))
    # Logit ln 3: p = 0.75. Target 0.95: -(0.95 ln 0.75 + 0.05 ln 0.25) = 0.34261.
    expected = -(0.95 * math.log(0.75) + 0.05 * math.log(0.25))
    assert smoothed_cross_entropy(torch.tensor([math.log(3)]), torch.tensor([1.0]), 0.1).item() == pytest.approx(expected)


def test_equals_two_class_cross_entropy_with_label_smoothing():
    logits, labels = torch.randn(20), torch.randint(0, 2, (20,))
    two = torch.stack([torch.zeros(20), logits], dim=1)
    expected = torch.nn.functional.cross_entropy(two, labels, label_smoothing=0.2, reduction="none")
    assert torch.allclose(smoothed_cross_entropy(logits, labels.float(), 0.2), expected, atol=1e-6)


def test_mixup_blends_images_and_targets_by_the_same_share():
    images, targets = torch.arange(6.0).reshape(6, 1, 1, 1), torch.arange(6.0)
    weights, partners = map(torch.from_numpy, mixing(6, 0.4, np.random.default_rng(0)))
    blended, mixed = mixup(images, weights, partners), mixup(targets, weights, partners)
    assert torch.allclose(blended.flatten(), mixed)
    assert not torch.allclose(mixed, targets)
    # The share of an image itself is at least one half: |blend - own| <= |partner - own| / 2.
    assert ((mixed - targets).abs() <= 2.5 + 1e-6).all()


def test_alpha_zero_leaves_the_batch_alone():
    weights, partners = mixing(4, 0.0, np.random.default_rng(0))
    assert weights.tolist() == [1.0] * 4
    assert partners.tolist() == [0, 1, 2, 3]


def test_mixup_of_a_pair_by_hand():
    class Fixed:
        def beta(self, a, b, size):
            return np.full(size, 0.2)

        def permutation(self, count):
            return np.array([1, 0])

    weights, partners = map(torch.from_numpy, mixing(2, 0.4, Fixed()))
    pair = torch.tensor([0.0, 1.0])
    assert mixup(pair, weights, partners).tolist() == pytest.approx([0.2, 0.8])
    assert mixup(pair.reshape(2, 1, 1, 1), weights, partners).flatten().tolist() == pytest.approx([0.2, 0.8])
