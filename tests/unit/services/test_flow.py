"""Lines on their way to the manager: bounded, in order, and never silently gone."""

from __future__ import annotations

from computefarm.messages import Piece
from computefarm.services.flow import HEAD, TAIL, TOGETHER, Allowance, Flow, lines_of


def drain(flow: Flow, where: str = "") -> list[Piece]:
    found: list[Piece] = []
    while flow.size:
        taken = flow.take(where=where)
        assert sum(len(piece.text) for piece in taken) <= TOGETHER + 64 * 1024
        found += taken
    return found


def test_pieces_come_out_in_the_order_they_came_whatever_their_stream() -> None:
    flow = Flow()
    pieces = [Piece(1 + n % 2, 0.0, f"{n}\n", n, n) for n in range(10)]
    for piece in pieces:
        flow.put(piece, 0.0)
    assert drain(flow) == pieces
    assert flow.dropped == 0


def test_the_last_of_each_stream_stays_and_the_gap_is_counted_in_its_place() -> None:
    flow = Flow()
    flow.put(Piece(2, 0.0, "an error\n", 0, 0), 0.0)
    line = "x" * 99 + "\n"
    for n in range(1, 41):
        flow.put(Piece(1, float(n), line * 655, n, 1 + (n - 1) * 655), 0.0)
    found = drain(flow, where="; look there")
    assert found[0].text == "an error\n"
    gap = found[1]
    kept = sum(lines_of(piece.text) for piece in found[2:])
    assert kept == 40 * 655 - flow.dropped
    assert kept * 100 <= TAIL
    assert gap.text == f"[... {flow.dropped:,} lines left out here; look there ...]\n"
    assert (gap.seq, found[2].seq) == (found[2].seq - 1, gap.seq + 1)
    assert found[-1].seq == 40
    assert sum("left out" in piece.text for piece in found) == 1


def test_the_beginning_of_a_stream_is_urgent_and_the_rest_is_not() -> None:
    flow = Flow()
    flow.put(Piece(1, 0.0, "x" * HEAD, 0), 0.0)
    assert flow.urgent()
    flow.take()
    flow.put(Piece(1, 0.0, "y\n", 1), 0.0)
    assert not flow.urgent()
    flow.put(Piece(2, 0.0, "z\n", 2), 0.0)
    assert flow.urgent()  # the other stream has said nothing yet


def test_an_allowance_lends_and_is_paid_back_in_time() -> None:
    now = [0.0]
    allowance = Allowance(lambda: now[0], bytes_s=100, lines_s=10, burst_s=1)
    assert allowance.any()
    allowance.spend(50, 30)
    assert not allowance.any()
    now[0] = 1.9
    assert not allowance.any()
    now[0] = 2.1
    assert allowance.any()
    now[0] = 1000.0
    assert allowance.any()
    allowance.spend(101, 1)  # what was not used is not saved up
    assert not allowance.any()


def test_an_unfinished_line_is_a_line() -> None:
    assert [lines_of(text) for text in ("a", "a\n", "a\nb", "\n\n")] == [1, 1, 2, 2]
