"""The folder of a cohort that is being prepared: a note of the plan, so that a run goes on with what is its own and with nothing else."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sacro_ray.dataset.store import Store
from sacro_ray.disk import write_atomically
from sacro_ray.errors import UserError
from sacro_ray.locations import in_store

WORKING = ".working"
PLAN = f"{WORKING}/plan.json"


def plan_note(settings: dict[str, Any], digest: str) -> bytes:
    """The note that says what is being prepared."""
    return json.dumps({"digest": digest, "settings": settings}, sort_keys=True).encode()


def noted_settings(folder: str | Path) -> dict[str, Any]:
    """The settings with which a half-finished cohort was begun; none where there is no such note."""
    try:
        text = Store(str(folder)).read(PLAN) if in_store(folder) else (Path(folder) / PLAN).read_bytes()
        return dict(json.loads(text or b"{}").get("settings", {}))
    except (OSError, ValueError):
        return {}


def start_folder(folder: str | Path, settings: dict[str, Any], digest: str, files: Collection[str] = ()) -> None:
    """Note in the cohort's folder what is being prepared; what an unfinished run with other settings or inputs left there goes.

    Args:
        folder: The cohort's, or its address.
        settings: The plan's.
        digest: The plan's.
        files: The shards of the plan. Others, of a cohort that is being replaced, go.

    Raises:
        UserError: The folder holds something, but no such note: it is not ours to clear.
    """
    text = plan_note(settings, digest)
    unknown = f"{folder} holds files of which prepare knows nothing; move them away, or set prepare.shards to another folder"
    if in_store(folder):
        _start_in_bucket(Store(str(folder)), text, unknown, files)
        return
    folder = Path(folder)
    note = folder / PLAN
    if note.is_file() and note.read_bytes() == text:
        for path in folder.glob("*/*.tar"):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()
        return
    left = [path for path in folder.iterdir() if path.name != WORKING] if folder.is_dir() else []
    if left and not note.is_file():
        raise UserError(unknown)
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(note.parent, ignore_errors=True)
    write_atomically(note, text)


def _start_in_bucket(store: Store, text: bytes, unknown: str, files: Collection[str]) -> None:
    there = store.read(PLAN)
    if there == text:
        for name in store.sizes():
            if name.endswith(".tar") and name not in files:
                store.delete(name)
        return
    left = [name for name in store.sizes() if not name.startswith(f"{WORKING}/")]
    if left and there is None:
        raise UserError(unknown)
    for name in left:
        store.delete(name)
    store.delete_folder(WORKING)
    store.write(PLAN, text)


def end_folder(folder: str | Path) -> None:
    """Take away the working notes and what a killed process left half-written."""
    if in_store(folder):
        Store(str(folder)).delete_folder(WORKING)
        return
    folder = Path(folder)
    shutil.rmtree(folder / WORKING, ignore_errors=True)
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
