"""From a task's raw output to text: whole lines to stream, and a bounded log to keep."""

from __future__ import annotations

from collections import deque

from computefarm.messages import Piece

LINE_LIMIT = 65536
"""Bytes of a line; a longer one is passed on in parts."""
KEPT = 32768
"""Bytes of a task's output kept from its beginning, and as many from its end."""


class LineSplitter:
    """Turns the bytes of one stream, cut anywhere, into the text of whole lines."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, data: bytes) -> str:
        """Return the lines that `data` completes, in one string; empty when there are none yet."""
        end = data.rfind(b"\n") + 1
        rest = self._rest
        if end:
            if rest:
                text = (bytes(rest) + data[:end]).decode("utf-8", "replace")
                rest.clear()
            else:
                text = data[:end].decode("utf-8", "replace")
            rest += data[end:]
        else:
            text = ""
            rest += data
        if len(rest) >= self._limit:
            text += self._overlong()
        return text

    def finish(self) -> str:
        """Return the last line when it does not end in a newline, else the empty string."""
        text = self._rest.decode("utf-8", "replace")
        self._rest.clear()
        return text

    def _overlong(self) -> str:
        """Take whole parts off a line that goes on, never cutting through a character."""
        rest = self._rest
        cut = len(rest) - len(rest) % self._limit
        for back in range(1, 4):
            byte = rest[cut - back]
            if byte & 0xC0 == 0x80:
                continue
            if byte >= 0xC0 and back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4):
                cut -= back
            break
        text = rest[:cut].decode("utf-8", "replace")
        del rest[:cut]
        return text


class BoundedLog:
    """A task's output, as much of it as a result carries: the first and the last 32 KiB."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._head: list[Piece] = []
        self._room = kept
        self._tail: deque[Piece] = deque()
        self._tail_bytes = 0
        self._dropped = 0
        self._gap: Piece | None = None
        """The first piece of which something was left out."""

    def add(self, piece: Piece) -> None:
        """Take the next piece of either stream."""
        if self._room > 0:
            size = _size(piece.text)
            if size <= self._room:
                self._room -= size
                self._head.append(piece)
                return
            first, second = _head(piece.text, self._room, self._kept)
            self._room = 0
            if first:
                self._head.append(_with_text(piece, first))
            piece = _with_text(piece, second)
        self._tail.append(piece)
        self._tail_bytes += _size(piece.text)
        # Drop whole pieces while what remains is enough; the oldest is shortened only when asked for.
        while self._tail_bytes - _size(self._tail[0].text) >= self._kept:
            gone = self._tail.popleft()
            self._gap = self._gap or gone
            self._tail_bytes -= _size(gone.text)
            self._dropped += _size(gone.text)

    def pieces(self) -> tuple[Piece, ...]:
        """Return what was kept, with a note of how much is missing where something is."""
        tail = list(self._tail)
        dropped, gap = self._dropped, self._gap
        over = self._tail_bytes - self._kept
        if over > 0:
            first, second = _tail(tail[0].text, over, self._kept)
            gap = gap or tail[0]
            dropped += _size(first)
            tail[0:1] = [_with_text(tail[0], second)] if second else []
        if gap is None:
            return (*self._head, *tail)
        note = Piece(gap.stream, gap.created_at, f"[... {dropped} bytes left out ...]\n", gap.seq)
        return (*self._head, note, *tail)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _with_text(piece: Piece, text: str) -> Piece:
    return Piece(piece.stream, piece.created_at, text, piece.seq)


def _head(text: str, size: int, kept: int) -> tuple[str, str]:
    """Cut `text` after at most `size` bytes: at a line's end, or anywhere in a line too long to be kept."""
    data = text.encode("utf-8", "surrogatepass")
    cut = data.rfind(b"\n", 0, size) + 1
    if cut == 0 and len(data) > kept:
        cut = size
        while data[cut] & 0xC0 == 0x80:
            cut -= 1
    return _cut(data, cut)


def _tail(text: str, size: int, kept: int) -> tuple[str, str]:
    """Cut `text` after at least `size` bytes: at a line's end, or anywhere when that would lose too much."""
    data = text.encode("utf-8", "surrogatepass")
    cut = data.find(b"\n", size - 1) + 1
    if cut == 0 or cut - size > kept // 2:
        cut = size
        while cut < len(data) and data[cut] & 0xC0 == 0x80:
            cut += 1
    return _cut(data, cut)


def _cut(data: bytes, cut: int) -> tuple[str, str]:
    return data[:cut].decode("utf-8", "surrogatepass"), data[cut:].decode("utf-8", "surrogatepass")
