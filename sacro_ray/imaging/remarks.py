"""What a reader of a score should know of the radiograph before the number, in words: for the page, the contact sheet, DICOM objects."""

from collections.abc import Iterable

REMARKS = {
    "not_cropped": "Not cut to the joints as the radiographs of training were: do not rely on this score.",
    "unfamiliar": "Unlike the radiographs of training: do not rely on this score.",
    "other_body_part": "The header names another body part.",
    "view_not_frontal": "The header names a view that is not frontal.",
    "one_side_only": "The header says that only one side is shown.",
    "simulated": "Not a patient: drawn by a program.",
    "low_contrast": "Hardly any contrast.",
    "saturated": "A quarter of the picture is white, without detail.",
    "small": "A small picture, enlarged for the network.",
    "spoilt_window": "The window in the header was of no use; the grey levels are an estimate.",
    "spoilt_voi_lut": "A lookup table in the header was of no use; another, a window or an estimate gives the grey levels.",
    "spoilt_modality_lut": "The table in the header that leads to measured values was of no use and left out.",
    "spoilt_rescale": "The rescale in the header was of no use and left out.",
    "spoilt_padding": "The header's value of pixels without a picture cannot be read: the border may count as picture.",
    "spoilt_pixel_shape": "The header gives pixels of an impossible shape; they are taken as square.",
    "voi_lut_of_other_bits": "The lookup table in the header has other bits than it says; its own were taken.",
    "unused_bits": "The header's bits do not hold all that the pixels have; the rest was left out.",
    "polarity_unclear": "The header contradicts itself about which end of the greys is bright.",
    "for_processing": "Raw detector values, not meant to be looked at.",
    "resampled_square": "The file's pixels are not square; they were brought to squares.",
    "no_report": "No report for the archive: the header lacks the UIDs that it must refer to.",
}
"""By flag, the gravest first."""


def gravest_first(flags: Iterable[str]) -> list[str]:
    """Each flag once, in the order of `REMARKS`, and then those that it does not hold."""
    given = list(dict.fromkeys(flags))
    return [flag for flag in REMARKS if flag in given] + [flag for flag in given if flag not in REMARKS]


def in_words(flags: Iterable[str]) -> list[str]:
    """A sentence for each flag, the gravest first; of a flag without one of its own the flag itself."""
    return [REMARKS.get(flag, f"{flag.replace('_', ' ').capitalize()}.") for flag in gravest_first(flags)]


def familiarity_in_words(familiarity: float | None) -> str:
    """Familiarity, percent, as a sentence; None where the run does not know it."""
    if familiarity is None:
        return "How familiar it is to the network is not known."
    return f"{familiarity:.1f} % of the validation radiographs lie at least as far from those of training."
