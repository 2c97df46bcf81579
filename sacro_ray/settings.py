"""Plain values and `--set section.key=value` overrides, validated; what is wrong with them, in words.

Anything wrong is a `UserError` that names the key, the value, what is allowed and the nearest known key.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, WithJsonSchema

from sacro_ray.errors import UserError
from sacro_ray.locations import hidden

Settings = TypeVar("Settings", bound=BaseModel)


class Section(BaseModel):
    """A table of the experiment file: immutable, no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def written_as(pattern: str, words: str) -> tuple[AfterValidator, WithJsonSchema]:
    """For `Annotated[str, *written_as(...)]`: text of a fixed form, with words for the message where it has another."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"allowed {words}")
        return text

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


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
        raise UserError(f"{source}: " + "; ".join(_described(error, kind))) from None


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


def _described(error: ValidationError, kind: type[BaseModel]) -> list[str]:
    """Each thing that is wrong in words; what a setting may be instead, one after the other."""
    allowed: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        setting, words = _describe(problem, kind)
        allowed.setdefault(setting, []).append(words)
    lines = []
    for setting, (first, *others) in allowed.items():
        text = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
        lines.append(": ".join(filter(None, [setting, text])))
    return lines


def _describe(problem: Mapping[str, Any], kind: type[BaseModel]) -> tuple[str, str]:
    """One validation problem in words: the setting with its value, and what is allowed or the nearest known key."""
    unions = {"a range", "a choice", "int", "float"}
    parts = [
        str(p) for p in problem["loc"] if str(p) not in unions and not str(p).startswith(("literal[", "list[", "constrained"))
    ]
    if parts and parts[-1] == "[key]":
        parts = [*parts[:-2], "NAME"]
    key = ".".join(parts)
    if problem["type"] == "extra_forbidden":
        known = list(known_keys(kind))
        by_last_word = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
        close = difflib.get_close_matches(parts[-1], by_last_word, n=1, cutoff=0.5)
        nearest = f"the nearest known key is {by_last_word[close[0]]}" if close else "see README for the known keys"
        return "", f"unknown key {key}; {nearest}"
    if problem["type"] == "missing":
        return "", f"the key {key} is missing"
    value = problem["input"]
    return f"{key} = {hidden(repr(value))}" if key and isinstance(value, str | int | float | bool) else key, _words(problem)


def _words(problem: Mapping[str, Any]) -> str:
    """What is allowed, without the words of Python."""
    if problem["type"] in ("model_type", "dict_type"):
        return "Input should be a table"
    if problem["type"] == "too_short":
        return f"Input should be a list or table of at least {problem['ctx']['min_length']}, and has {problem['ctx']['actual_length']}"
    return re.sub(r"^Value error, ", "", problem["msg"])


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the settings in which two configurations differ, with both values."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key} ({before} there, {after} now)")
    return found
