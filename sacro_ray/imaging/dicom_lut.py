"""Lookup tables of a DICOM header (PS3.3 C.11.1.1 and C.11.2.1.1), as real files have them.

pydicom's own functions believe the descriptor: entries beyond what it says wrap, and a first value of another sign maps everything
to one grey. Here the descriptor is checked against the entries and the values.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom

from sacro_ray.imaging.dicom_values import numbers

MOST_ENTRIES = 1 << 16  # which the descriptor writes as 0


@dataclass(frozen=True)
class LookUpTable:
    """A lookup table.

    Attributes:
        first: The value that is mapped to the first entry, as written.
        count: How many entries the descriptor promises.
        entries: uint16, shape (n,), n up to `count`.
        is_as_stated: The entries have as many bits as the descriptor says.
    """

    first: int
    count: int
    entries: npt.NDArray[np.uint16]
    is_as_stated: bool

    @property
    def highest(self) -> int:
        """The highest value of the entries' own bits: what the descriptor says of them is wrong too often."""
        return (1 << int(self.entries.max()).bit_length()) - 1


def read_table(item: pydicom.Dataset, little_endian: bool) -> LookUpTable | None:
    """The table of a Modality or VOI LUT Sequence's item; None where there is none that could be used.

    Args:
        item: The sequence's item.
        little_endian: Byte order of the file.
    """
    descriptor = numbers(item, "LUTDescriptor")
    if not descriptor or len(descriptor) != 3:
        return None
    count, first, bits = (int(value) for value in descriptor)
    count = count % MOST_ENTRIES or MOST_ENTRIES
    try:
        words = _words(item, little_endian)
    except Exception:
        return None
    if words.size < count and words.size * 2 in (count, count + 1):
        # A byte an entry, the first of two in the lower byte of a word.
        words = words.astype("<u2").view(np.uint8).astype(np.uint16)
    entries = words[:count]
    if not entries.any():
        return None
    return LookUpTable(first, count, entries, int(entries.max()).bit_length() == bits)


def _words(item: pydicom.Dataset, little_endian: bool) -> npt.NDArray[np.uint16]:
    data = item.LUTData
    if isinstance(data, bytes):
        return np.frombuffer(data + b"\0" * (len(data) % 2), "<u2" if little_endian else ">u2").astype(np.uint16)
    # Always unsigned, even where they are written as signed.
    return (np.atleast_1d(np.asarray(data, dtype=np.int64)) % MOST_ENTRIES).astype(np.uint16)


def look_up(
    table: LookUpTable, values: npt.NDArray[np.integer], present: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint16] | None:
    """The entries of these values: below the table its first, above it its last.

    Args:
        table: The table.
        values: Shape (n,).
        present: Shape (n,), which of the values occur in the picture.

    Returns:
        Shape (n,); None where a value that occurs has no entry, for the table is shorter than its descriptor says.
    """
    first = _first_value(table, values[present])
    place = np.clip(values.astype(np.int64) - first, 0, table.count - 1)
    if place[present].max() >= table.entries.size:
        return None
    return table.entries[np.minimum(place, table.entries.size - 1)]


def _first_value(table: LookUpTable, occurring: npt.NDArray[np.integer]) -> int:
    """The first value mapped. Its sign is that of the values, which a writer may not have known: US for signed, and the reverse."""
    wrapped = table.first - MOST_ENTRIES if table.first >= MOST_ENTRIES // 2 else table.first % MOST_ENTRIES
    for first in (table.first, wrapped):
        if ((occurring >= first) & (occurring < first + table.count)).any():
            return first
    return table.first
