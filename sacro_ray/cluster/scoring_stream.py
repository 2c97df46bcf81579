"""The stream through Ray Data: parts of the input in, their rows out, as they are done."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.cluster.scoring_workers import Attempts, Outputs, Reader, ReaderAndScorer, Scorer
from sacro_ray.cluster.sizing import Node, largest_share, places
from sacro_ray.config import Experiment
from sacro_ray.errors import UserError

KNOWN = pa.struct([("probability", pa.float64()), ("familiarity", pa.float64()), ("flags", pa.list_(pa.string()))])
"""A `Scored` of before, of a radiograph that lacks only a file; null for one that is still to be scored."""
ITEMS = pa.schema(
    [
        ("index", pa.int64()),
        ("part", pa.int64()),
        ("input", pa.string()),
        ("path", pa.binary()),
        ("box", pa.list_(pa.int64())),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("stamp", pa.string()),
        ("cut", pa.bool_()),
        ("whole", pa.string()),
        ("known", KNOWN),
    ]
)


@dataclass(frozen=True)
class Pool:
    """Workers for a cluster.

    Attributes:
        workers: The most that hold the network.
        gpus: GPUs of each, or a fraction of one.
        reading_apart: Tasks on other CPUs read the files; otherwise a worker both reads and scores.
    """

    workers: int
    gpus: float
    reading_apart: bool


def pool_for(experiment: Experiment, nodes: Sequence[Node], parts: int) -> Pool:
    """Workers as asked by `scoring.actors`; `auto` is as many as the GPUs hold beside a CPU each, or, without GPUs, one per CPU.

    Raises:
        UserError: No machine has the GPUs of one worker.
    """
    gpus = experiment.scoring.gpus_per_actor if largest_share(nodes, 1)[1] else 0.0
    fitting = sum(places(node, 1, gpus) for node in nodes)
    if gpus and not fitting:
        most = max(node.get("GPU", 0) for node in nodes)
        raise UserError(
            f"scoring.gpus_per_actor = {gpus:g}, but no machine of this Ray has more than {most:g} GPUs; give at most that"
        )
    asked = experiment.scoring.actors
    workers = max(1, min(fitting if asked == "auto" else asked, parts))
    # Files are read apart where the workers leave a CPU for it.
    return Pool(workers, gpus, reading_apart=gpus > 0 and sum(int(node.get("CPU", 0)) for node in nodes) > workers)


def stream_parts(
    run: str,
    experiment: Experiment,
    size_px: int,
    outputs: Outputs,
    items: Sequence[Item],
    parts: Sequence[int],
    size: int,
    pool: Pool,
    known: Callable[[int], list[dict[str, Any]]] = lambda number: [],
) -> Iterator[tuple[int, pa.Table]]:
    """Score parts of the input.

    Args:
        run: Path or address of the run folder.
        experiment: Its configuration, with overrides.
        size_px: Side of the network's input, pixels.
        outputs: What is made beside the rows.
        items: The whole input.
        parts: Numbers of the parts to score: part k is `items[k * size : (k + 1) * size]`.
        size: Radiographs a part.
        pool: Who works.
        known: The rows of a part that was scored before, in order, or none: only files are made of such.

    Yields:
        Number and rows (columns of `PART`) of each part, whole, each once, in the order in which they are done.
    """
    waiting: dict[int, list[pa.Table]] = {}
    for table in _blocks(run, experiment, size_px, outputs, _tables(items, parts, size, known), size, pool):
        for number in table["part"].unique().to_pylist():
            waiting.setdefault(number, []).append(table.filter(pc.equal(table["part"], number)).drop_columns("part"))
            if sum(len(rows) for rows in waiting[number]) == len(items[number * size : (number + 1) * size]):
                yield number, pa.concat_tables(waiting.pop(number))
    assert not waiting


def quiet_ray() -> None:
    """Keep from the terminal what Ray reports about its own work; called before Ray starts."""
    # The core calls it an error that restartable workers have large arguments, which Ray Data does on purpose.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _blocks(
    run: str, experiment: Experiment, size_px: int, outputs: Outputs, tables: list[pa.Table], size: int, pool: Pool
) -> Iterator[pa.Table]:
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Beside the driver, whose end is the end of all: on another machine it could be lost, and what it counts with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    attempts = ray.remote(num_cpus=0, scheduling_strategy=here)(Attempts).remote()
    dataset = ray.data.from_arrow(tables)
    common: dict[str, Any] = {"batch_size": size, "batch_format": "pyarrow", "zero_copy_batch": True, "num_cpus": 1}
    actors = ActorPoolStrategy(min_size=1, max_size=pool.workers, initial_size=pool.workers)
    if pool.reading_apart:
        read = dataset.map_batches(Reader(experiment, size_px, attempts).__call__, **common)
        network = (run, experiment, outputs)
        scored = read.map_batches(Scorer, fn_constructor_args=network, compute=actors, num_gpus=pool.gpus, **common)
    else:
        whole = (run, experiment, outputs, size_px, attempts)
        scored = dataset.map_batches(ReaderAndScorer, fn_constructor_args=whole, compute=actors, num_gpus=pool.gpus, **common)
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow")


def _tables(
    items: Sequence[Item], parts: Iterable[int], size: int, known: Callable[[int], list[dict[str, Any]]]
) -> list[pa.Table]:
    """The parts as tables of `ITEMS`; each becomes a block of the stream."""
    tables = []
    for part in parts:
        before = {
            row["index"]: {
                "probability": row["probability"], "familiarity": row["familiarity"], "flags": row["quality"].split(),
            }
            for row in known(part)
            if row["status"] == "ok"
        }  # fmt: skip
        rows = [
            asdict(item) | {"path": os.fsencode(item.path), "index": index, "part": part, "known": before.get(index)}
            for index, item in enumerate(items[part * size : (part + 1) * size], start=part * size)
        ]
        tables.append(pa.Table.from_pylist(rows, schema=ITEMS))
    return tables
