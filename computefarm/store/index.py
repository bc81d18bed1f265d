"""What a store holds, in memory: sizes, pins, and who was used when."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from computefarm.messages import Digest

Identity = tuple[int, int, int, int]
"""Inode, size, mtime_ns and ctime_ns: a file with the same four has not been written to."""


class Blob:
    """One stored blob. Times are wall-clock seconds, comparable with the files' own."""

    __slots__ = ("identity", "size", "touched_at", "used_at")

    def __init__(self, size: int, used_at: float) -> None:
        self.size = size
        self.used_at = used_at
        self.touched_at = used_at
        self.identity: Identity | None = None
        """Of the file whose bytes were last found to have the right digest."""


class BlobIndex:
    """The blobs of one store and their pins; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[Digest, Blob] = {}
        self._pins: dict[Digest, int] = {}
        self.total_bytes = 0

    def __contains__(self, digest: object) -> bool:
        return digest in self._blobs

    def __len__(self) -> int:
        return len(self._blobs)

    def get(self, digest: Digest) -> Blob | None:
        """Return what is known of a blob."""
        return self._blobs.get(digest)

    def digests(self) -> tuple[Digest, ...]:
        """Return all blobs held at this moment."""
        with self._lock:
            return tuple(self._blobs)

    def add(self, digest: Digest, size: int, used_at: float, identity: Identity | None = None) -> None:
        """Enter a blob, or note a new file for a known one."""
        with self._lock:
            blob = self._blobs.get(digest)
            if blob is None:
                blob = self._blobs[digest] = Blob(size, used_at)
                self.total_bytes += size
            elif blob.size != size:
                self.total_bytes += size - blob.size
                blob.size = size
            blob.used_at = max(blob.used_at, used_at)
            if identity is not None:
                blob.identity = identity

    def discard(self, digest: Digest, *, even_pinned: bool = True) -> bool:
        """Forget a blob; False when it is not held, or pinned and that matters."""
        with self._lock:
            if not even_pinned and digest in self._pins:
                return False
            blob = self._blobs.pop(digest, None)
            if blob is None:
                return False
            self.total_bytes -= blob.size
            return True

    def pin(self, digests: Iterable[Digest], touched_since: float = 0.0) -> list[Digest]:
        """Count one user more for each; return those held whose use was last recorded before that time."""
        untouched = []
        with self._lock:
            for digest in digests:
                self._pins[digest] = self._pins.get(digest, 0) + 1
                blob = self._blobs.get(digest)
                if blob is not None and blob.touched_at < touched_since:
                    untouched.append(digest)
        return untouched

    def pinned_and_untouched(self, touched_since: float) -> list[Digest]:
        """Return the pinned blobs held here whose use was last recorded before that time."""
        with self._lock:
            held = ((digest, self._blobs.get(digest)) for digest in self._pins)
            return [digest for digest, blob in held if blob is not None and blob.touched_at < touched_since]

    def unpin(self, digests: Iterable[Digest]) -> None:
        """Count one user less for each; one too many is ignored."""
        with self._lock:
            for digest in digests:
                count = self._pins.get(digest, 0) - 1
                if count > 0:
                    self._pins[digest] = count
                else:
                    self._pins.pop(digest, None)

    def least_recently_used(self, used_before: float | None = None) -> list[Digest]:
        """Return the unpinned blobs, the one longest unused first; only those not used since that time."""
        with self._lock:
            free = [
                (blob.used_at, digest)
                for digest, blob in self._blobs.items()
                if digest not in self._pins and (used_before is None or blob.used_at <= used_before)
            ]
        free.sort()
        return [digest for _, digest in free]
