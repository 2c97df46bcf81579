"""Where Ray keeps its own files of a run."""

from typing import Any

from sacro_ray.dataset.store import Store, ray_file_system
from sacro_ray.locations import below, in_store

OWN_FILES = "ray"
"""Folder within a run's; what is in it is Ray's alone, and goes when the run ends."""


def ray_storage(location: str) -> dict[str, Any]:
    """The part of Ray's `RunConfig` that says where: a path that all nodes see, or the same bucket in which the run lies."""
    place = below(location, OWN_FILES)
    if not in_store(location):
        return {"storage_path": place}
    return {"storage_path": Store(place).base, "storage_filesystem": ray_file_system(place)}
