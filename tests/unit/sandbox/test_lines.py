from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from computefarm.messages import Piece
from computefarm.sandbox.lines import BoundedLog, LineSplitter


def test_whole_lines_come_out_and_the_rest_waits() -> None:
    lines = LineSplitter()

    assert lines.feed(b"one\ntwo\nthr") == "one\ntwo\n"
    assert lines.feed(b"ee") == ""
    assert lines.feed(b"\n") == "three\n"
    assert lines.feed(b"last") == ""
    assert lines.finish() == "last"
    assert lines.finish() == ""


def test_character_cut_between_reads_stays_whole() -> None:
    lines = LineSplitter()
    data = "→\n".encode()

    assert lines.feed(data[:1]) == ""
    assert lines.feed(data[1:]) == "→\n"


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert LineSplitter().feed(b"a\xffb\n") == "a\ufffdb\n"


def test_overlong_line_is_passed_on_in_parts() -> None:
    lines = LineSplitter(limit=4)

    assert lines.feed(b"abcdefghij") == "abcdefgh"
    assert lines.finish() == "ij"


def test_overlong_line_is_not_cut_through_a_character() -> None:
    lines = LineSplitter(limit=4)
    parts = [lines.feed(bytes([byte])) for byte in "ab→→→😀é".encode()]

    assert "".join(parts) + lines.finish() == "ab→→→😀é"


@given(st.lists(st.binary(max_size=12), max_size=20), st.integers(4, 9))
def test_valid_text_survives_any_cut(parts: list[bytes], limit: int) -> None:
    data = b"".join(parts).decode("utf-8", "ignore").encode()
    lines, texts, rest = LineSplitter(limit), [], data
    for part in parts:
        texts.append(lines.feed(rest[: len(part)]))
        rest = rest[len(part) :]
        assert len(lines._rest) < limit + 4
    texts += [lines.feed(rest), lines.finish()]

    assert "".join(texts).encode() == data


def piece(text: str, seq: int, stream: int = 1) -> Piece:
    return Piece(stream, 5.0, text, seq)


def test_short_log_is_kept_as_it_is() -> None:
    log = BoundedLog(kept=10)
    pieces = (piece("12345\n", 0), piece("12\n", 1, 2), piece("123456\n", 2))
    for each in pieces:
        log.add(each)

    assert "".join(p.text for p in log.pieces()) == "12345\n12\n123456\n"
    assert [(p.stream, p.seq) for p in log.pieces()] == [(1, 0), (2, 1), (1, 2)]


def test_long_log_keeps_both_ends_and_says_how_much_is_missing() -> None:
    log = BoundedLog(kept=10)
    for number in range(100):
        log.add(piece(f"{number:03}\n", number))

    assert log.pieces() == (
        piece("000\n", 0),
        piece("001\n", 1),
        piece("[... 384 bytes left out ...]\n", 2),
        piece("098\n", 98),
        piece("099\n", 99),
    )


def test_one_huge_piece_is_cut_at_lines() -> None:
    log = BoundedLog(kept=10)
    log.add(piece("".join(f"{number:03}\n" for number in range(100)), 0))

    assert [p.text for p in log.pieces()] == ["000\n001\n", "[... 384 bytes left out ...]\n", "098\n099\n"]


def test_huge_line_is_cut_between_characters() -> None:
    log = BoundedLog(kept=10)
    log.add(piece("→" * 100, 0))

    assert [p.text for p in log.pieces()] == ["→→→", "[... 282 bytes left out ...]\n", "→→→"]


@given(st.lists(st.text(max_size=30), max_size=30), st.integers(1, 40))
def test_log_is_never_longer_than_promised_and_counts_right(texts: list[str], kept: int) -> None:
    log = BoundedLog(kept)
    for seq, text in enumerate(texts):
        log.add(piece(text, seq))
    whole = "".join(texts).encode()
    pieces = log.pieces()
    note = next(
        (p for p in pieces if p.text.startswith("[... ") and p.text.endswith(" left out ...]\n")), None
    )

    if note is None:
        assert "".join(p.text for p in pieces).encode() == whole
        return
    left_out = int(note.text.split()[1])
    sizes = sum(len(p.text.encode()) for p in pieces if p is not note)
    assert sizes + left_out == len(whole)
    assert sizes <= 2 * kept
