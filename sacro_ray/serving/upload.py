"""An upload's bytes, held in memory only, and no more of them than allowed; and the box to which it is to be cut."""

import re
from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from sacro_ray.imaging.decode import Box
from sacro_ray.serving.answers import Refused

FIELD = "file"
CROP = ("crop_left", "crop_top", "crop_right", "crop_bottom")
ENVELOPE_BYTES = 1 << 16
"""What a form may be longer than its file: boundaries and part headers."""


async def read_upload(request: Request, largest: int) -> tuple[bytes, Box | None]:
    """The bytes of the form's one file, and the box that goes with it: left, top, right, bottom, pixels, right and bottom exclusive.

    Args:
        request: multipart/form-data with a file in the field `file` and, for a box, all of `CROP`.
        largest: Bytes a file may have.

    Raises:
        Refused: 413 where it is too large, 415 where it is no form, 422 where the form is damaged, has no file, or half a box.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused(415, "not_a_form", f"send multipart/form-data with the radiograph in the field {FIELD}")
    parser = _parser_in_memory(largest)(request.headers, _at_most(request, largest), max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except ClientDisconnect:
        raise Refused(400, "disconnected", "the upload ended too early") from None
    except (MultiPartException, FormParserError, ValueError, LookupError):
        raise Refused(422, "damaged_form", "the form is not valid multipart/form-data with one file") from None
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise Refused(422, "no_file", f"the form has no file in the field {FIELD}")
        data, box = await file.read(), _box(form)
    finally:
        await form.close()
    if len(data) > largest:
        raise _too_large(largest)
    return data, box


def _box(form: FormData) -> Box | None:
    given = [form.get(name) for name in CROP]
    if given == [None] * 4:
        return None
    edges = [int(text) for text in given if isinstance(text, str) and re.fullmatch(r"\d{1,6}", text, re.ASCII)]
    if len(edges) < 4 or edges[0] >= edges[2] or edges[1] >= edges[3]:
        raise Refused(
            422,
            "wrong_box",
            f"a box is all of {', '.join(CROP)}: whole numbers of pixels of the file's picture, right and bottom exclusive and beyond "
            "left and top",
        )
    left, top, right, bottom = edges
    return left, top, right, bottom


def _parser_in_memory(largest: int) -> type[MultiPartParser]:
    """Starlette's parser spools files above 1 MiB to the disk; this one never, for nothing uploaded is kept."""
    return type("InMemoryParser", (MultiPartParser,), {"spool_max_size": largest + ENVELOPE_BYTES})


async def _at_most(request: Request, largest: int) -> AsyncGenerator[bytes, None]:
    """The body. Of one that is too long the rest is taken and thrown away: a browser that is still sending would not hear the answer."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received <= largest + ENVELOPE_BYTES:
            yield chunk
    if received > largest + ENVELOPE_BYTES:
        raise _too_large(largest)


def _too_large(largest: int) -> Refused:
    return Refused(413, "too_large_file", f"the file is larger than {largest / 2**20:g} MiB, the most that is taken")
