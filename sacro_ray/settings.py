"""Plain values and `--set section.key=value` overrides, validated; what is wrong with them, in words.

Anything wrong is a `UserError` that names the key, the value, what is allowed and the nearest known key.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sacro_ray.errors import UserError
from sacro_ray.locations import hidden

Settings = TypeVar("Settings", bound=BaseModel)


def build_settings(kind: type[Settings], data: Mapping[str, Any], overrides: Sequence[str], source: str) -> Settings:
    """Validate plain values, with overrides, as one kind of settings.

    Raises:
        UserError: An override has no `=`, or a setting is unknown, of a wrong type or out of range.
    """
    changed: dict[str, Any] = dict(data)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise UserError(f"--set {override}: expected section.key=value, such as --set training.mixup_alpha=0.2")
        changed = with_setting(changed, key.strip(), _parse_value(text.strip()))
    try:
        return kind.model_validate(changed)
    except ValidationError as error:
        lines = [_describe(problem, kind) for problem in error.errors(include_url=False)]
        raise UserError(f"{source}: " + "; ".join(dict.fromkeys(lines))) from None


def with_setting(data: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of plain settings with the dotted `key` set; a number in the key is a place in a list of tables.

    The keys of `search.space` hold dots themselves: what follows `search.space.` is one key.
    """
    head, _, rest = key.partition(".")
    if not rest:
        return {**data, head: value}
    if head == "space" and "." in rest:
        return {**data, head: {**data.get(head, {}), rest: value}}
    inner = data.get(head, {})
    if isinstance(inner, list):
        place, _, last = rest.partition(".")
        if not place.isdigit() or int(place) >= len(inner) or not last:
            raise UserError(
                f"--set {key}: {head} is a list of {len(inner)} tables; write {head}.NUMBER.key with a number from 0"
            )
        return {**data, head: [with_setting(t, last, value) if i == int(place) else t for i, t in enumerate(inner)]}
    if not isinstance(inner, Mapping):
        raise UserError(f"--set {key}: {head} is a single value, not a table")
    return {**data, head: with_setting(inner, rest, value)}


def _parse_value(text: str) -> Any:
    """The value as TOML would read it; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def known_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting by its dotted name; members of lists and of named tables stand under `prefix.*`."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner in _sections_in(field.annotation):
            star = "" if field.annotation is inner else "*."
            yield from known_keys(inner, f"{prefix}{name}.{star}")


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in getattr(annotation, "__args__", ()) for section in _sections_in(argument)]


def _describe(problem: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """One validation problem in words: key, value, what is allowed, nearest known key."""
    unions = {"a range", "a choice", "int", "float", "constrained-int", "constrained-float"}
    parts = [
        str(part)
        for part in problem["loc"]
        if str(part) not in unions and not str(part).startswith(("literal[", "constrained"))
    ]
    key = ".".join(parts)
    if problem["type"] == "extra_forbidden":
        known = list(known_keys(kind))
        by_last_word = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        close = difflib.get_close_matches(parts[-1], by_last_word, n=1, cutoff=0.5)
        return f"unknown key {key}" + (
            f"; the nearest known key is {by_last_word[close[0]]}" if close else "; see README for the known keys"
        )
    if problem["type"] == "missing":
        return f"the key {key} is missing"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    if isinstance(problem["input"], str | int | float | bool):
        return f"{key} = {hidden(repr(problem['input']))}: {message}"
    return f"{key}: {message}" if key else message
