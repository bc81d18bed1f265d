"""A blob on its way: bytes collected under a temporary name and verified before anybody sees them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from computefarm.errors import Damaged, StoreError
from computefarm.messages import Digest

from .copying import hash_open, store_error, write_at

Publish = Callable[[Path, int, Digest, int], None]
"""Takes the temporary name, the open file, its digest and size; renames it into place."""


class BlobWriter:
    """A blob on its way: chunks arrive in any order, from one thread at a time."""

    def __init__(self, digest: Digest, size: int, part: Path, publish: Publish) -> None:
        self.digest = digest
        self.size = size
        self.received = 0
        """Bytes written so far, repeats included."""
        self._part = part
        self._publish = publish
        self._hasher = hashlib.sha256()
        self._hashed = 0
        self._in_order = True
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._target = os.open(self._part, flags, 0o444)
        except OSError as error:
            raise self._failure(error) from error

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`."""
        if self._target < 0:
            raise StoreError(f"blob {self.digest.hex()}: written to after its end")
        if offset < 0 or offset + len(data) > self.size:
            self.abort()
            raise StoreError(f"blob {self.digest.hex()}: more bytes came than its {self.size:,}")
        try:
            write_at(self._target, data, offset)
        except OSError as error:
            self.abort()
            raise self._failure(error) from error
        self.received += len(data)
        if offset == self._hashed and self._in_order:
            self._hasher.update(data)
            self._hashed += len(data)
        else:
            self._in_order = False

    def finish(self) -> Digest:
        """Verify and publish; on any error nothing is left."""
        if self._target < 0:
            raise StoreError(f"blob {self.digest.hex()}: ended twice")
        try:
            found, size = self._digest_of_all()
            if found != self.digest or size != self.size:
                raise Damaged(
                    f"blob {self.digest.hex()} arrived damaged: {size:,} of {self.size:,} bytes,"
                    f" with digest {found.hex()}"
                )
            self._publish(self._part, self._target, self.digest, size)
        except OSError as error:
            self.abort()
            raise self._failure(error) from error
        except BaseException:
            self.abort()
            raise
        os.close(self._target)
        self._target = -1
        return self.digest

    def _digest_of_all(self) -> tuple[Digest, int]:
        if self._in_order:
            return self._hasher.digest(), self._hashed
        return hash_open(self._target)

    def abort(self) -> None:
        """Give up; nothing is left. Harmless after `finish`."""
        if self._target >= 0:
            os.close(self._target)
            self._target = -1
            with contextlib.suppress(OSError):
                os.unlink(self._part)

    def _failure(self, error: OSError) -> StoreError:
        return store_error(
            error, self._part.parent, f"write blob {self.digest.hex()[:12]}… of {self.size:,} bytes"
        )
