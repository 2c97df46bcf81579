"""Where the pelvis lies in the image: from millimetres of the patient to pixels and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sacro_ray.simulation.acquisition import Style
from sacro_ray.simulation.anatomy import Points

Plane = NDArray[np.float32]
Window = tuple[slice, slice]
COARSE_PX = 8  # spacing of the grid on which slowly varying fields are computed


@dataclass(frozen=True)
class Position:
    """Size of the image and place of the patient in it.

    Attributes:
        height: Rows.
        width: Columns.
        spacing_mm: Distance of pixel centres, both ways.
        angle: Rotation of the patient in the image plane, radians.
        centre_px: x and y in pixels of the patient's origin.
    """

    height: int
    width: int
    spacing_mm: float
    angle: float
    centre_px: tuple[float, float]

    def to_pixels(self, points_mm: Points) -> Points:
        """(n, 2) of x and y in mm to (n, 2) of x and y in pixels."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = points_mm @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned / self.spacing_mm + self.centre_px)

    def to_mm(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> tuple[Plane, Plane]:
        """Positions in mm, x and y as float32 (n, m) each, of every pair of `rows` (n,) and `columns` (m,)."""
        x = (columns - self.centre_px[0])[None, :] * self.spacing_mm
        y = (rows - self.centre_px[1])[:, None] * self.spacing_mm
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (x * cos + y * sin).astype(np.float32), (y * cos - x * sin).astype(np.float32)

    def around(self, x_mm: float, y_mm: float, half_width_mm: float, half_height_mm: float) -> tuple[Window, Plane, Plane]:
        """The pixels around a place: their rows and columns, and x and y in mm of each."""
        x, y = self.to_pixels(np.array([[x_mm, y_mm]]))[0]
        rows = self._clip(y, half_height_mm + abs(self.angle) * half_width_mm, self.height)
        columns = self._clip(x, half_width_mm + abs(self.angle) * half_height_mm, self.width)
        return (rows, columns), *self.to_mm(np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))

    def _clip(self, middle_px: float, half_mm: float, size: int) -> slice:
        low, high = int(middle_px - half_mm / self.spacing_mm), int(np.ceil(middle_px + half_mm / self.spacing_mm))
        return slice(min(max(low, 0), size), min(max(high, 0), size))

    def inside(self, outline_mm: Points) -> tuple[Window, NDArray[np.bool_]]:
        """The pixels inside a closed outline, (n, 2) in mm: rows and columns that hold it, and a mask within these."""
        points = self.to_pixels(outline_mm)
        low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int) + 1
        left, top = np.clip(low, 0, (self.width, self.height))
        right, bottom = np.clip(high, 0, (self.width, self.height))
        canvas = Image.new("L", (max(right - left, 0), max(bottom - top, 0)))
        ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in points - (left, top)], fill=1)
        return (slice(top, bottom), slice(left, right)), np.asarray(canvas).astype(bool)

    def coarse_mm(self) -> tuple[Plane, Plane]:
        """Positions in mm, x and y, on a coarse grid that spans the image; `refine` brings a field from there to the pixels."""
        size = (self.height // COARSE_PX + 2, self.width // COARSE_PX + 2)
        return self.to_mm(np.linspace(0, self.height - 1, size[0]), np.linspace(0, self.width - 1, size[1]))

    def refine(self, field: Plane) -> Plane:
        """Interpolate a field of any coarse grid that spans the image: float32 (height, width)."""
        along = [np.linspace(0, n - 1, size) for n, size in zip(field.shape, (self.height, self.width), strict=True)]
        (i, j), shares = zip(
            *((np.minimum(a.astype(int), n - 2), a) for a, n in zip(along, field.shape, strict=True)), strict=True
        )
        down, right = (shares[0] - i).astype(np.float32)[:, None], (shares[1] - j).astype(np.float32)
        rows = field[i] * (1 - down) + field[i + 1] * down
        return np.asarray(rows[:, j] * (1 - right) + rows[:, j + 1] * right, dtype=np.float32)


def sample_position(rng: np.random.Generator, style: Style, size_px: int) -> Position:
    """Draw field, rotation and shift; the image's longest side is at most `size_px`."""
    field_mm, aspect = rng.uniform(*style.field_mm), rng.uniform(*style.aspect)
    width = int(size_px * rng.uniform(*style.relative_size) / max(1.0, aspect))
    height = int(width * aspect)
    spacing = field_mm / width
    # The central ray meets the patient a little below the sacroiliac joints.
    x, y = rng.normal(0.0, 7.0, 2) / spacing
    centre = (width / 2 + x, height / 2 + y - 10.0 / spacing)
    return Position(height, width, spacing, float(np.deg2rad(rng.normal(0.0, 2.2))), centre)
