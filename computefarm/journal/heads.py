"""Which tasks an encoded entry is about, without decoding the rest of it."""

from __future__ import annotations

import msgspec

from computefarm.messages import TaskKey


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of an entry; what follows is skipped."""


class SubmittedHead(_Head, frozen=True, tag="submitted"):
    """Of `Submitted`."""

    key: TaskKey


class StartedHead(_Head, frozen=True, tag="started"):
    """Of `Started`."""

    key: TaskKey


class EndedHead(_Head, frozen=True, tag="ended"):
    """Of `Ended`."""

    key: TaskKey


class CancelledHead(_Head, frozen=True, tag="cancelled"):
    """Of `Cancelled`."""

    keys: tuple[TaskKey, ...]


class ForgottenHead(_Head, frozen=True, tag="forgotten"):
    """Of `Forgotten`."""

    keys: tuple[TaskKey, ...]


Head = SubmittedHead | StartedHead | EndedHead | CancelledHead | ForgottenHead

_decoder = msgspec.msgpack.Decoder(Head)


def head_of(body: bytes) -> Head:
    """Return the head of an encoded entry; raise `msgspec.MsgspecError` when it is none that we know."""
    head: Head = _decoder.decode(body)
    return head


class Tally(msgspec.Struct):
    """What the records seen so far amount to."""

    records: int = 0
    submitted: int = 0
    highest: TaskKey = 0
    """The highest number that any task had."""
    forgotten: set[TaskKey] = msgspec.field(default_factory=set)

    def add(self, body: bytes) -> None:
        """Count one record; raise `msgspec.MsgspecError` when it is none that we know."""
        head = head_of(body)
        self.records += 1
        if isinstance(head, SubmittedHead):
            self.submitted += 1
            self.highest = max(self.highest, head.key)
        elif isinstance(head, ForgottenHead):
            self.forgotten.update(head.keys)
            self.highest = max(self.highest, max(head.keys, default=0))

    def matters(self, body: bytes) -> bool:
        """Return whether a record is about a task that is not forgotten."""
        head = head_of(body)
        if isinstance(head, ForgottenHead):
            return False
        if isinstance(head, CancelledHead):
            return not self.forgotten.issuperset(head.keys)
        return head.key not in self.forgotten
