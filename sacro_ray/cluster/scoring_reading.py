"""From an item to the square the network takes, by the code and the settings of `prepare`; a file that cannot be read is a row too."""

import faulthandler
import io
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sacro_ray.cluster.scoring_inputs import Item, Whole
from sacro_ray.cluster.scoring_quality import quality_flags, stored_quality_flags
from sacro_ray.config import Experiment
from sacro_ray.dataset.files import read_file
from sacro_ray.dataset.geometry import to_square
from sacro_ray.imaging.decode import Box, read_radiograph
from sacro_ray.imaging.exclusion import ExcludedRadiograph, one_file_alone

LONGEST_READING_S = 120.0
"""A decoder that takes longer than this for one file is stuck; the largest plain radiographs take about a second."""


@dataclass(frozen=True)
class Prepared:
    """A radiograph ready for the network, or the reason why it cannot be scored.

    Attributes:
        square: uint8 (size_px, size_px), or None.
        error: Blank where there is a square; never text from a header.
        flags: Remarks on the image's quality.
    """

    square: NDArray[np.uint8] | None
    error: str = ""
    flags: tuple[str, ...] = ()


def prepare_item(item: Item, experiment: Experiment, size_px: int) -> Prepared:
    """Read and prepare one radiograph; whatever is wrong with the file is in what is returned, not raised."""
    try:
        if item.offset is None:
            return prepare_bytes(read_file(item.path), experiment, size_px, item.box, item.whole)
        pixels = _stored_pixels(item)
        whole = _not_cropped(item.cut, item.whole)
        square = to_square(pixels, size_px, experiment.model.fit)
        return Prepared(square, flags=(*whole, *stored_quality_flags(pixels, size_px)))
    except OSError as error:
        return Prepared(None, f"unreadable_file: {type(error).__name__}")
    except ExcludedRadiograph as error:
        return Prepared(None, str(error))


def prepare_bytes(
    data: bytes, experiment: Experiment, size_px: int, box: Box | None = None, whole: Whole = "scored"
) -> Prepared:
    """Prepare the radiograph in a file's bytes; whatever is wrong with it is in what is returned, not raised."""
    try:
        radiograph = read_radiograph(data, experiment.prepare, box)
        height, width = radiograph.source_size
        cut = experiment.prepare.crop != "none" and box not in (None, (0, 0, width, height))
        remarks = _not_cropped(cut, whole)
    except ExcludedRadiograph as error:
        return Prepared(None, str(error))
    square = to_square(radiograph.pixels, size_px, experiment.model.fit)
    return Prepared(square, flags=(*remarks, *quality_flags(radiograph, size_px)))


def _not_cropped(cut: bool, whole: Whole) -> tuple[str, ...]:
    """The remark on a radiograph that is not cut to a box although the network knows only such.

    Raises:
        ExcludedRadiograph: It is refused.
    """
    if cut or whole == "scored":
        return ()
    if whole == "refused":
        raise ExcludedRadiograph("no_box")
    return ("not_cropped",)


def _stored_pixels(item: Item) -> NDArray[np.uint8]:
    with open(item.path, "rb") as file:
        file.seek(item.offset or 0)
        data = file.read(item.size)
    with one_file_alone():
        return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))


def prepare_here(items: Sequence[Item], experiment: Experiment, size_px: int) -> Iterator[Prepared]:
    """Prepare in this process, which ends where a decoder does not come back: the part is then tried again by `prepare_apart`."""
    for item in items:
        with ended_when_stuck():
            prepared = prepare_item(item, experiment, size_px)
        yield prepared


@contextmanager
def ended_when_stuck(seconds: float = LONGEST_READING_S) -> Iterator[None]:
    """End this process where the block takes longer than this."""
    # A watchdog outside Python's own lock: it ends the process even from within a decoder written in C.
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def prepare_apart(items: Sequence[Item], experiment: Experiment, size_px: int) -> Iterator[Prepared]:
    """Prepare in a process beside this one; a file whose decoder takes that process down is `decoder_crashed`."""
    pool: ProcessPoolExecutor | None = None
    try:
        for item in items:
            pool = pool or ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
            try:
                yield pool.submit(_prepare_watched, item, experiment, size_px).result()
            except BrokenProcessPool:
                pool = None
                yield Prepared(None, str(ExcludedRadiograph("decoder_crashed")))
    finally:
        if pool is not None:
            pool.shutdown()


def _prepare_watched(item: Item, experiment: Experiment, size_px: int) -> Prepared:
    with ended_when_stuck():
        return prepare_item(item, experiment, size_px)
