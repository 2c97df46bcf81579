"""What scored a radiograph, as its results in DICOM name it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTICE = "For research use only; not for diagnosis."
MANUFACTURER = "sacro_ray"


@dataclass(frozen=True)
class Model:
    """What scored: the report names it.

    Attributes:
        run: Name of the run.
        checkpoint: SHA-256 of the weights, hexadecimal.
        version: Version of this program.
        cutoffs: Cut-off by name; called definite where probability >= cut-off.
    """

    run: str
    checkpoint: str
    version: str
    cutoffs: Mapping[str, float]


def equipment(model: Model) -> dict[str, Any]:
    """The attributes of the equipment that made an object (PS3.3 C.7.5.1)."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model.run,
        "software_versions": model.version,
        "device_serial_number": model.checkpoint[:16],
    }
