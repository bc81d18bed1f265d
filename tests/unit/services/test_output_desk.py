"""Who may read a task's whole output, and whom the manager asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.logs.farm_log import FarmLog
from computefarm.logs.jsonl import START
from computefarm.messages import FromManager, Hello, OutputPage, ReadOutput
from computefarm.services.output_desk import PATIENCE_S, QUESTIONS, OutputDesk
from computefarm.services.peers import Peer

ASKED = ReadOutput(7, "r1", "big", 1, "nn02")


def peer(name: str = "viewer-1", role: str = "viewer", owner: str = "k") -> Peer:
    return Peer(name, owner, role, Hello(1, "1", role, name))


class Desk:
    """A desk, and what it has said."""

    def __init__(self, log: FarmLog | None = None, *workers: str) -> None:
        self.said: list[tuple[str, FromManager]] = []
        self.desk = OutputDesk(
            log, say=lambda name, message: self.said.append((name, message)), workers=lambda _: list(workers)
        )

    def take(self) -> list[tuple[str, FromManager]]:
        said, self.said = self.said, []
        return said


def test_the_workers_of_the_host_are_asked_until_one_has_it() -> None:
    it = Desk(None, "w1", "w2")
    assert it.desk.asked(peer(), ASKED, 0.0) == ""
    [(name, question)] = it.take()
    assert (name, question) == ("w1", ReadOutput(1, "r1", "big", 1, "nn02"))
    assert not it.desk.answered("w2", OutputPage(1, b"mine"))
    assert it.desk.answered("w1", OutputPage(1, fault="there is no such file"))
    assert it.take() == [("w2", question)]
    assert it.desk.answered("w2", OutputPage(1, b"data", "0.5.4"))
    assert it.take() == [("viewer-1", OutputPage(7, b"data", "0.5.4"))]
    assert not it.desk.answered("w2", OutputPage(1, b"again"))
    assert it.desk.next_deadline() is None


def test_why_there_is_none_is_told() -> None:
    it = Desk(None)
    it.desk.asked(peer(), ASKED, 0.0)
    [(_, page)] = it.take()
    assert isinstance(page, OutputPage)
    assert page.fault == "no worker on nn02 is connected, and there it lies"

    it = Desk(None, "w1")
    it.desk.asked(peer(), ASKED, 0.0)
    it.desk.forget("w1")
    assert it.take()[-1] == ("viewer-1", OutputPage(7, fault="the worker on nn02 has gone away"))

    it.desk.asked(peer(), ASKED, 0.0)
    assert it.desk.next_deadline() == PATIENCE_S
    it.desk.tick(PATIENCE_S)
    assert it.take()[-1] == ("viewer-1", OutputPage(7, fault="the worker on nn02 does not answer"))

    it.desk.asked(peer(), ASKED, 0.0)
    it.desk.forget("viewer-1")
    assert it.desk.next_deadline() is None


def test_nobody_asks_for_more_than_a_few_pages_at_a_time() -> None:
    it = Desk(None, "w1")
    for _ in range(QUESTIONS):
        assert it.desk.asked(peer(), ASKED, 0.0) == ""
    assert "at a time" in it.desk.asked(peer(), ASKED, 0.0)


@pytest.mark.parametrize(
    ("owner", "run", "told"),
    [
        ("k", "mine", ""),
        ("k", "min", "certainly called"),
        ("k", "his", "no run called"),
        # A worker knows a run by its name alone: one that somebody else has too is nobody's.
        ("k", "both", "certainly called"),
    ],
)
def test_a_client_reads_its_own_runs_only(owner: str, run: str, told: str, tmp_path: Path) -> None:
    log = FarmLog(tmp_path, limit=1 << 20)
    try:
        for name, key in (("mine", "k"), ("his", "other"), ("both", "k"), ("both", "other")):
            log.runs.label(name, key, START)
        it = Desk(log, "w1")
        it.desk.asked(peer("client-1", "client", owner), ReadOutput(1, run, "t", 1, "nn02"), 0.0)
        [(name, message)] = it.take()
        if told:
            assert isinstance(message, OutputPage)
            assert told in message.fault
        else:
            assert name == "w1"
    finally:
        log.close()
