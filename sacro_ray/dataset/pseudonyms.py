"""Keyed pseudonyms: the same id and key give the same pseudonym; without the key there is no way back."""

import csv
import hashlib
import hmac
import io
import secrets
from collections.abc import Iterable
from pathlib import Path

from sacro_ray.disk import write_atomically
from sacro_ray.errors import UserError

DIGITS = 16  # hexadecimal: 64 bits, a collision among 1,000,000 ids has a chance of 3 in 100,000,000


def key_of_pseudonyms(table: Path) -> Path:
    """Where the key of a cohort lies, given its table."""
    return table.with_suffix(".pseudonym_key")


class Pseudonyms:
    """Pseudonyms of a cohort, by HMAC-SHA256 under a secret key that lies beside the cohort's table.

    Beside `cohort.csv`: `cohort.pseudonym_key`, made at first use, and `cohort.pseudonyms.csv` (kind, id, pseudonym), both
    readable by their owner alone. Nothing of them is written into shards.

    Args:
        table: The cohort's table.

    Raises:
        UserError: The key cannot be read or written.
    """

    def __init__(self, table: Path) -> None:
        self._key_table = table.with_suffix(".pseudonyms.csv")
        path = key_of_pseudonyms(table)
        try:
            if not path.exists():
                write_atomically(path, secrets.token_hex(32).encode() + b"\n", mode=0o600)
            self._key = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError):
            raise UserError(
                f"prepare.pseudonymise: the key {path} cannot be read or written; make the table's folder writable, or restore the key"
            ) from None

    def of(self, kind: str, identifier: str) -> str:
        """The pseudonym of a `radiograph` or `patient`: 16 hexadecimal digits."""
        return hmac.new(self._key, f"{kind}\n{identifier}".encode(), hashlib.sha256).hexdigest()[:DIGITS]

    def write_key_table(self, radiographs: Iterable[str], patients: Iterable[str]) -> None:
        """Write which id has which pseudonym, beside the cohort's table."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(("kind", "id", "pseudonym"))
        for kind, identifiers in (("radiograph", radiographs), ("patient", patients)):
            writer.writerows((kind, identifier, self.of(kind, identifier)) for identifier in sorted(set(identifiers)))
        write_atomically(self._key_table, buffer.getvalue().encode(), mode=0o600)
