"""The search space of an experiment, as Optuna takes it, and an experiment with a trial's values in it."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sacro_ray.config import Choices, Experiment, Range, build_experiment
from sacro_ray.errors import UserError
from sacro_ray.settings import with_setting


def distributions(experiment: Experiment) -> dict[str, BaseDistribution]:
    """One distribution a dimension, by its dotted name.

    Raises:
        UserError: A dimension names no setting, or an end of its range is not allowed for that setting.
    """
    for name, dimension in experiment.search.space.items():
        if name.partition(".")[0] not in ("training", "model"):
            raise UserError(
                f"search.space.{name}: a sweep searches settings of [training] and [model] only, such as training.lr"
            )
        for value in _ends(name, dimension):
            with_values(experiment, {name: value})
            with_values(experiment.of_a_trial(), {name: value})
    return {name: _distribution(dimension) for name, dimension in experiment.search.space.items()}


def with_values(experiment: Experiment, values: Mapping[str, Any], name: str | None = None) -> Experiment:
    """The experiment with a trial's values set and, where given, another name.

    Raises:
        UserError: A value is not allowed there.
    """
    data = experiment.as_dict()
    for key, value in values.items():
        data = with_setting(data, key, value)
    if name is not None:
        data["name"] = name
    return build_experiment(data, source="search.space")


def own_values(experiment: Experiment) -> dict[str, Any]:
    """The experiment's own values inside the space, the first trial; a dimension whose own value lies outside is left to the sampler."""
    found: dict[str, Any] = {}
    for name, distribution in distributions(experiment).items():
        value: Any = experiment.as_dict()
        for part in name.split("."):
            value = (value[int(part)] if isinstance(value, list) else value.get(part)) if value is not None else None
        inside = value is not None and (
            value in distribution.choices
            if isinstance(distribution, CategoricalDistribution)
            else isinstance(value, int | float) and distribution.low <= value <= distribution.high
        )
        if inside:
            found[name] = value
    return found


def _distribution(dimension: Range | Choices) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _ends(name: str, dimension: Range | Choices) -> list[Any]:
    """The values of a dimension that are tried out beforehand: all choices, or both ends."""
    if isinstance(dimension, Choices):
        return list(dimension.choices)
    if not dimension.integer:
        return [float(dimension.low), float(dimension.high)]
    if not (dimension.low.is_integer() and dimension.high.is_integer()):
        raise UserError(
            f"search.space.{name}: a range of integers from {dimension.low:g} to {dimension.high:g}; give whole numbers as its ends"
        )
    return [int(dimension.low), int(dimension.high)]
