"""The reading model: how much structural damage the joints have, and what grade each reader sees.

An ordered logit: damage is a number on the logit scale of severity (0 to 4), a reader sees it with a bias and noise of their own, and
fixed thresholds turn it into grades. No image is needed, so the agreement of readers can be checked at any size.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sacro_ray.imaging.grading import modified_new_york
from sacro_ray.simulation.studies import Study

SPREAD, ASYMMETRY = 2.0, 0.6  # standard deviations on the logit scale: between patients, and of a joint about its patient


def severity_of(latent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Severity, 0 to 4, of a latent damage of any shape; rounded it is the modified New York grade."""
    return np.asarray(4.0 / (1.0 + np.exp(-latent)))


def grades_of(latent: NDArray[np.float64]) -> NDArray[np.int64]:
    """Modified New York grades, 0 to 4, of a latent damage of any shape."""
    return np.floor(severity_of(latent) + 0.5).astype(np.int64)


def disagree(readings: Mapping[str, NDArray[np.int64]]) -> bool:
    """Whether readers differ on definite radiographic sacroiliitis; readings are grades (2,) of the right and left joint."""
    return len({modified_new_york(int(right), int(left)) for right, left in readings.values()}) > 1


def sample_latent(rng: np.random.Generator, study: Study) -> tuple[float, NDArray[np.float64]]:
    """Draw a patient's damage: its standard normal score, and the latent damage of the right and left joint, (2,)."""
    score = float(rng.standard_normal())
    return score, study.location + SPREAD * score + ASYMMETRY * rng.standard_normal(2)


def sample_readings(rng: np.random.Generator, study: Study, latent: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """Draw the readings of one radiograph.

    Args:
        rng: Draws the readers' noise.
        study: Its readers, in the order in which they read.
        latent: Latent damage of the right and left joint, (2,).

    Returns:
        Reader to grades of the right and left joint; a third reader is there only where the first two disagree on the definite diagnosis.
    """
    readings: dict[str, NDArray[np.int64]] = {}
    for number, (reader, bias) in enumerate(study.readers.items()):
        # Half the variance is the reader's view of the whole radiograph, half that of each joint.
        noise = study.reader_noise * np.sqrt(0.5) * (rng.standard_normal() + rng.standard_normal(2))
        if study.third_reader and number == 2 and not disagree(readings):
            break
        readings[reader] = grades_of(latent + bias + noise)
    return readings
