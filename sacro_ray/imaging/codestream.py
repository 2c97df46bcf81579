"""The compressed picture of a DICOM file: its fragments put together, its end, and the size that it states of itself.

A decoder believes the codestream, not the DICOM header: 32 kB may claim billions of pixels, and keep a decoder for minutes.
"""

import random
from typing import NamedTuple

from sacro_ray.imaging.exclusion import ExcludedRadiograph

ITEM = b"\xfe\xff\x00\xe0"  # (FFFE,E000), PS3.5 A.4
J2K_START = b"\xff\x4f\xff\x51"  # SOC, then SIZ (ISO/IEC 15444-1, A.5.1)
JPEG_START = b"\xff\xd8\xff"  # SOI and the next marker, JPEG-LS too (ISO/IEC 10918-1, B.1.1.3)
END = b"\xff\xd9"  # EOI
SCAN, RESTARTS = b"\xff\xda", b"\xff\xdd"  # SOS, DRI
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0 to SOF15 (ISO/IEC 10918-1, B.1.1.3); JPEG-LS: SOF55
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
RLE_HEADER = 64  # bytes; the first segment starts behind it (PS3.5 G.5)
TAIL = bytes(byte for byte in random.Random(0).randbytes(4096) if byte != 0xFF)


class Stated(NamedTuple):
    """What a codestream says of itself: height and width in pixels, bits of a sample."""

    height: int
    width: int
    bits: int


def one_frame(value: bytes) -> bytes:
    """All fragments of an encapsulated pixel data element, in their order, as the one frame that a radiograph has.

    The offset tables are not asked: writers fill them with one offset for each fragment, or wrongly.

    Raises:
        ExcludedRadiograph: `truncated` where a fragment is shorter than it says, `multi_frame` where a second picture follows,
            `undecodable` where there is no fragment.
    """
    items, place = [], 0
    while value[place : place + 4] == ITEM:
        start = place + 8
        place = start + int.from_bytes(value[place + 4 : start], "little")
        if place > len(value):
            raise ExcludedRadiograph("truncated", "a fragment of the compressed picture is shorter than it says")
        items.append(value[start:place])
    # The first item is the Basic Offset Table; some writers forget it.
    fragments = items if items and _starts_picture(items[0]) else items[1:]
    if not any(fragments):
        raise ExcludedRadiograph("undecodable", "the compressed pixels are not in fragments")
    if any(_starts_picture(fragment) for fragment in fragments[1:]):
        raise ExcludedRadiograph("multi_frame")
    return b"".join(fragments)


def _starts_picture(fragment: bytes) -> bool:
    if fragment.startswith((JPEG_START, J2K_START)):
        return True
    segments, first = int.from_bytes(fragment[:4], "little"), int.from_bytes(fragment[4:8], "little")
    return 1 <= segments <= 15 and first == RLE_HEADER <= len(fragment)


def codestream(frame: bytes) -> bytes:
    """What a decoder should see: JPEG and JPEG-LS up to their end marker, added where it is missing; JPEG 2000 without boxes before it.

    PS3.5 A.4.4 allows no boxes; with damaged ones pydicom never comes back.
    """
    if not frame.startswith(JPEG_START):
        return frame[max(0, frame.find(J2K_START, 0, 4096)) :]
    end = frame.rfind(END)
    # A marker before the scan belongs to a thumbnail.
    return (frame[:end] if end > frame.rfind(SCAN) else frame) + END


def with_other_tail(frame: bytes) -> bytes:
    """A JPEG frame with other bits between its last and its end marker: a decoder of a whole picture never looks at them.

    Decoders fill up what is missing of a picture that was cut short, with grey or with what is left of the last line, and do not
    say so. Where the picture changes with these bits, it was not whole.
    """
    tail = TAIL
    if RESTARTS in frame[: frame.find(SCAN)]:
        _, last = max((frame.rfind(bytes([0xFF, 0xD0 + number])), number) for number in range(8))
        tail += b"".join(bytes([0xFF, 0xD0 + (last + number) % 8]) + TAIL[:500] for number in range(1, 9))
    return frame[: -len(END)] + tail + END


def stated(frame: bytes) -> Stated | None:
    """What a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame states of itself; None where it states nothing."""
    start = frame.find(J2K_START, 0, 4096)
    if start >= 0:
        return _of_jpeg2000(frame[start + 4 : start + 64])
    return _of_jpeg(frame) if frame.startswith(b"\xff\xd8") else None


def _of_jpeg2000(siz: bytes) -> Stated | None:
    if len(siz) < 39:
        return None
    width, height, left, top = (int.from_bytes(siz[i : i + 4], "big") for i in (4, 8, 12, 16))
    return Stated(height - top, width - left, (siz[38] & 0x7F) + 1)


def _of_jpeg(frame: bytes) -> Stated | None:
    place = 2
    while place + 9 <= len(frame):
        if frame[place] != 0xFF:
            return None
        marker = frame[place + 1]
        if marker in FRAME_HEADERS:
            height, width = (int.from_bytes(frame[place + i : place + i + 2], "big") for i in (5, 7))
            return Stated(height, width, frame[place + 4])
        if marker == 0xFF:
            place += 1
        elif marker in WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
    return None
