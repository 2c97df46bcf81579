"""Values of a DICOM header, read so that one damaged element costs no more than itself."""

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator

import pydicom

from sacro_ray.imaging.exclusion import ExcludedRadiograph


@contextlib.contextmanager
def silenced(library: str) -> Iterator[None]:
    """Keep a library quiet that quotes headers, names and UIDs in its log and in warnings."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Read a header within: nothing that pydicom says about it, values included, reaches a log, a screen or an error.

    Raises:
        ExcludedRadiograph: `damaged_header` in place of whatever a damaged header made pydicom raise.
    """
    try:
        with silenced("pydicom"):
            yield
    except ExcludedRadiograph:
        raise
    except MemoryError:
        raise ExcludedRadiograph("too_large") from None
    except Exception:
        raise ExcludedRadiograph("damaged_header") from None


def numbers(dataset: pydicom.Dataset, keyword: str) -> list[float] | None:
    """The numbers of an element: none where it is absent or empty (PS3.5, 7.4.5: the same), None where it cannot be read."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        found = [float(each) for each in (value if isinstance(value, list | pydicom.multival.MultiValue) else [value])]
    except Exception:
        return None
    return found if all(map(math.isfinite, found)) else None


def whole_number(dataset: pydicom.Dataset, keyword: str) -> int | None:
    """The one whole number of an element; None where it is absent or anything else."""
    found = numbers(dataset, keyword)
    return int(found[0]) if found and len(found) == 1 and found[0].is_integer() else None


def required_number(dataset: pydicom.Dataset, keyword: str) -> int:
    """The one whole number of an element without which pixels cannot be read.

    Raises:
        ExcludedRadiograph: `damaged_header`.
    """
    found = whole_number(dataset, keyword)
    if found is None:
        raise ExcludedRadiograph("damaged_header", f"{keyword} is missing or cannot be read")
    return found


def word(dataset: pydicom.Dataset, keyword: str) -> str:
    """The text of an element in capitals, without padding; blank where it is absent or cannot be read."""
    try:
        return str(dataset.get(keyword, "") or "").strip(" \0").upper()
    except Exception:
        return ""
