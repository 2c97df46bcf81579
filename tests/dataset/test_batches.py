import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacro_ray.dataset.batches import batch_sizes, inference_batches, training_batches
from sacro_ray.errors import UserError


@given(st.integers(1, 5), st.integers(10, 400), st.integers(10, 64), st.integers(0, 3))
def test_every_radiograph_once_an_epoch_over_all_ranks(ranks, radiographs, batch_size, epoch):
    per_rank = [training_batches(radiographs, batch_size, ranks, rank, (7, epoch)) for rank in range(ranks)]
    assert len({len(batches) for batches in per_rank}) == 1
    seen = np.concatenate([indices for batches in per_rank for indices in batches])
    assert sorted(seen.tolist()) == list(range(radiographs))
    assert min(len(indices) for batches in per_rank for indices in batches) >= 2
    sizes = [sum(len(b) for b in step) for step in zip(*per_rank, strict=True)]
    assert sizes == batch_sizes(radiographs, batch_size, ranks)
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 5), st.integers(1, 300), st.integers(1, 40))
def test_every_radiograph_is_scored_once_in_the_same_company(ranks, radiographs, batch_size):
    alone = {tuple(b) for b in inference_batches(radiographs, batch_size, 1, 0)}
    shared = [tuple(b) for rank in range(ranks) for b in inference_batches(radiographs, batch_size, ranks, rank)]
    assert sorted(i for batch in shared for i in batch) == list(range(radiographs))
    assert set(shared) == alone


def test_order_changes_with_the_epoch_and_only_with_it():
    first, again, next_epoch = (np.concatenate(training_batches(100, 10, 1, 0, (0, epoch))) for epoch in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != next_epoch.tolist()


def test_too_many_workers_for_the_batch_is_the_users_error():
    with pytest.raises(UserError, match="use fewer workers or larger batches"):
        batch_sizes(100, 4, 3)
