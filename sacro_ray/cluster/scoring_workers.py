"""What runs on the cluster's machines: parts of the input prepared and scored."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.cluster.scoring_reading import Prepared, prepare_apart, prepare_here
from sacro_ray.cluster.scoring_results import PART
from sacro_ray.config import Experiment
from sacro_ray.learning.inference import probability, score_batch
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import RunFolder

LAST_ATTEMPT = 5
"""Deaths of its worker after which a part is given up: its radiographs become errors."""


class Attempts:
    """Counts how often each part has been begun: more than once, and a worker has died over it. An actor of its own."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, part: int) -> int:
        """Note that a worker begins a part; answers the number of the attempt, from 1."""
        self._begun[part] = self._begun.get(part, 0) + 1
        return self._begun[part]


class Scorer:
    """One worker of the pool: holds the network, takes a part of the input, answers its rows.

    A part whose worker died is read again in a process apart, so that a file that takes its decoder down ends as an error row.
    """

    def __init__(self, run: Path, experiment: Experiment, attempts: Any) -> None:
        gpu = bool(ray.get_gpu_ids())
        self.place = Place(torch.device("cuda" if gpu else "cpu"))
        if not gpu:
            torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        self.experiment, self.attempts = experiment, attempts
        self.network, _, self.size_px = load_best_network(RunFolder(run), self.place)

    def __call__(self, part: pa.Table) -> pa.Table:
        """Score a part: columns of `Item`, `index` and `part` -> columns of `PART`, and `part`."""
        items = [_item(row) for row in part.select(list(Item.__dataclass_fields__)).to_pylist()]
        attempt = ray.get(self.attempts.begin.remote(part["part"][0].as_py()))
        if attempt > LAST_ATTEMPT:
            prepared = [Prepared(None, f"worker_died: {LAST_ATTEMPT} times over the radiographs of this batch") for _ in items]
        else:
            prepare = prepare_here if attempt == 1 else prepare_apart
            prepared = list(prepare(items, self.experiment, self.size_px))
        return self._score(part, items, prepared)

    def _score(self, part: pa.Table, items: list[Item], prepared: list[Prepared]) -> pa.Table:
        squares = [radiograph.square for radiograph in prepared if radiograph.square is not None]
        training = self.experiment.training
        scores: Iterator[float] = iter(())
        if squares:
            logits = score_batch(self.network, np.stack(squares), self.place, training.precision, training.flip_at_inference)
            scores = iter(probability(logits.astype(np.float64)).tolist())
        rows = [
            {
                "index": index,
                "input": item.input,
                "status": "error" if radiograph.error else "ok",
                "error": radiograph.error,
                "probability": None if radiograph.error else next(scores),
                "quality": " ".join(radiograph.flags),
            }
            for index, item, radiograph in zip(part["index"].to_pylist(), items, prepared, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=PART).append_column("part", part["part"].combine_chunks())


def _item(row: dict[str, Any]) -> Item:
    return Item(**{**row, "box": None if row["box"] is None else tuple(row["box"])})
