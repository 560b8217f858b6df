"""Pseudonyms of other patients and their studies: keyed, so that only this installation can tell.

A plain hash of a UID or a patient ID can be undone by hashing all candidates; an HMAC cannot
without the secret. The same identifier always gets the same pseudonym from the same secret.
"""

import hmac
from enum import StrEnum

_MINIMUM_SECRET_BYTES = 16


class Pseudonymised(StrEnum):
    """What a pseudonym stands for: its first letter."""

    CASE = "R"
    PATIENT = "P"


def pseudonym(secret: bytes, kind: Pseudonymised, uid: str) -> str:
    """Return a short name such as `R-7F3A91C2`, for people to read out.

    32 bits tell apart the cases of a report, not all cases of an archive: `pseudonymous_uid` does.
    Raises ValueError for a secret that could be guessed.
    """
    return f"{kind}-{_digest(secret, f'name {kind}', uid)[:4].hex().upper()}"


def pseudonymous_uid(secret: bytes, uid: str) -> str:
    """Return a UID below 2.25 (PS3.5 B.2) made of 128 bits of HMAC.

    Raises ValueError for a secret that could be guessed.
    """
    return f"2.25.{int.from_bytes(_digest(secret, 'uid', uid)[:16], 'big')}"


def _digest(secret: bytes, purpose: str, identifier: str) -> bytes:
    if len(secret) < _MINIMUM_SECRET_BYTES:
        raise ValueError(
            f"the secret of the pseudonyms has {len(secret)} bytes; "
            f"give it at least {_MINIMUM_SECRET_BYTES} random ones"
        )
    return hmac.digest(secret, f"{purpose}\0{identifier}".encode(), "sha256")
