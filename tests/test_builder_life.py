"""The machine of a held attempt: every input in every state; and how long what a disk doesn't give is tried again."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twistedipc.builder.life import ABOUT, TABLE, Action, Event, ImpossibleReport, Life, Report, State
from twistedipc.builder.patience import FIRST_RETRY, LAST_RETRY, PATIENCE, Patience

#: Where each action is under way, and the reports that end it there.
REPORTS = {
    Action.START: {Report.STARTED, Report.NO_ROOM, Report.START_FAILED},
    Action.CONCLUDE: {Report.CONCLUDED, Report.NOT_CONCLUDED},
    Action.REMOVE: {Report.DELETED, Report.NOT_DELETED},
    Action.CHECK_RUNNER: set(),
}
UNDER_WAY = {
    State.STARTING: Action.START,
    State.CONCLUDING: Action.CONCLUDE,
    State.ABANDONED: Action.CONCLUDE,
    State.REMOVING: Action.REMOVE,
}


def test_every_state_has_its_rows() -> None:
    assert set(TABLE) == set(ABOUT) == set(State)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("input", [*Event, *Report])
def test_all_inputs_in_all_states(state: State, input: Event | Report) -> None:
    """What is in the table happens; another event changes nothing; another report is a bug."""
    life = Life(state)
    step = TABLE[state].get(input)
    if step is not None:
        assert life.take(input) is step.action
        assert life.state is step.to
    elif isinstance(input, Event):
        assert life.take(input) is None
        assert life.state is state
    else:
        with pytest.raises(ImpossibleReport):
            life.take(input)
        assert life.state is state


@pytest.mark.parametrize("state", State)
def test_a_report_is_taken_exactly_where_its_action_is_under_way(state: State) -> None:
    taken = {input for input in TABLE[state] if isinstance(input, Report)}
    assert taken == (REPORTS[UNDER_WAY[state]] if state in UNDER_WAY else set())


@pytest.mark.parametrize("state", State)
def test_an_action_leads_where_its_reports_are_taken(state: State) -> None:
    for step in TABLE[state].values():
        if step.action is not None and REPORTS[step.action]:
            assert UNDER_WAY[step.to] is step.action


@pytest.mark.parametrize("state", State)
def test_what_the_apiserver_is_done_with_is_never_of_interest_again(state: State) -> None:
    for step in TABLE[state].values():
        if ABOUT[state].phase is None:
            assert ABOUT[step.to].phase is None
    if ABOUT[state].phase is not None:
        assert ABOUT[TABLE[state][Event.FORGET].to].phase is None


def test_what_a_folder_tells() -> None:
    assert State.found(started=False, ended=False) is State.ACCEPTED
    assert State.found(started=True, ended=False) is State.RUNNING
    assert State.found(started=True, ended=True) is State.ENDED
    assert State.found(started=False, ended=True) is State.ENDED


@given(st.data())
def test_any_story_starts_once_and_can_come_to_its_end(data: st.DataObject) -> None:
    """A runner starts at most once; nothing is deleted while a thread works on it; the end is always in reach."""
    life = Life(State.ACCEPTED)
    started = 0
    working: Action | None = None
    for input in data.draw(st.lists(st.sampled_from([*Event, "report"]), max_size=30)):
        if isinstance(input, str):
            if life.state not in UNDER_WAY:
                continue
            report = data.draw(st.sampled_from(sorted(REPORTS[UNDER_WAY[life.state]], key=lambda one: one.value)))
            working = None
            life.take(report)
            started += report is Report.STARTED
            continue
        action = life.take(input)
        if action in (Action.CONCLUDE, Action.REMOVE):
            assert working is None
            working = action
    assert started <= 1
    for _ in range(5):
        if life.state in UNDER_WAY:
            action = UNDER_WAY[life.state]
            life.take({Action.START: Report.STARTED, Action.CONCLUDE: Report.CONCLUDED}.get(action, Report.DELETED))
        life.take(Event.FORGET)
        life.take(Event.RUNNER_GONE)
    assert life.state is State.REMOVED


def test_patience_waits_longer_each_time_and_ends() -> None:
    patience, now, tries = Patience(), 100.0, 0
    assert patience.due(now)
    while not patience.exhausted(now, OSError(errno.EIO, "bad disk")):
        tries += 1
        assert not patience.due(now + FIRST_RETRY / 2)
        assert patience.due(now + LAST_RETRY)
        now += LAST_RETRY
    assert PATIENCE <= now - 100.0 <= PATIENCE + LAST_RETRY
    assert patience.due(now)
    assert not patience.failing


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "files"), OSError(errno.ENOSPC, "full"), BlockingIOError("x")])
def test_what_passes_is_waited_for_however_long(error: OSError) -> None:
    patience = Patience()
    assert not any(patience.exhausted(float(second), error) for second in range(10 * int(PATIENCE)))
