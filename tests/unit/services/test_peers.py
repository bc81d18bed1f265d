"""What the manager keeps for a peer that may not read."""

from __future__ import annotations

from computefarm.codec import decode_from_manager
from computefarm.messages import PROTOCOL, Accepted, Done, Hello, Outcome, Piece, Result, TaskOutput
from computefarm.services.peers import BACKLOG_BYTES, BACKLOG_FRAMES, NEVER, PLACED_S, UNHEARD, Peer


def peer() -> Peer:
    return Peer("client-1", "key", "client", Hello(PROTOCOL, "1", "client", "boot"))


def lines(task: int, count: int = 1000, size: int = 100, seq: int = 0) -> TaskOutput:
    return TaskOutput("s", task, 1, (Piece(1, 5.0, ("x" * (size - 1) + "\n") * count, seq),))


def outputs(one: Peer) -> list[TaskOutput]:
    """Everything it would be sent."""
    one.close_turn(0.0)
    found = [message for frame in one.frames for message in decode_from_manager(frame)]
    return [message for message in found if isinstance(message, TaskOutput)]


def test_lines_for_who_says_nothing_are_bounded_and_counted() -> None:
    one = peer()
    for seq in range(1000):
        one.gather(lines(1, seq=seq), 0.0)
        one.close_turn(0.0)
    assert one.backlog < UNHEARD + 2 * 100_000 + 1_000_000
    sent = len(outputs(one))
    assert sent < 1000
    one.unheard = 0  # it has spoken
    one.frames.clear()
    one.gather(lines(1, count=1, seq=1000), 0.0)
    told, last = outputs(one)
    assert told.pieces[0].text == f"[{(1000 - sent) * 1000} lines left out: they were not read in time]\n"
    assert last.pieces[0].seq == 1000


def test_what_was_left_out_is_told_with_the_end_at_the_latest() -> None:
    one = peer()
    one.unheard = UNHEARD
    one.gather(lines(1), 0.0)
    one.gather(lines(2, count=3), 0.0)
    one.gather(Done("s", 2, Result(Outcome.SUCCEEDED, 0)), 0.0)
    assert [(o.task, o.pieces[0].text) for o in outputs(one)] == [
        (2, "[3 lines left out: they were not read in time]\n")
    ]
    assert list(one.left_out) == [("s", 1, 1)]


def test_results_are_never_left_out() -> None:
    one = peer()
    one.unheard = UNHEARD
    done = Done("s", 1, Result(Outcome.SUCCEEDED, 0))
    one.gather(done, 0.0)
    one.close_turn(0.0)
    assert decode_from_manager(one.frames[0]) == [done]


def test_too_much_is_too_much() -> None:
    one = peer()
    piece = Piece(1, 5.0, "x" * 60_000)
    assert not one.choked
    for number in range(BACKLOG_BYTES // 60_000 + 1):
        one.gather(Done("s", number, Result(Outcome.FAILED, 1, log=(piece,))), 0.0)
    one.close_turn(0.0)
    assert one.choked
    one.forget_unsent()
    assert (one.backlog, one.choked, len(one.frames)) == (0, False, 0)
    one.frames.extend([b""] * (BACKLOG_FRAMES + 1))
    assert one.choked


def test_what_is_sent_is_not_kept() -> None:
    one = peer()
    one.gather(lines(1), 0.0)
    one.close_turn(0.0)
    assert one.backlog == len(one.frames[0])
    one.sent()
    assert (one.backlog, len(one.frames)) == (0, 0)


def test_that_a_task_is_written_down_is_told_with_its_end() -> None:
    one = peer()
    accepted, done = Accepted("s", (1,)), Done("s", 1, Result(Outcome.SUCCEEDED, 0))
    one.gather(accepted, 5.0)
    one.close_turn(5.0)
    assert not one.frames
    assert one.due() == 5.0 + PLACED_S
    one.gather(done, 5.001)
    one.close_turn(5.001)
    assert [decode_from_manager(frame) for frame in one.frames] == [[accepted, done]]
    assert one.due() == NEVER


def test_that_a_task_is_written_down_is_told_in_a_moment_at_the_latest() -> None:
    one = peer()
    accepted = Accepted("s", (1,))
    one.gather(accepted, 5.0)
    one.close_turn(5.0 + PLACED_S)
    assert [decode_from_manager(frame) for frame in one.frames] == [[accepted]]


def test_who_connects_anew_is_not_told_what_was_held_back_for_the_old_connection() -> None:
    one = peer()
    one.gather(Accepted("s", (1,)), 5.0)
    one.forget_unsent()
    one.close_turn(6.0)
    assert not one.frames
