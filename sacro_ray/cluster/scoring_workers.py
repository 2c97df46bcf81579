"""What runs on the cluster's machines: parts of the input read, and scored."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.cluster.scoring_overlays import overlay_png
from sacro_ray.cluster.scoring_reading import Prepared, prepare_apart, prepare_here
from sacro_ray.cluster.scoring_results import PART
from sacro_ray.config import Experiment
from sacro_ray.learning.explanation import grad_cam
from sacro_ray.learning.familiarity import Tap, load_familiarity, tapped
from sacro_ray.learning.inference import probability, score_batch
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import load_best_network
from sacro_ray.learning.run_folder import RunFolder

LAST_ATTEMPT = 5
"""Deaths of its worker after which a part is given up: its radiographs become errors."""
UNFAMILIAR_DISTANCE = 1.5
"""Of the distance that 99 % of the validation radiographs keep; farther is marked as `unfamiliar`. docs/scoring.md has what that marks."""


class Attempts:
    """Counts how often each part has been begun: more than once, and a worker has died over it. An actor of its own."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, part: int) -> int:
        """Note that a worker begins a part; answers the number of the attempt, from 1."""
        self._begun[part] = self._begun.get(part, 0) + 1
        return self._begun[part]


class Reader:
    """Reads parts of the input into squares.

    A part whose worker died is read again in a process apart, so that a file that takes its decoder down ends as an error row.
    """

    def __init__(self, experiment: Experiment, size_px: int, attempts: Any) -> None:
        self.experiment, self.size_px, self.attempts = experiment, size_px, attempts

    def __call__(self, part: pa.Table) -> pa.Table:
        """Columns of `Item`, `index` and `part` -> `index`, `part`, `input`, `error`, `quality`, and `square` (bytes, row by row)."""
        items = [item_of(row) for row in part.select(list(Item.__dataclass_fields__)).to_pylist()]
        numbers = part["part"].unique().to_pylist()
        attempt = max(ray.get([self.attempts.begin.remote(number) for number in numbers]))
        if attempt > LAST_ATTEMPT:
            prepared = [Prepared(None, f"worker_died: {LAST_ATTEMPT} times over the radiographs of this batch") for _ in items]
        else:
            prepare = prepare_here if attempt == 1 else prepare_apart
            prepared = list(prepare(items, self.experiment, self.size_px))
        return pa.table(
            {
                "index": part["index"],
                "part": part["part"],
                "input": part["input"],
                "error": pa.array([radiograph.error for radiograph in prepared], pa.string()),
                "quality": pa.array([" ".join(radiograph.flags) for radiograph in prepared], pa.string()),
                "square": pa.array([_as_bytes(radiograph.square) for radiograph in prepared], pa.binary()),
            }
        )


class Scorer:
    """Holds the network and scores what was read.

    With `explain` the rows carry an overlay.
    """

    def __init__(self, run: Path, experiment: Experiment, explain: bool) -> None:
        gpu = bool(ray.get_gpu_ids())
        self.place = Place(torch.device("cuda" if gpu else "cpu"))
        if not gpu:
            torch.set_num_threads(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        self.experiment, self.explain = experiment, explain
        self.network, _, self.size_px = load_best_network(RunFolder(run), self.place)
        self.familiarity = load_familiarity(RunFolder(run))

    def __call__(self, read: pa.Table) -> pa.Table:
        """What `Reader` answers -> the columns of `PART`, and `part`."""
        squares = read["square"].to_pylist()
        readable = [row for row, square in enumerate(squares) if square is not None]
        scores: list[float | None] = [None] * len(read)
        familiar: list[float | None] = [None] * len(read)
        flags = read["quality"].to_pylist()
        overlays: list[bytes | None] = [None] * len(read)
        if readable:
            images = np.stack([self._image(squares[row]) for row in readable])
            with tapped(self.network) as tap:
                found = self._score(images)
            percentages, strange = self._familiar(tap)
            for row, score, percentage, flagged in zip(readable, found, percentages, strange, strict=True):
                scores[row], familiar[row] = float(score), percentage
                flags[row] = f"{flags[row]} unfamiliar".strip() if flagged else flags[row]
            if self.explain:
                for row, image, heat in zip(readable, images, grad_cam(self.network, images, self.place), strict=True):
                    overlays[row] = overlay_png(image, heat)
        columns = {
            "index": read["index"],
            "input": read["input"],
            "status": pa.array(["error" if score is None else "ok" for score in scores], pa.string()),
            "error": read["error"],
            "probability": pa.array(scores, pa.float64()),
            "quality": pa.array(flags, pa.string()),
            "familiarity": pa.array(familiar, pa.float64()),
            "overlay": pa.array(overlays, pa.binary()),
        }
        return pa.table(columns, schema=PART).append_column("part", read["part"])

    def _image(self, square: bytes) -> NDArray[np.uint8]:
        return np.frombuffer(square, dtype=np.uint8).reshape(self.size_px, self.size_px)

    def _familiar(self, tap: Tap) -> tuple[list[float | None], list[bool]]:
        """The column `familiarity`, and which radiographs are to be marked."""
        features = tap.features()
        if self.familiarity is None:
            return [None] * len(features), [False] * len(features)
        far = self.familiarity.relative_distances(features) > UNFAMILIAR_DISTANCE
        return self.familiarity.percentages(features).round(1).tolist(), far.tolist()

    def _score(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        training = self.experiment.training
        logits = score_batch(self.network, images, self.place, training.precision, training.flip_at_inference)
        return probability(logits.astype(np.float64))


class ReaderAndScorer:
    """Both in one worker, for machines without a GPU: as many of these as there are CPUs keep all of them busy."""

    def __init__(self, run: Path, experiment: Experiment, explain: bool, size_px: int, attempts: Any) -> None:
        self.read, self.score = Reader(experiment, size_px, attempts), Scorer(run, experiment, explain)

    def __call__(self, part: pa.Table) -> pa.Table:
        """Columns of `Item`, `index` and `part` -> the columns of `PART`, and `part`."""
        return self.score(self.read(part))


def item_of(row: dict[str, Any]) -> Item:
    """A row of a part as the item it was made from."""
    return Item(**{**row, "box": None if row["box"] is None else tuple(row["box"])})


def _as_bytes(square: NDArray[np.uint8] | None) -> bytes | None:
    return None if square is None else square.tobytes()
