"""Histories of one task: would its clients have been told the same, one after another?"""

from dataclasses import dataclass, replace

STRANGER = "bob"  # whose session is as good as any, but the task is not his


@dataclass(frozen=True)
class Operation:
    """What a client asked, between which moments, and what it was told."""

    session: str
    kind: str  # read, write, delete or logout
    began: float
    ended: float
    status: int
    title: str = ""  # that was written
    condition: str = ""  # the version at which it was to be changed; nothing for any
    shown_title: str = ""
    shown_version: str = ""


@dataclass(frozen=True)
class State:
    """The task, which has no title when it is gone, and the sessions that are alive."""

    title: str
    version: str
    sessions: frozenset[str]


def follow(state: State, operation: Operation) -> State | None:
    """Return the state after an operation; None if its answer would have been another."""
    expected, after = _run(state, operation)
    if operation.status != expected:
        return None
    if expected == 200 and operation.kind in {"read", "write"}:
        is_shown = operation.shown_title == after.title
        is_shown &= operation.kind == "write" or operation.shown_version == after.version
        return after if is_shown else None
    return after


def _run(state: State, operation: Operation) -> tuple[int, State]:
    """Return the status and the state that follow when nobody else does anything."""
    if operation.session not in state.sessions:
        return 401, state
    if operation.kind == "logout":
        return 200, replace(state, sessions=state.sessions - {operation.session})
    refusal = _refuse(state, operation)
    if refusal:
        return refusal, state
    if operation.kind == "read":
        return 200, state
    if operation.kind == "delete":
        return 200, replace(state, title="", version="")
    return 200, replace(state, title=operation.title, version=operation.shown_version)


def _refuse(state: State, operation: Operation) -> int:
    if not state.title:
        return 404
    if operation.session == STRANGER:
        return 403
    return 0 if operation.condition in {"", state.version} else 412


def is_explained(start: State, history: list[Operation]) -> bool:
    """Return whether there is an order, in which nobody was overtaken, that gives every answer.

    That is linearizability (Herlihy and Wing): an operation has its effect at one moment between
    the question and the answer.
    """
    tried: set[tuple[frozenset[int], State]] = set()

    def search(left: frozenset[int], state: State) -> bool:
        if not left:
            return True
        if (left, state) in tried:
            return False
        tried.add((left, state))
        first_end = min(history[number].ended for number in left)
        for number in left:
            if history[number].began <= first_end:
                after = follow(state, history[number])
                if after is not None and search(left - {number}, after):
                    return True
        return False

    return search(frozenset(range(len(history))), start)
