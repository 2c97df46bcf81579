"""What Ray says when it ends a process because a machine's memory runs out, as a sentence: its numbers, and what takes less."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError
from ray.train import TrainingFailedError

from sacro_ray.errors import UserError

MACHINE = re.compile(r"was ([\d.]+)GB used / ([\d.]+)GB limit")
PROCESS = re.compile(r"Selected to kill: .*?actual memory used=([\d.]+)GB")


def memory_words(text: str) -> str | None:
    """The numbers in a message of Ray's memory monitor as a sentence; None for any other text."""
    machine, processes = MACHINE.search(text), PROCESS.findall(text)
    if machine is None:
        return None
    taken = f", {' and '.join(f'{float(size):.1f}' for size in processes)} GiB by what it ended" if processes else ""
    return (
        "Ray ended a process because the memory of its machine ran out: "
        f"{float(machine[1]):.1f} of {float(machine[2]):.1f} GiB were taken{taken}"
    )


@contextmanager
def memory_explained(takes_less: str) -> Iterator[None]:
    """Turn an error of Ray that comes from its memory monitor into a `UserError` that says `takes_less`."""
    try:
        yield
    except (RayError, TrainingFailedError) as error:
        if words := next(filter(None, map(memory_words, _texts(error))), None):
            raise UserError(f"{words}; {takes_less}, or end what else runs there") from None
        raise


def _texts(error: BaseException) -> Iterator[str]:
    """An error in words, after those that it carries: Ray Train cuts them short in its own."""
    carried = [*getattr(error, "worker_failures", {}).values(), getattr(error, "health_check_failure", None), error.__cause__]
    for other in carried:
        if isinstance(other, BaseException):
            yield from _texts(other)
    yield str(error)
