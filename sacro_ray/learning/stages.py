"""The plan of a training run: progressive resizing, in each size the head alone and then all layers.

Source: Bressem et al. 2021, Model training.
"""

from dataclasses import dataclass
from typing import Literal

from sacro_ray.config import Training


@dataclass(frozen=True)
class Phase:
    """Some epochs at one size with the same layers trained; the best weights of a phase start the next.

    Attributes:
        stage: From 0.
        name: `frozen`: the head alone is trained; `unfrozen`: all layers.
        first_epoch: Number of the first epoch over the whole run, from 1.
    """

    stage: int
    name: Literal["frozen", "unfrozen"]
    size_px: int
    batch_size: int
    first_epoch: int
    epochs: int
    lr: float | Literal["auto"]

    @property
    def last_epoch(self) -> int:
        """Number of the last epoch over the whole run."""
        return self.first_epoch + self.epochs - 1


def body_is_fixed(phase: Phase, training: Training) -> bool:
    """Whether neither weights nor batch-norm statistics of the body change in this phase."""
    return phase.name == "frozen" and not training.frozen_batch_norm_updates


def plan(training: Training) -> list[Phase]:
    """The phases of a run in order; a phase without epochs is left out."""
    phases: list[Phase] = []
    names: tuple[Literal["frozen", "unfrozen"], ...] = ("frozen", "unfrozen")
    for number, stage in enumerate(training.stages):
        for name in names:
            epochs = stage.frozen_epochs if name == "frozen" else stage.unfrozen_epochs
            if epochs:
                first = phases[-1].last_epoch + 1 if phases else 1
                lr = training.lr if stage.lr is None else stage.lr
                phases.append(Phase(number, name, stage.size_px, stage.batch_size, first, epochs, lr))
    return phases
