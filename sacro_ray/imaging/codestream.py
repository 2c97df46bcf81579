"""The size that a compressed picture states of itself: one that contradicts its header may be a decompression bomb.

A decoder believes the codestream, not the DICOM header: 32 kB may claim billions of pixels, and keep a decoder for minutes.
"""

J2K_START = b"\xff\x4f\xff\x51"  # SOC, then SIZ (ISO/IEC 15444-1, A.5.1)
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0 to SOF15 (ISO/IEC 10918-1, B.1.1.3); JPEG-LS: SOF55
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}


def stated_size(frame: bytes) -> tuple[int, int] | None:
    """Height and width, pixels, that a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame states; None where it states none."""
    start = frame.find(J2K_START, 0, 4096)
    if start >= 0:
        return _of_jpeg2000(frame[start + 4 :])
    return _of_jpeg(frame) if frame.startswith(b"\xff\xd8") else None


def _of_jpeg2000(siz: bytes) -> tuple[int, int] | None:
    if len(siz) < 36:
        return None
    width, height, left, top = (int.from_bytes(siz[i : i + 4], "big") for i in (4, 8, 12, 16))
    return height - top, width - left


def _of_jpeg(frame: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(frame):
        if frame[place] != 0xFF:
            return None
        marker = frame[place + 1]
        if marker in FRAME_HEADERS:
            return int.from_bytes(frame[place + 5 : place + 7], "big"), int.from_bytes(frame[place + 7 : place + 9], "big")
        if marker == 0xFF:
            place += 1
        elif marker in WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
    return None
