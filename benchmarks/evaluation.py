"""Speed of the statistics: ratios within one run, against a plain loop over scikit-learn.

    python benchmarks/evaluation.py

Prints one line a measurement. The loop is timed on fewer repetitions where it would take minutes, and scaled up; the line says so.
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from sacro_ray.evaluation.agreement import kappa
from sacro_ray.evaluation.bootstrap import stream
from sacro_ray.evaluation.discrimination import auc_delong, average_precision

REPETITIONS = 1000
TEST_SET = 458  # the study's external test cohort
LARGE = 100_000


def seconds(action: Callable[..., object], *arguments: Any, times: int = 3) -> float:
    """Processor seconds of the shortest of some runs; other programs on the machine do not count."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        action(*arguments)
        best = min(best, time.process_time() - start)
    return best


def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of a binormal model."""
    generator = np.random.default_rng(0)
    labels = generator.random(n) < 0.63
    return labels, 1 / (1 + np.exp(-(generator.normal(size=n) + 2 * (labels - 0.5))))


def loop(labels: np.ndarray, values: np.ndarray, metric: Callable[..., float], repetitions: int) -> None:
    """What a script would do: resample indices, call scikit-learn, keep the number."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(repetitions):
        chosen = generator.integers(0, labels.size, labels.size)
        found.append(metric(labels[chosen], values[chosen]))
    np.quantile(found, [0.025, 0.975])


def compare(name: str, ours: float, theirs: float, note: str = "") -> None:
    """One line."""
    print(f"{name:<58} {ours * 1000:>10.1f} ms   loop {theirs * 1000:>12.1f} ms   {theirs / ours:>8.0f} times faster{note}")


def our_kappa(labels: np.ndarray, calls: np.ndarray, patients: np.ndarray) -> None:
    kappa(labels, calls, patients, REPETITIONS, stream(0, "kappa"))


def our_precision(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> None:
    average_precision(labels, scores, patients, REPETITIONS, stream(0, "average precision"))


def main() -> None:
    """Measure and print."""
    print(f"python {sys.version.split()[0]}, numpy {np.__version__}; {REPETITIONS} bootstrap repetitions; processor seconds")
    for n, timed in ((TEST_SET, REPETITIONS), (LARGE, 10)):
        labels, scores = sample(n)
        calls = scores >= 0.5
        note = "" if timed == REPETITIONS else f" (loop timed on {timed} repetitions)"
        scale = REPETITIONS / timed
        alone, pairs = np.arange(n), np.arange(n) // 2
        theirs = scale * seconds(loop, labels, calls, cohen_kappa_score, timed, times=1)
        for kind, patients in (("one radiograph a patient", alone), ("two radiographs a patient", pairs)):
            compare(f"kappa bootstrap, n = {n}, {kind}", seconds(our_kappa, labels, calls, patients), theirs, note)
        theirs = scale * seconds(loop, labels, scores, average_precision_score, timed, times=1)
        compare(f"average precision bootstrap, n = {n}", seconds(our_precision, labels, scores, alone), theirs, note)
    previous = 0.0
    for n in (LARGE // 100, LARGE // 10, LARGE):
        labels, scores = sample(n)
        ours = seconds(auc_delong, labels, scores)
        growth = f", {ours / previous:.1f} times the line above" if previous else ""
        print(f"DeLong, n = {n:<47}{ours * 1000:>10.1f} ms{growth}")
        previous = ours
    assert abs(auc_delong(labels, scores).estimate - roc_auc_score(labels, scores)) < 1e-9
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
