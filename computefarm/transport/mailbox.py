"""A queue between threads whose reader can sleep in `poll`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Many threads put, one thread polls `fileno()` and drains.

    Without a lock: `deque.append` and attribute stores are atomic in Python.
    A writer appends first and looks at `_awake` after; the reader clears `_awake` first and takes after.
    So whatever order they meet in, an item is either taken in this round or has its own wake-up.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._awake = False
        self._closed = False
        if sys.platform == "linux":
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Return the descriptor that is readable while something waits."""
        return self._read

    def put(self, item: T) -> None:
        """Hand over `item`; never blocks. What is put after `close` is dropped."""
        self._items.append(item)
        if not self._awake:
            self._awake = True
            self._wake()

    def _wake(self) -> None:
        if self._closed:
            return
        # A full pipe is awake enough; a closed one means that close() came in between.
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._write, b"\1\0\0\0\0\0\0\0" if sys.byteorder == "little" else b"\0\0\0\0\0\0\0\1")

    def drain(self) -> list[T]:
        """Return everything put so far, oldest first, and sleep again."""
        if not self._closed:
            # Always read, also when `_awake` is false: a writer may have been interrupted before its write.
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)
        self._awake = False
        take = self._items.popleft
        return [take() for _ in range(len(self._items))]

    def close(self) -> None:
        """Give the descriptor back."""
        if self._closed:
            return
        self._closed = True
        os.close(self._read)
        if self._write != self._read:
            os.close(self._write)
