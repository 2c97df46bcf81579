"""Resampling of patients with replacement: all radiographs of a patient are drawn together.

Each statistic has its own stream of random numbers, keyed by its name, so that adding one statistic never changes another.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from sacro_ray.evaluation.estimates import Floats, Ints

# Resamples are worked on in blocks of about this many weights (8 bytes each): small enough for a core's own cache, which halves the
# time of larger blocks (benchmarks/evaluation.py), and for little memory at any size.
WEIGHTS_IN_BLOCK = 20_000


def stream(seed: int, statistic: str) -> np.random.Generator:
    """The random numbers of one named statistic: a child of the experiment's seed, keyed by the name."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(statistic.encode()),)))


def patient_weights(patients: Ints, repetitions: int, generator: np.random.Generator) -> Iterator[Floats]:
    """How often each radiograph stands in each bootstrap sample of patients.

    Args:
        patients: Shape (n,), a patient's number from 0 for each radiograph.
        repetitions: Bootstrap samples in all.
        generator: From `stream`.

    Yields:
        Blocks of shape (resamples, n); together they have `repetitions` rows.
    """
    count = int(patients.max()) + 1
    block = max(1, WEIGHTS_IN_BLOCK // max(count, patients.size))
    for start in range(0, repetitions, block):
        rows = min(block, repetitions - start)
        drawn = generator.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, patients].astype(np.float64)


def resampled_counts(cells: Ints, kinds: int, patients: Ints, repetitions: int, generator: np.random.Generator) -> Ints:
    """Counts of `kinds` cells over bootstrap samples of patients, without touching single radiographs.

    Patients with the same counts are interchangeable, so a bootstrap sample is one multinomial draw over the distinct patterns
    of counts (for one radiograph a patient: over the cells themselves). The cost does not grow with n.

    Args:
        cells: Shape (n,), the cell of each radiograph, 0 to `kinds` - 1.
        kinds: Number of cells.
        patients: Shape (n,), a patient's number from 0 for each radiograph.
        repetitions: Bootstrap samples.
        generator: From `stream`.

    Returns:
        Shape (repetitions, kinds).
    """
    count = int(patients.max()) + 1
    if count == patients.size:
        patterns, patients_of = np.eye(kinds, dtype=np.int64), np.bincount(cells, minlength=kinds)
    else:
        by_patient = np.bincount(patients * kinds + cells, minlength=count * kinds).reshape(count, kinds)
        patterns, patients_of = np.unique(by_patient, axis=0, return_counts=True)
    draws = generator.multinomial(count, patients_of / count, size=repetitions)
    return np.asarray(draws @ patterns, dtype=np.int64)
