"""A TIFF file as stored grey values: which of its pages is the radiograph, and what its samples mean (TIFF 6.0)."""

import io
import logging
from itertools import zip_longest
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG

from sacro_ray.imaging.channels import Values, check_size, highest, one_channel
from sacro_ray.imaging.exclusion import ExcludedRadiograph

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION, INK_SET, GDAL_NODATA = 274, 332, 42113
CMYK_INKS = 1
GREY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK)
COLOUR = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR, PHOTOMETRIC.SEPARATED)
ALPHA = {EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA}
MOST_SAMPLES = 8


def read_tiff(data: bytes) -> tuple[Values, int]:
    """Decode the one radiograph of a TIFF file.

    Returns:
        Shape (height, width), bone bright where the file says what white is, in the file's own type or, under a palette, uint16;
        and its orientation, 1 to 8.

    Raises:
        ExcludedRadiograph: `not_an_image`, `multi_frame`, `truncated`, `true_colour`, `zero_size`, `too_large` or
            `unsupported_pixels`. Whatever else the decoder raises passes through.
    """
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = _radiograph_in(file)
        _refuse_what_cannot_be_decoded(page, len(data))
        values = _grey_values(page, page.asarray())
        orientation = page.tags.valueof(ORIENTATION, file.pages.first.tags.valueof(ORIENTATION))
        return values, orientation if isinstance(orientation, int) else 1


def _radiograph_in(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The one page that is neither a reduced version of another (a thumbnail) nor a mask: NewSubfileType, bits 0 and 2."""
    pages: list[Any] = list(file.pages)
    full = [page for page in pages if not (page.is_reduced or page.is_mask)]
    if not full:
        # A thumbnail comes first and has the picture itself in its SubIFDs, as cameras write it.
        full = [below for page in pages for below in page.pages or () if not (below.is_reduced or below.is_mask)] or pages
    if len(full) != 1:
        raise ExcludedRadiograph("multi_frame" if full else "not_an_image")
    page: tifffile.TiffPage = full[0]
    return page


def _refuse_what_cannot_be_decoded(page: tifffile.TiffPage, length: int) -> None:
    check_size(page.imagelength, page.imagewidth)
    if page.is_tiled:
        check_size(page.tilelength, page.tilewidth)
    if page.imagedepth > 1:
        raise ExcludedRadiograph("multi_frame")
    known = page.photometric in (*GREY, *COLOUR, PHOTOMETRIC.PALETTE) and page.samplesperpixel <= MOST_SAMPLES
    if not known or page.dtype is None or not isinstance(page.bitspersample, int):
        raise ExcludedRadiograph("unsupported_pixels")
    if page.is_contiguous:
        whole = 0 < page.dataoffsets[0] <= length - page.nbytes
    else:
        # tifffile shows a strip or tile that is missing as black.
        places = list(zip_longest(page.dataoffsets, page.databytecounts, fillvalue=0))
        whole = len(places) >= int(np.prod(page.chunked)) and all(
            start > 0 and count > 0 and start + _needed(page, number, count) <= length
            for number, (start, count) in enumerate(places)
        )
    if not whole:
        raise ExcludedRadiograph("truncated")


def _needed(page: tifffile.TiffPage, number: int, count: int) -> int:
    """Of the bytes that a strip is said to have, those with pixels: some writers give the last, shorter one as many as the others."""
    if page.compression != COMPRESSION.NONE or page.is_tiled:
        return count
    samples = 1 if page.planarconfig == PLANARCONFIG.SEPARATE else page.samplesperpixel
    row = -(-page.imagewidth * samples * page.bitspersample // 8)
    first = number % -(-page.imagelength // page.rowsperstrip) * page.rowsperstrip
    return min(count, row * min(page.rowsperstrip, page.imagelength - first))


def _grey_values(page: tifffile.TiffPage, values: Values) -> Values:
    """One grey channel of the decoded samples, bright where the picture is."""
    if values.ndim == 3 and page.planarconfig == PLANARCONFIG.SEPARATE:
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3) or 0 in values.shape or values.dtype.kind not in "uifb":
        raise ExcludedRadiograph("unsupported_pixels")
    if page.photometric == PHOTOMETRIC.PALETTE:
        index = values if values.ndim == 2 else values[..., 0]
        return one_channel(np.moveaxis(np.asarray(page.colormap), 0, -1)[index.astype(np.uint16)])
    if page.photometric == PHOTOMETRIC.SEPARATED:
        values = _light(page, values)
    elif page.photometric in GREY and values.ndim == 3 and ALPHA.issuperset(page.extrasamples):
        values = values[..., 0]
    empty = None if GDAL_NODATA not in page.tags else values == page.nodata
    if values.dtype.kind == "b" or (page.bitspersample < 8 and values.dtype == np.uint8):
        values = (values.astype(np.uint16) * 255 // (2**page.bitspersample - 1)).astype(np.uint8)
    values = one_channel(values)
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        values = np.invert(values) if values.dtype.kind in "ui" else -values
    if empty is not None and empty.shape == values.shape and not empty.all():
        # Pictures of 8 bits stay as they are, others are stretched from their lowest value.
        black = np.uint8(0) if values.dtype == np.uint8 else values[~empty].min()
        values = np.where(empty, black, values)
    return values


def _light(page: tifffile.TiffPage, inks: Values) -> Values:
    """Red, green and blue of cyan, magenta, yellow and black inks (section 16): no ink is white."""
    if inks.ndim != 3 or inks.shape[2] < 4 or inks.dtype.kind != "u" or page.tags.valueof(INK_SET, CMYK_INKS) != CMYK_INKS:
        raise ExcludedRadiograph("unsupported_pixels", "inks other than cyan, magenta, yellow and black")
    top = highest(inks)
    paper = (top - inks[..., 3:4]).astype(np.float64)
    return np.rint(paper - inks[..., :3] * (paper / top)).astype(inks.dtype)
