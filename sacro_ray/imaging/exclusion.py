"""Why a radiograph is left out: the fixed list of reasons, and the error that carries one."""

import contextlib
import logging
from collections.abc import Iterator

log = logging.getLogger("sacro_ray")

REASONS = {
    # the file
    "unreadable_file": "the file cannot be opened, or is there no longer",
    "empty_file": "the file has no bytes",
    "not_an_image": "neither DICOM nor TIFF, PNG or JPEG, or damaged beyond reading",
    "damaged_header": "a DICOM header whose needed values cannot be read",
    "no_pixel_data": "a DICOM object without pixels",
    "truncated": "fewer pixels than the header promises",
    "undecodable": "the pixels are damaged, or no decoder here reads them",
    "unknown_transfer_syntax": "a DICOM transfer syntax that no decoder here reads",
    "unsupported_pixels": "a pixel format that no radiograph has, such as bit depths over 16",
    "decoder_crashed": "the decoder died or did not end; decoded alone, in a process of its own",
    # the picture
    "wrong_modality": "the header's modality is not among prepare.modalities, or is missing",
    "secondary_capture": "a secondary capture, and prepare.modalities does not name SC",
    "burned_in_annotation": "the header says that text is burned into the pixels",
    "multi_frame": "several frames or pages",
    "true_colour": "colour channels that differ",
    "zero_size": "no rows or no columns",
    "too_large": "more pixels than any radiograph has",
    "crop_outside": "the table's crop box does not lie within the image",
    "no_box": "no crop box smaller than the picture, and the run was trained on radiographs cut to boxes",
    "blank": "one single grey level",
    # the readings
    "no_reading": "none of the readers who decide has read it",
    "reading_missing": "not all readers have read it, under the protocol agreement",
    "discordant": "the readers differ, under the protocol agreement, in a development cohort",
    # the cohort
    "duplicate": "the same pixels as another radiograph of its split, with duplicates = drop",
}


class ExcludedRadiograph(Exception):  # noqa: N818 - an outcome of reading, named as clinicians name it
    """A radiograph that cannot be used.

    Attributes:
        reason: A key of `REASONS`.
        detail: A short explanation in our own words; never text from a header.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        assert reason in REASONS, reason
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail or REASONS[self.reason]}"


@contextlib.contextmanager
def one_file_alone() -> Iterator[None]:
    """Decode one file within: whatever a decoder raises is the reason why this file is left out, and nothing more.

    The kind of error goes to the log; its message does not, for it may quote a header.

    Raises:
        ExcludedRadiograph: As raised within; else `too_large` for want of memory, or `undecodable`.
    """
    try:
        yield
    except ExcludedRadiograph:
        raise
    except Exception as error:
        reason, kind = "too_large" if isinstance(error, MemoryError) else "undecodable", type(error).__name__
        log.warning("a decoder raised %s; that file is left out as %s", kind, reason)
        raise ExcludedRadiograph(reason, f"the decoder raised {kind}") from None
