import pytest

from index.errors import UnknownTransition
from index.states import TRANSITIONS, Event, State, advance

REFUSED = {*((state, Event.QUIET) for state in State)} - {
    (State.RECEIVING, Event.QUIET),
    (State.DIRTY, Event.QUIET),
    (State.QUIET, Event.QUIET),
} | {
    (state, event)
    for state in (State.RECEIVING, State.QUIET, State.EMBEDDED)
    for event in (Event.REPORT, Event.COMMIT)
}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_every_pair_has_a_transition_or_is_refused(state: State, event: Event) -> None:
    if (state, event) in REFUSED:
        with pytest.raises(UnknownTransition, match=state):
            advance(state, event)
    else:
        assert advance(state, event) is TRANSITIONS[state, event]


def test_a_series_walks_from_receiving_to_indexed() -> None:
    state = State.RECEIVING
    walk = [state]
    for event in (Event.INSTANCE, Event.QUIET, Event.EMBED, Event.INDEX):
        state = advance(state, event)
        walk.append(state)
    assert walk == [
        State.RECEIVING,
        State.RECEIVING,
        State.QUIET,
        State.EMBEDDED,
        State.INDEXED,
    ]


@pytest.mark.parametrize("state", sorted(set(State) - {State.RECEIVING}))
def test_a_late_instance_makes_everything_dirty(state: State) -> None:
    assert advance(state, Event.INSTANCE) is State.DIRTY


@pytest.mark.parametrize("event", sorted(set(Event) - {Event.INSTANCE, Event.QUIET}))
def test_repeating_an_event_changes_nothing(event: Event) -> None:
    for state in State:
        if (state, event) in TRANSITIONS:
            once = advance(state, event)
            assert advance(once, event) is once


def test_a_new_model_does_not_undo_a_report() -> None:
    state = advance(advance(State.REPORTED, Event.EMBED), Event.INDEX)
    assert state is State.REPORTED
