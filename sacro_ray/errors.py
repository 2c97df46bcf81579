"""The one error that is the user's to mend: it ends a command with status 2 and a message, never with a traceback."""

from collections.abc import Iterable


class UserError(ValueError):
    """What was given is wrong. The message says what was given, what is allowed and what to do; never a patient's identifier."""


def listed(items: Iterable[object], limit: int = 10) -> str:
    """Join items for a message, sorted as text, at most `limit` of them, and say how many more there are."""
    texts = sorted(str(item) for item in items)
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
