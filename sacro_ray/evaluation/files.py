"""An evaluation's folder: complete files only, and never over the results of other predictions."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sacro_ray.disk import check_writable, read_kept, write_atomically
from sacro_ray.errors import UserError

INPUTS = "inputs.json"


def claim(out: Path, validation: pd.DataFrame, test: pd.DataFrame | None, origin: Mapping[str, Any] | None = None) -> None:
    """Make the folder this evaluation's own, or refuse where it holds results of other predictions.

    The same predictions again, with the same or other settings, replace the results; figures and tables of before are removed first.

    Args:
        out: The folder; made where it is missing.
        validation: Checked predictions.
        test: The same of the external test cohort, or None.
        origin: What the test predictions come from, where that is known; they are then known by it, and not by their last digits.

    Raises:
        UserError: The folder holds results of other predictions, or is a file, or cannot be written.
    """
    refuse_other(out, validation, test, origin)
    check_writable(out, "--out")
    write_json(out / INPUTS, _inputs(validation, test, origin)[0])
    for folder in ("figures", "tables", "checklists"):
        shutil.rmtree(out / folder, ignore_errors=True)
        (out / folder).mkdir()


def refuse_other(
    out: Path, validation: pd.DataFrame, test: pd.DataFrame | None, origin: Mapping[str, Any] | None = None
) -> None:
    """Refuse a folder that `claim` would refuse; nothing is written."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder")
    marker = out / INPUTS
    if marker.is_file():
        if read_kept(marker, json.loads, f"Remove the folder {out}, or give another") not in _inputs(validation, test, origin):
            raise UserError(
                f"{out} holds the evaluation of other predictions and is kept; give another folder, or remove this one. "
                "(The same predictions may be evaluated there again.)"
            )
    elif (out / "metrics.json").exists() or (out / "report.html").exists():
        raise UserError(
            f"{out} holds results that are not of this evaluation and is kept; give another folder, or remove this one"
        )


def _inputs(validation: pd.DataFrame, test: pd.DataFrame | None, origin: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What the folder is claimed with; all forms in which the same may have been noted, the one to write first."""
    digests = {"validation": digest(validation), "test": None if test is None else digest(test)}
    return [digests] if origin is None else [{**digests, "test": dict(origin)}, digests]


def digest(table: pd.DataFrame) -> str:
    """SHA-256 of a checked table of predictions."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON, which outlives a power cut; values that are not finite are an error, for JSON has none."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file under a temporary name, then rename it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    write_atomically(path, content, durable=False)
