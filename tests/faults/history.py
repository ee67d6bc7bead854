"""Checks histories of one task for linearizability."""

from dataclasses import dataclass, replace

STRANGER = "bob"  # has a valid session, but does not own the task


@dataclass(frozen=True)
class Operation:
    """A request of a client, its start and end, and its response."""

    session: str
    kind: str  # read, write, delete or logout
    began: float
    ended: float
    status: int
    title: str = ""  # written title
    condition: str = ""  # If-Match; empty for any version
    shown_title: str = ""
    shown_version: str = ""


@dataclass(frozen=True)
class State:
    """The task, whose title is empty after its deletion, and the active sessions."""

    title: str
    version: str
    sessions: frozenset[str]


def follow(state: State, operation: Operation) -> State | None:
    """Return the state after an operation; None if its response contradicts the state."""
    expected, after = _run(state, operation)
    if operation.status != expected:
        return None
    if expected == 200 and operation.kind in {"read", "write"}:
        is_shown = operation.shown_title == after.title
        is_shown &= operation.kind == "write" or operation.shown_version == after.version
        return after if is_shown else None
    return after


def _run(state: State, operation: Operation) -> tuple[int, State]:
    """Return the status and state after an operation without concurrency."""
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
    """Return whether some order of the operations, consistent with time, explains all responses.

    This is linearizability (Herlihy and Wing): an operation takes effect at one instant between
    request and response.
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
