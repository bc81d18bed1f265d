"""Tuples over one socket between a worker and its spawner, never blocking; standard library only.

Both ends are the same Python and trust each other, so `marshal` does: nothing encodes plain tuples faster.
A frame is four bytes of length and one marshalled list of tuples: one system call and one wake-up carry many.
"""

from __future__ import annotations

import marshal
import os
from typing import Any

LAUNCH, HALT = 1, 2
"""To the spawner: (LAUNCH, ticket, commands, directory, env, timeout_s, grace_s, memory_limit) and
(HALT, ticket, grace_s)."""

RECALL = -1.0
"""As the grace of a HALT: only a task that still waits for its turn is ended."""

STARTED, TEXT, ENDED, NEXT = 1, 2, 3, 4
"""To the owner: (STARTED, ticket, pid), (TEXT, ticket, stream, data), (NEXT, ticket, pid) for later commands,
and (ENDED, ticket, exit_code, signal, timed_out, halted, command, run_s, cpu_s, peak_memory, error)."""

Frame = tuple[Any, ...]

_FEW, _MANY = 8192, 65536
"""Bytes asked of the socket at first, and while it has more. Python makes room for all that is asked for:
a little is faster, and beyond 128 KiB the room is mapped and unmapped every time (20 µs)."""


class ChannelClosed(Exception):
    """The other end is gone."""


class Channel:
    """One end; owns nothing but its buffers."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._received = bytearray()
        self._batch: list[Frame] = []
        self._unsent: list[memoryview] = []
        self.unsent_bytes = 0
        """Encoded, and refused by the socket so far."""
        self.more = False
        """The last `take` filled its buffer, so the socket probably holds more."""

    def put(self, frame: Frame) -> None:
        """Keep `frame` for the next `flush`."""
        self._batch.append(frame)

    @property
    def waiting(self) -> int:
        """Return how many frames the next `flush` will encode."""
        return len(self._batch)

    def flush(self) -> bool:
        """Send what can be sent now; return whether that was everything."""
        if self._batch:
            body = marshal.dumps(self._batch)
            self._batch.clear()
            self._unsent.append(memoryview(len(body).to_bytes(4, "little") + body))
            self.unsent_bytes += len(body) + 4
        unsent = self._unsent
        while unsent:
            try:
                count = os.write(self._fd, unsent[0])
            except BlockingIOError:
                return False
            except OSError as error:
                raise ChannelClosed from error
            self.unsent_bytes -= count
            if count == len(unsent[0]):
                unsent.pop(0)
            else:
                unsent[0] = unsent[0][count:]
        return True

    def take(self) -> list[Frame]:
        """Return the frames that one read completes, often none; raise `ChannelClosed` at the end."""
        size = _MANY if self.more else _FEW
        self.more = False
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ChannelClosed from error
        if not data:
            raise ChannelClosed
        self.more = len(data) == size
        if not self._received and int.from_bytes(data[:4], "little") == len(data) - 4:
            frames: list[Frame] = marshal.loads(memoryview(data)[4:])
            return frames
        return self._assembled(data)

    def _assembled(self, data: bytes) -> list[Frame]:
        received = self._received
        received += data
        frames: list[Frame] = []
        start = 0
        while len(received) - start >= 4:
            end = start + 4 + int.from_bytes(received[start : start + 4], "little")
            if end > len(received):
                break
            frames += marshal.loads(received[start + 4 : end])
            start = end
        del received[:start]
        return frames
