"""Radiographs read from their shards when they are needed: for cohorts larger than the decode-once cache may be.

The members of a tar file lie where its index says, so any batch can be read in any order: a run that streams takes the very steps of
one with the cache, and needs neither its disk nor its memory.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sacro_ray.dataset.geometry import Fit, to_square
from sacro_ray.dataset.shards import shard_paths

DECODERS = min(8, os.cpu_count() or 1)
T = TypeVar("T")


class Images(Protocol):
    """Radiographs of one size that are asked for by number, as from a NumPy array: uint8 (radiographs, size_px, size_px)."""

    def __len__(self) -> int:
        """Number of radiographs."""
        ...

    def __getitem__(self, chosen: Any) -> NDArray[np.uint8]:
        """The radiographs of these numbers, or the one of this number."""
        ...


@dataclass(frozen=True)
class Member:
    """Where a PNG lies: the shard, and offset and length in bytes."""

    shard: Path
    offset: int
    length: int


class ShardImages:
    """`Images` that reads and decodes on every access, several at once."""

    def __init__(self, members: Sequence[Member], size_px: int, fit: Fit) -> None:
        self._members, self._square = list(members), partial(to_square, size_px=size_px, fit=fit)

    def __len__(self) -> int:
        """Number of radiographs."""
        return len(self._members)

    def __getitem__(self, chosen: Any) -> NDArray[np.uint8]:
        """Decode: uint8 (size_px, size_px) for a number, (n, size_px, size_px) for an array or a slice of numbers."""
        numbers = np.arange(len(self._members))[chosen]
        if np.ndim(numbers) == 0:
            return self._read(int(numbers))
        with ThreadPoolExecutor(DECODERS) as pool:
            return np.stack(list(pool.map(self._read, numbers.tolist())))

    def _read(self, number: int) -> NDArray[np.uint8]:
        member = self._members[number]
        with member.shard.open("rb") as handle:
            handle.seek(member.offset)
            png = handle.read(member.length)
        return self._square(np.asarray(Image.open(io.BytesIO(png), formats=["PNG"])))


def index_split(shards: str | Path, cohorts: Sequence[str], split: str) -> tuple[list[Member], list[dict[str, Any]]]:
    """Where the PNG of each radiograph lies, and its JSON record, in the order in which the cache would hold them.

    Raises:
        UserError: A cohort is not prepared.
    """
    members: list[Member] = []
    records: list[dict[str, Any]] = []
    for cohort in cohorts:
        for path in shard_paths(shards, cohort, split):
            with tarfile.open(path, "r:") as tar:
                for entry in tar:
                    if entry.name.endswith(".png"):
                        members.append(Member(path, entry.offset_data, entry.size))
                    elif entry.name.endswith(".json"):
                        content = tar.extractfile(entry)
                        assert content is not None
                        records.append(json.load(content))
    assert len(members) == len(records)
    return members, records


def ahead(images: Images, order: Sequence[NDArray[np.int64]], ready: Callable[[NDArray[np.uint8]], T]) -> Iterator[T]:
    """What `ready` makes of the pixels of each batch, in order; the next batch is read while the caller works on the one before."""
    with ThreadPoolExecutor(1) as reader:

        def read(indices: NDArray[np.int64]) -> T:
            return ready(images[indices])

        waiting = [reader.submit(read, indices) for indices in order[:1]]
        for following in [*order[1:], None][: len(order)]:
            current = waiting.pop()
            if following is not None:
                waiting.append(reader.submit(read, following))
            yield current.result()
