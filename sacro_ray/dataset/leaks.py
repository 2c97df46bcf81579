"""The same film twice: by its pixels, and by its looks."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

from sacro_ray.errors import UserError

# The hash's low frequencies: 16 x 16 of a 64 x 64 picture, 256 bits.
HASH_SIDE, SMALL_SIDE = 16, 64
# Differing bits up to which two pictures are listed as near-duplicates: another window, bit depth or compression of one film moves
# up to about 20, two films of different patients hardly ever less than 40 (docs/preparation.md).
NEAR_BITS = 24


class Seen(Protocol):
    """A prepared radiograph, as far as duplicates are concerned."""

    @property
    def radiograph_id(self) -> str:
        """Its id."""

    @property
    def split(self) -> str:
        """Its split."""

    @property
    def pixel_sha256(self) -> str:
        """See `pixel_digest`: of the prepared picture."""

    @property
    def stored_sha256(self) -> str:
        """Of the file's own values, whole and untouched; blank where it is not known."""


def pixel_digest(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of size and decoded pixels: the same picture in another file or encoding has the same."""
    return hashlib.sha256(
        f"{pixels.shape[0]} {pixels.shape[1]}\n".encode() + np.ascontiguousarray(pixels).tobytes()
    ).hexdigest()


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> str:
    """256 signs of the low frequencies of the picture, as 64 hexadecimal digits: stable under window, bit depth and compression."""
    small = np.asarray(Image.fromarray(pixels).resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX), dtype=np.float64)
    low = dctn(small, norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    return np.packbits(low > np.median(low[1:])).tobytes().hex()


def duplicates(radiographs: Iterable[Seen]) -> list[list[Seen]]:
    """Groups of radiographs with equal prepared pixels, each sorted by id."""
    return _groups((radiograph.pixel_sha256, radiograph) for radiograph in radiographs)


def same_films(radiographs: Iterable[Seen]) -> list[list[Seen]]:
    """Groups of radiographs whose files hold the same film, each sorted by id: such as two joints cut out of one film.

    Within a split that is as it should be, in two splits it is a leak.
    """
    return _groups((radiograph.stored_sha256, radiograph) for radiograph in radiographs if radiograph.stored_sha256)


def _groups(radiographs: Iterable[tuple[str, Seen]]) -> list[list[Seen]]:
    groups: defaultdict[str, list[Seen]] = defaultdict(list)
    for digest, radiograph in radiographs:
        groups[digest].append(radiograph)
    found = [sorted(group, key=lambda r: r.radiograph_id) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: group[0].radiograph_id)


def near_duplicates(hashes: Sequence[str]) -> list[tuple[int, int, int]]:
    """Pairs of pictures that look alike.

    Pairs are sought among pictures that share at least one of sixteen 16-bit pieces of the hash, so that the work stays far below all
    pairs: every pair up to 15 bits apart is found, and, of those up to 24 apart, all but a few in a hundred.

    Args:
        hashes: Perceptual hashes.

    Returns:
        Index, later index and differing bits (0 to 24), nearest first.
    """
    if not hashes:
        return []
    pieces = np.array([np.frombuffer(bytes.fromhex(text), dtype=np.uint16) for text in hashes])
    words = pieces.view(np.uint64)
    found: dict[tuple[int, int], int] = {}
    for piece in pieces.T:
        order = np.argsort(piece, kind="stable")
        borders = np.flatnonzero(np.diff(piece[order])) + 1
        for bucket in np.split(order, borders):
            for place, one in enumerate(bucket[:-1]):
                others = bucket[place + 1 :]
                bits = np.bitwise_count(words[others] ^ words[one]).sum(axis=1)
                found |= {
                    (int(one), int(o)): int(b) for o, b in zip(others[bits <= NEAR_BITS], bits[bits <= NEAR_BITS], strict=True)
                }
    return sorted(((one, other, bits) for (one, other), bits in found.items()), key=lambda pair: (pair[2], pair[0], pair[1]))


def refuse_pixels_in_two_splits(cohort: str, groups: Iterable[Sequence[Seen]]) -> None:
    """Make sure that no two splits of a cohort share a picture.

    Args:
        cohort: Its name.
        groups: From `duplicates` and `same_films`.

    Raises:
        UserError: They do; the message lists the radiographs.
    """
    torn = {
        " = ".join(f"{r.radiograph_id} ({r.split})" for r in group) for group in groups if len({r.split for r in group}) > 1
    }
    if torn:
        lists = "; ".join(sorted(torn)[:20])
        raise UserError(
            f"cohort {cohort}: {len(torn)} pictures are in two splits: {lists}. Keep one radiograph of each, or give them one split "
            "and, if they are of one patient, one patient_id"
        )


def refuse_pixels_in_development_and_test(
    development: Mapping[str, Iterable[Seen]], test: Mapping[str, Iterable[Seen]]
) -> None:
    """Make sure that no external test cohort shares a picture with a development cohort.

    Args:
        development: The radiographs of each development cohort, by name.
        test: Those of each external test cohort.

    Raises:
        UserError: They do; the message lists the radiographs.
    """
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for cohort, radiographs in development.items():
        for radiograph in radiographs:
            for digest in _digests(radiograph):
                seen[digest].append(f"{radiograph.radiograph_id} ({cohort})")
    shared = {
        " = ".join([*seen[digest], f"{r.radiograph_id} ({cohort})"])
        for cohort, radiographs in test.items()
        for r in radiographs
        for digest in _digests(r)
        if digest in seen
    }
    if shared:
        raise UserError(
            f"{len(shared)} pictures are both in development and in external test: {'; '.join(sorted(shared)[:20])}. "
            "Take them out of one of the two cohorts"
        )


def _digests(radiograph: Seen) -> set[str]:
    return {f"prepared {radiograph.pixel_sha256}"} | (
        {f"stored {radiograph.stored_sha256}"} if radiograph.stored_sha256 else set()
    )
