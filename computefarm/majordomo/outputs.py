"""The output of a farm task, given back to doit's actions as if they had run here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from doit.action import CmdAction

from computefarm.messages import Piece

MARK = "\x1ecomputefarm-action-{}\x1e"
"""Printed on both streams between two actions of one task, where doit wants their outputs apart."""

_MARKS = re.compile("\x1ecomputefarm-action-\\d+\x1e\n?")

KEPT = 60 * 1024
"""Bytes of output that are sure to come back with a result."""


def separators(number: int) -> str:
    """Return the command that marks where action `number` begins."""
    mark = MARK.format(number).replace("\x1e", "\\036")
    return f"printf '{mark}\\n'; printf '{mark}\\n' >&2"


def streams(pieces: Sequence[Piece]) -> tuple[str, str]:
    """Return all of stdout and all of stderr."""
    out = "".join(piece.text for piece in pieces if piece.stream == 1)
    err = "".join(piece.text for piece in pieces if piece.stream != 1)
    return out, err


def give_back(actions: Sequence[CmdAction], pieces: Sequence[Piece], marked: bool) -> None:
    """Set `out`, `err`, `result` and `values` of each action as `CmdAction.execute` does."""
    out, err = streams(pieces)
    for number, action in enumerate(actions):
        last = number == len(actions) - 1
        if marked:
            action.out, action.err = _part(out, number), _part(err, number)
        else:
            # One action made it all; of several, the last is the one whose result doit keeps.
            action.out, action.err = (out, err) if last else ("", "")
        action.result = action.out + action.err
        if action.save_out:
            action.values[action.save_out] = action.out


def _part(text: str, number: int) -> str:
    start = 0
    if number:
        mark = MARK.format(number) + "\n"
        start = text.find(mark)
        if start < 0:
            return ""
        start += len(mark)
    end = text.find(MARK.format(number + 1), start)
    return text[start:] if end < 0 else text[start:end]


def without_marks(pieces: Sequence[Piece]) -> list[Piece]:
    """Return what people should see of a marked output."""
    shown = []
    for piece in pieces:
        text = _MARKS.sub("", piece.text)
        if text:
            shown.append(Piece(piece.stream, piece.created_at, text, piece.seq))
    return shown
