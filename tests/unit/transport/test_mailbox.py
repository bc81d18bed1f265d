from __future__ import annotations

import select
import sys
import threading

import pytest

from computefarm.transport.mailbox import Mailbox


@pytest.fixture(params=["linux", "darwin"])
def box(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mailbox[int]:
    monkeypatch.setattr(sys, "platform", request.param)
    return Mailbox()


def awake(box: Mailbox[int]) -> bool:
    return bool(select.select([box], [], [], 0)[0])


def test_sleeps_until_something_is_put_and_again_after_drain(box: Mailbox[int]) -> None:
    assert not awake(box)
    box.put(1)
    box.put(2)
    assert awake(box)
    assert box.drain() == [1, 2]
    assert not awake(box)
    assert box.drain() == []
    box.put(3)
    assert awake(box)
    box.close()


def test_nothing_is_lost_or_reordered_between_threads(box: Mailbox[int]) -> None:
    each, threads = 5000, 3
    got: list[int] = []

    def write(thread: int) -> None:
        for number in range(each):
            box.put(thread * each + number)

    writers = [threading.Thread(target=write, args=(thread,)) for thread in range(threads)]
    for writer in writers:
        writer.start()
    while len(got) < each * threads:
        # A lost wake-up shows as a timeout here.
        assert select.select([box], [], [], 10)[0]
        got += box.drain()
    for writer in writers:
        writer.join()

    for thread in range(threads):
        mine = [number for number in got if number // each == thread]
        assert mine == sorted(mine)
    assert sorted(got) == list(range(each * threads))
    box.close()


def test_put_after_close_is_harmless(box: Mailbox[int]) -> None:
    box.close()
    box.close()
    box.put(1)
