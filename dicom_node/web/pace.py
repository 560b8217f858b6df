"""How long a peer may let us wait: a grace, and the time its bytes take at the lowest rate.

So that neither silence nor a trickle holds a request for ever, and a slow link is no fault.
"""

from dataclasses import dataclass

LOWEST_BYTES_PER_S = 16 << 10


@dataclass(slots=True)
class Pace:
    """What of one message has passed, and how long that was waited for."""

    grace_s: float
    passed_bytes: int = 0
    waited_s: float = 0.0

    def left_s(self) -> float:
        """Return how long may be waited from now on; it falls to nothing and below."""
        return self.grace_s + self.passed_bytes / LOWEST_BYTES_PER_S - self.waited_s

    def note(self, bytes_: int, *, waited_s: float) -> None:
        """Count what has passed after a wait."""
        self.passed_bytes += bytes_
        self.waited_s += waited_s
