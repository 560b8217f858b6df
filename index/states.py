"""The life of a series and of a study, as one table of states and events.

A series walks RECEIVING → QUIET → EMBEDDED → INDEXED. A study has no QUIET or EMBEDDED step of
its own: it becomes INDEXED with the last of its series, then REPORTED and COMMITTED. A late
instance makes either DIRTY, whatever it was, and the walk begins again.

Owns the table only; `lifecycle` decides when an event happens.
"""

from __future__ import annotations

from enum import StrEnum

from index.errors import UnknownTransition


class State(StrEnum):
    """Where a series or a study stands."""

    RECEIVING = "receiving"
    QUIET = "quiet"
    EMBEDDED = "embedded"
    INDEXED = "indexed"
    REPORTED = "reported"
    COMMITTED = "committed"
    DIRTY = "dirty"
    QUARANTINED = "quarantined"
    SKIPPED = "skipped"


class Event(StrEnum):
    """What can happen to a series or a study."""

    INSTANCE = "instance"  # an instance arrived that was not there before
    QUIET = "quiet"  # nothing arrived for a while
    EMBED = "embed"  # vectors of all instances are in the catalogue
    INDEX = "index"  # these vectors can be found
    REPORT = "report"  # similar cases were reported
    COMMIT = "commit"  # the archive confirmed that it keeps the report
    REJECT = "reject"  # unreadable; a reason is kept
    SKIP = "skip"  # nothing in it that can be embedded


OPEN_STATES = (State.RECEIVING, State.DIRTY)
"""Instances are still expected: the quiet timer runs."""

SETTLED_STATES = (
    State.INDEXED,
    State.REPORTED,
    State.COMMITTED,
    State.QUARANTINED,
    State.SKIPPED,
)
"""Nothing more to do until an instance arrives."""

REPORTABLE_STATES = (State.INDEXED, State.REPORTED, State.COMMITTED)
"""A study that has vectors to search with."""

_BY_EVENT: dict[Event, dict[State, State]] = {
    Event.INSTANCE: dict.fromkeys(State, State.DIRTY) | {State.RECEIVING: State.RECEIVING},
    Event.QUIET: {
        State.RECEIVING: State.QUIET,
        State.DIRTY: State.QUIET,
        State.QUIET: State.QUIET,
    },
    # Embedding again, with another model or after a crash, does not undo what came later.
    Event.EMBED: dict.fromkeys(State, State.EMBEDDED)
    | {state: state for state in REPORTABLE_STATES},
    Event.INDEX: dict.fromkeys(State, State.INDEXED)
    | {State.REPORTED: State.REPORTED, State.COMMITTED: State.COMMITTED},
    # A late instance may overtake a report on its way: the study stays DIRTY, a new report follows.
    Event.REPORT: {
        State.INDEXED: State.REPORTED,
        State.REPORTED: State.REPORTED,
        State.COMMITTED: State.REPORTED,
        State.DIRTY: State.DIRTY,
        State.QUARANTINED: State.QUARANTINED,
        State.SKIPPED: State.SKIPPED,
    },
    Event.COMMIT: {
        State.REPORTED: State.COMMITTED,
        State.COMMITTED: State.COMMITTED,
        State.INDEXED: State.INDEXED,
        State.DIRTY: State.DIRTY,
        State.QUARANTINED: State.QUARANTINED,
        State.SKIPPED: State.SKIPPED,
    },
    Event.REJECT: dict.fromkeys(State, State.QUARANTINED),
    Event.SKIP: dict.fromkeys(State, State.SKIPPED),
}

TRANSITIONS: dict[tuple[State, Event], State] = {
    (state, event): target
    for event, targets in _BY_EVENT.items()
    for state, target in targets.items()
}


def advance(state: State, event: Event) -> State:
    """Return the state after `event`; raises UnknownTransition where the table has none."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise UnknownTransition(state, event) from None
