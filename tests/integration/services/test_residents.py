"""Slots whose process with a GPU does not live: they compute on the CPU in the end, and say so."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from computefarm.host.processes import children
from computefarm.messages import DeviceLoad, Reply, Request
from computefarm.services.loop import Loop
from computefarm.services.resident_process import Post
from computefarm.services.residents import Residents, Tags
from computefarm.worker_api.resident import Place

PROCESS = """
import os, socket, sys
from computefarm.worker_api.resident import Ask, Frames, Ready, Told, frame, read_ask
gpu = os.environ.get("GPU_OF_TEST", "")
if gpu == "dies early":
    sys.exit(3)
sock, frames = socket.socket(fileno=int(sys.argv[1])), Frames()
devices = "cpu cuda" if gpu else "cpu"
sock.sendall(frame(Ready((("devices", devices), ("kernel:k", "1")))))
while data := sock.recv(65536):
    for body in frames.feed(data):
        ask = read_ask(body)
        if gpu == "dies at work" and ask.device != "cpu":
            os.abort()
        sock.sendall(frame(Told(ask.number, "ok", device=gpu or "cpu")))
"""
COMMAND = (sys.executable, "-c", PROCESS)
UNIT = "cuda:0 Test GPU-1"


class Part:
    """The processes as a part of a loop."""

    def __init__(self, gpu: str) -> None:
        self.loop = Loop()
        self.announced: list[Tags] = []
        self.replies: list[Reply] = []
        self.loads: list[tuple[DeviceLoad, ...]] = []
        place = Place("gpu", UNIT, 1 << 30, (("GPU_OF_TEST", gpu),))
        self.residents = Residents(
            COMMAND,
            1,
            reply=self._replied,
            ready=self._ready,
            alive=lambda: None,
            posts=[Post(COMMAND, place)],
        )
        for name in ("tick", "next_deadline", "close", "attach"):
            setattr(self, name, getattr(self.residents, name))

    def pace(self) -> float:
        return 0.0

    def flush(self) -> None:
        pass

    def _ready(self, tags: Tags) -> None:
        self.announced.append(tags)

    def _replied(self, reply: Reply) -> None:
        self.replies.append(reply)

    def until(self, true: Callable[[], bool]) -> None:
        """Let the loop turn until something is true."""
        while not true():
            self.loop.turn()

    def ask(self, device: str = "any") -> Reply:
        request = Request(len(self.replies), "k", b"", 60.0, device, vram=1, cpu_s=2.0, gpu_s=1.0)
        before = len(self.replies)
        self.residents.ask(request)
        self.loads.append(self.residents.devices())
        self.until(lambda: len(self.replies) > before)
        return self.replies[-1]


@pytest.fixture
def part(request: pytest.FixtureRequest) -> Iterator[Part]:
    made = Part(request.param)
    made.loop.add(made)
    yield made
    made.residents.close()


@pytest.mark.parametrize("part", ["dies early"], indirect=True)
def test_a_process_that_cannot_start_with_a_gpu_is_started_without(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        part.until(lambda: bool(part.announced))

    assert [dict(tags)["devices"] for tags in part.announced] == ["cpu"]
    assert f"{UNIT} is not used any more by slot 1: a process with it ended with code 3" in caplog.text
    assert part.ask().device == "cpu"
    assert part.loads[-1] == (DeviceLoad("cpu", 1, part.loads[-1][0].oldest_s),)


@pytest.mark.parametrize("part", ["dies at work"], indirect=True)
def test_a_process_that_dies_at_work_is_tried_once_more_and_what_is_announced_changes(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    part.until(lambda: bool(part.announced))
    assert dict(part.announced[0])["devices"] == "cpu cuda"

    first = part.ask()
    assert (first.status, "was killed by signal" in first.reason) == ("error", True)
    assert part.loads[-1][0].device == UNIT
    second = part.ask("gpu")
    assert second.status == "error"
    part.until(lambda: len(part.announced) == 2)
    assert dict(part.announced[1])["devices"] == "cpu"
    assert part.ask().device == "cpu"
    refused = part.ask("gpu")
    assert (refused.status, "no gpu for k here any more" in refused.reason) == ("error", True)


@pytest.mark.parametrize(("together", "at_once"), [(False, 1), (True, 3)])
def test_the_first_process_starts_alone_where_there_may_be_something_to_compile(
    together: bool, at_once: int
) -> None:
    announced: list[Tags] = []
    before = set(children(os.getpid()))
    residents = Residents(
        COMMAND, 3, reply=lambda _: None, ready=announced.append, alive=lambda: None, together=together
    )
    loop = Loop()
    residents.attach(loop)
    try:
        assert len(set(children(os.getpid())) - before) == at_once
    finally:
        residents.close()
