"""An evaluation's folder: complete files only, and never over the results of other predictions."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from sacro_ray.errors import UserError

INPUTS = "inputs.json"


def claim(out: Path, validation: pd.DataFrame, test: pd.DataFrame | None) -> None:
    """Make the folder this evaluation's own, or refuse where it holds results of other predictions.

    The same predictions again, with the same or other settings, replace the results; figures and tables of before are removed first.

    Raises:
        UserError: The folder holds results of other predictions, or is a file.
    """
    digests = {"validation": digest(validation), "test": None if test is None else digest(test)}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{out} is a file; give a folder") from None
    marker = out / INPUTS
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) != digests:
            raise UserError(
                f"{out} holds the evaluation of other predictions and is kept; give another folder, or remove this one. "
                "(The same predictions may be evaluated there again.)"
            )
    elif (out / "metrics.json").exists() or (out / "report.html").exists():
        raise UserError(
            f"{out} holds results that are not of this evaluation and is kept; give another folder, or remove this one"
        )
    write_text(marker, json.dumps(digests, indent=2) + "\n")
    for folder in ("figures", "tables", "checklists"):
        shutil.rmtree(out / folder, ignore_errors=True)
        (out / folder).mkdir()


def digest(table: pd.DataFrame) -> str:
    """SHA-256 of a checked table of predictions."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON; values that are not finite are an error, for JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file under a temporary name, then rename it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    os.replace(temporary, path)
