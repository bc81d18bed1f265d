"""Room in a store: names for what is on its way in, and the eviction of what was not used for long."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path

from computefarm.messages import Digest

from .claims import Claim, sweep
from .copying import store_error
from .shelf import READ, TOUCH_EVERY_S, OnLost, Shelf

RESCAN_EVERY_S = 600.0
"""How long another process's blobs may go uncounted against the limit."""

EVICT_TO = 0.9
"""Eviction frees space down to this part of the limit, so that it is not needed again at once."""

EVICT_EVERY_S = 5.0
"""How often to look for what to evict while everything was used lately."""

SPARE_S = 600.0 + TOUCH_EVERY_S
"""What anybody used within the last ten minutes is spared; its use may be on disk so much later."""

CROWDED = 2.0
"""Times the limit: beyond, what was used lately goes too."""

_PARTS = ".part-"
_LEFTOVER_S = 60.0


class Room(Shelf):
    """The half of a store that keeps it within its limit, among other processes that use the same folder."""

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int | None = None,
        on_lost: OnLost | None = None,
        spare_s: float = SPARE_S,
    ) -> None:
        super().__init__(root, on_lost)
        self.limit_bytes = limit_bytes
        self._spare_s = spare_s
        self._touched_pins_at = 0.0
        self._evicted_at = 0.0
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(self.root, _PARTS, older_than_s=_LEFTOVER_S)
            self._claim = Claim(self.root, _PARTS)
        except OSError as error:
            raise store_error(error, self.root, "open the store") from error
        self._parts = os.fspath(self._claim.path)
        self._numbers = itertools.count()
        self.rescan()

    def close(self) -> None:
        """Remove what was being written. The blobs stay."""
        self._claim.close()

    def pin(self, digests: Iterable[Digest]) -> None:
        """Keep these from eviction, here or yet to come, until as many `unpin`s. Pin first, then look."""
        for digest in self._index.pin(digests, time.time() - TOUCH_EVERY_S):
            self._touch(digest)

    def unpin(self, digests: Iterable[Digest]) -> None:
        """End one `pin` of each."""
        self._index.unpin(digests)

    @property
    def wants_room(self) -> bool:
        """Tell whether `evict` is due: the limit is passed, and it was not tried a moment ago in vain."""
        if self.limit_bytes is None or self.total_bytes <= self.limit_bytes:
            return False
        crowded = self.total_bytes > self.limit_bytes * CROWDED
        return crowded or time.monotonic() - self._evicted_at > EVICT_EVERY_S

    def evict(self) -> tuple[Digest, ...]:
        """When over the limit, remove the least recently used unpinned blobs; return which.

        What somebody used lately may be pinned in another process: it is spared, up to `CROWDED` times
        the limit.
        """
        now = time.time()
        self._evicted_at = time.monotonic()
        if now - self._touched_pins_at > TOUCH_EVERY_S:
            self._touched_pins_at = now
            for digest in self._index.pinned_and_untouched(now - TOUCH_EVERY_S):
                self._touch(digest)
        if self.limit_bytes is None:
            return ()
        if time.monotonic() - self._scanned_at > RESCAN_EVERY_S:
            self.rescan()
        gone = self._evict(self.limit_bytes, now - self._spare_s)
        gone += self._evict(self.limit_bytes * CROWDED, None)
        self._tell(tuple(gone))
        return tuple(gone)

    def _evict(self, limit: float, used_before: float | None) -> list[Digest]:
        """Remove blobs if all are more than `limit` bytes, only such as nobody used since `used_before`."""
        gone: list[Digest] = []
        if self.total_bytes <= limit:
            return gone
        for digest in self._index.least_recently_used(used_before):
            if self.total_bytes <= limit * EVICT_TO:
                break
            if self._remove_unpinned(digest, used_before):
                gone.append(digest)
        return gone

    def _remove_unpinned(self, digest: Digest, used_before: float | None) -> bool:
        part, path = self._part_name(), self.path(digest)
        with self._places:
            blob = self._index.get(digest)
            if blob is not None and used_before is not None:
                with contextlib.suppress(OSError):
                    blob.used_at = max(blob.used_at, os.lstat(path).st_mtime)
                if blob.used_at > used_before:
                    return False  # another process uses it; next time it stands elsewhere in the row
            if not self._index.discard(digest, even_pinned=False):
                return False
            try:
                os.rename(path, part)
            except OSError:
                return True  # another process was faster
        forget(part)  # a large file takes its time to go
        return True

    def _touch(self, digest: Digest) -> bool:
        """Note a use, on disk too if the last one is long ago; True, for the sake of the callers."""
        blob = self._index.get(digest)
        if blob is None:
            return True
        now = time.time()
        if now - blob.touched_at < TOUCH_EVERY_S:
            blob.used_at = now
            return True
        try:
            source = os.open(self.path(digest), READ)
        except OSError:
            return True  # whoever reads it will find out
        try:
            self._used(blob, source)
        finally:
            os.close(source)
        return True

    def _part_name(self) -> str:
        if not os.path.exists(self._parts):
            self._restore()
        return f"{self._parts}/.{next(self._numbers)}"

    def _restore(self) -> None:
        """Begin anew after somebody has deleted the folder, as people do with caches."""
        try:
            if self._claim.renew():
                self.rescan()
        except OSError as error:
            raise store_error(error, self.root, "make the store again") from error


def forget(part: str | Path) -> None:
    """Remove a temporary file, if it is there."""
    with contextlib.suppress(OSError):
        os.unlink(part)
