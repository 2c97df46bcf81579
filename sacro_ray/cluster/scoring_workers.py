"""What runs on the cluster's machines: parts of the input read, and scored."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.cluster.scoring_network import Scored, ScoringNetwork
from sacro_ray.cluster.scoring_overlays import as_png
from sacro_ray.cluster.scoring_reading import Prepared, prepare_apart, prepare_here
from sacro_ray.cluster.scoring_results import NO_REPORT, PART
from sacro_ray.cluster.sizing import own_cpus
from sacro_ray.config import Experiment
from sacro_ray.imaging.results_dicom import Objects, is_dicom_file, result_objects
from sacro_ray.imaging.results_model import Model
from sacro_ray.learning.run_folder import RunFolder

LAST_ATTEMPT = 5
"""Deaths of its worker after which a part is given up: its radiographs become errors."""


@dataclass(frozen=True)
class Outputs:
    """What is made of a radiograph beside its row.

    Attributes:
        overlays: A Grad-CAM overlay as PNG.
        model: For a Secondary Capture and a structured report of a DICOM file, what they say about the network; None: neither.
    """

    overlays: bool = False
    model: Model | None = None


class Attempts:
    """Counts how often each part has been begun: more than once, and a worker has died over it. An actor of its own.

    A worker that went with its machine did not die over what it read: such an attempt does not count.
    """

    def __init__(self, living: Callable[[], set[str]] | None = None) -> None:
        self._begun: dict[int, list[str]] = {}
        self._living = living or living_nodes

    def begin(self, part: int, node: str) -> int:
        """Note that a worker begins a part; returns the number of the attempt, from 1.

        Args:
            part: Its number.
            node: Ray's id of the worker's machine.
        """
        before = self._begun.setdefault(part, [])
        if before:
            living = self._living()
            before[:] = [there for there in before if there in living]
        before.append(node)
        return len(before)


def living_nodes() -> set[str]:
    """Ray's ids of the machines that are there."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


class Reader:
    """Reads parts of the input into squares.

    A part whose worker died is read again in a process apart, so that a file that takes its decoder down ends as an error row.
    """

    def __init__(self, experiment: Experiment, size_px: int, attempts: Any) -> None:
        self.experiment, self.size_px, self.attempts = experiment, size_px, attempts

    def __call__(self, part: pa.Table) -> pa.Table:
        """Read a part.

        Args:
            part: Columns of `ITEMS`.

        Returns:
            `index`, `part`, `known`, `input`, `error`, `quality`, `file` (the path, of a file of its own), `square` (bytes, row by row).
        """
        items = [item_of(row) for row in part.select(list(Item.__dataclass_fields__)).to_pylist()]
        numbers = part["part"].unique().to_pylist()
        node = ray.get_runtime_context().get_node_id()
        attempt = max(ray.get([self.attempts.begin.remote(number, node) for number in numbers]))
        if attempt > LAST_ATTEMPT:
            prepared = [Prepared(None, f"worker_died: {LAST_ATTEMPT} times over the radiographs of this batch") for _ in items]
        else:
            prepare = prepare_here if attempt == 1 else prepare_apart
            prepared = list(prepare(items, self.experiment, self.size_px))
        return pa.table(
            {
                "index": part["index"],
                "part": part["part"],
                "known": part["known"],
                "input": part["input"],
                "error": pa.array([radiograph.error for radiograph in prepared], pa.string()),
                "quality": pa.array([" ".join(radiograph.flags) for radiograph in prepared], pa.string()),
                "file": pa.array([os.fsencode(item.path) if item.offset is None else None for item in items], pa.binary()),
                "square": pa.array([_as_bytes(radiograph.square) for radiograph in prepared], pa.binary()),
            }
        )


class Scorer:
    """Holds the network and scores what was read."""

    def __init__(self, run: str, experiment: Experiment, outputs: Outputs) -> None:
        self.outputs = outputs
        self.network = ScoringNetwork(RunFolder.at(run), experiment, bool(ray.get_gpu_ids()), own_cpus())

    def __call__(self, read: pa.Table) -> pa.Table:
        """What `Reader` answers -> the columns of `PART`, and `part`."""
        rows = read.to_pylist()
        found: dict[int, Scored] = {}
        pictures: dict[int, NDArray[np.uint8]] = {}
        readable = [number for number, row in enumerate(rows) if row["square"] is not None]
        if readable:
            images = np.stack([self._image(rows[number]["square"]) for number in readable])
            found = {number: Scored(**known) for number in readable if (known := rows[number]["known"])}
            if len(found) < len(readable):
                # All are scored in one batch, and those that were scored before keep what was found then.
                found = dict(zip(readable, self.network.score(images), strict=True)) | found
            if self.outputs != Outputs():
                pictures = dict(zip(readable, self.network.overlays(images), strict=True))
        answers = [self._answer(row, found.get(number), pictures.get(number)) for number, row in enumerate(rows)]
        return pa.Table.from_pylist(answers, schema=PART).append_column("part", read["part"])

    def _answer(self, row: dict[str, Any], scored: Scored | None, picture: NDArray[np.uint8] | None) -> dict[str, Any]:
        """A row of `PART`."""
        answer = {name: row[name] for name in ("index", "input", "error", "quality")}
        if scored is None:
            return {**answer, "status": "error"}
        flags = list(dict.fromkeys([*row["quality"].split(), *scored.flags]))
        objects, failed = self._objects(row["file"], scored, flags, picture)
        return {
            **answer,
            "status": "ok",
            "probability": scored.probability,
            "familiarity": scored.familiarity,
            "quality": " ".join([*flags, *failed]),
            "overlay": as_png(picture) if self.outputs.overlays and picture is not None else None,
            "secondary_capture": objects.capture if objects else None,
            "report": objects.report if objects else None,
        }

    def _objects(
        self, file: bytes | None, scored: Scored, flags: list[str], picture: NDArray[np.uint8] | None
    ) -> tuple[Objects | None, list[str]]:
        """The DICOM objects of a DICOM file where they are asked for, or the flag that says that there are none."""
        if self.outputs.model is None or picture is None or file is None:
            return None, []
        try:
            data = Path(os.fsdecode(file)).read_bytes()
            if not is_dicom_file(data):
                return None, []
            objects = result_objects(data, picture, scored.probability, flags, scored.familiarity, self.outputs.model)
        except Exception:
            # Whatever it says may quote the header. The score stands.
            objects = None
        return objects, [] if objects else [NO_REPORT]

    def _image(self, square: bytes) -> NDArray[np.uint8]:
        return np.frombuffer(square, dtype=np.uint8).reshape(self.network.size_px, self.network.size_px)


class ReaderAndScorer:
    """Both in one worker, for machines without a GPU: as many of these as there are CPUs keep all of them busy."""

    def __init__(self, run: str, experiment: Experiment, outputs: Outputs, size_px: int, attempts: Any) -> None:
        self.read, self.score = Reader(experiment, size_px, attempts), Scorer(run, experiment, outputs)

    def __call__(self, part: pa.Table) -> pa.Table:
        """Columns of `Item`, `index` and `part` -> the columns of `PART`, and `part`."""
        return self.score(self.read(part))


def item_of(row: dict[str, Any]) -> Item:
    """A row of a part as the item it was made from."""
    return Item(**{**row, "path": os.fsdecode(row["path"]), "box": None if row["box"] is None else tuple(row["box"])})


def _as_bytes(square: NDArray[np.uint8] | None) -> bytes | None:
    return None if square is None else square.tobytes()
