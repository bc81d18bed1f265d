"""Blobs between two processes, on the bulk connection.

The receiver pulls, always: it asks for slices, at most a window's worth at a time, and the other side
answers.
So a slow receiver is never flooded, nothing needs acknowledging, and a lost answer is simply asked for again.
Both ends are used by everybody: the manager pulls inputs from clients and outputs from workers,
workers pull inputs from the manager, clients pull outputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from computefarm.codec import CHUNK
from computefarm.errors import FarmError, StoreError
from computefarm.messages import Absent, Chunk, Digest, Fetch, Slice
from computefarm.store.blobs import BlobStore
from computefarm.store.writer import BlobWriter
from computefarm.transport.wire import Buffer

from .offload import Offload

WINDOW = 8 * CHUNK
"""Bytes asked for and not yet received, per peer."""

FIRST = 256 * 1024
"""Bytes asked for when a blob's size is not known: most files of a build fit."""

ANSWER = 3 * WINDOW
"""Bytes that one request is answered with, at most; an honest one asks for less than two windows."""

SLICES = 256
"""Most slices in one request."""

PATIENCE_S = 10.0
"""Silence after which everything outstanding is asked for again."""


class Pull:
    """One blob on its way here."""

    __slots__ = ("asked", "digest", "peer", "received", "requested", "size", "writer")

    def __init__(self, digest: Digest, size: int | None, peer: str) -> None:
        self.digest = digest
        self.size = size
        self.peer = peer
        self.requested = 0
        self.received = 0
        self.asked = 0
        """Bytes of the window that it holds."""
        self.writer: BlobWriter | None = None


class _Link:
    """What is asked of one peer."""

    __slots__ = ("heard", "outstanding", "queue", "writing")

    def __init__(self, now: float) -> None:
        self.queue: deque[Pull] = deque()
        self.outstanding = 0
        self.writing = 0
        """Bytes that have come and are not on the disk yet: a slow disk must slow its peers down."""
        self.heard = now


class Puller:
    """Fetches blobs from peers into a store. All methods run on the loop's thread."""

    def __init__(
        self,
        store: BlobStore,
        offload: Offload,
        *,
        ask: Callable[[str, Fetch], None],
        arrived: Callable[[list[Digest]], None],
        failed: Callable[[str, list[Digest], str], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._offload = offload
        self._ask = ask
        self._arrived = arrived
        self._failed = failed
        self._clock = clock
        self._pulls: dict[Digest, Pull] = {}
        self._links: dict[str, _Link] = {}
        self.received_bytes = 0

    def want(self, peer: str, blobs: Iterable[tuple[Digest, int | None]]) -> None:
        """Fetch these `(digest, size)` from `peer`; each is asked for once.

        One that is on its way from somebody else is taken over: whoever calls has given that one up.
        """
        link = self._links.setdefault(peer, _Link(self._clock()))
        here: list[Digest] = []
        for digest, size in blobs:
            under_way = self._pulls.get(digest)
            if under_way is not None and under_way.peer == peer:
                continue
            if under_way is not None:
                self._drop(digest)
            # Another process of the same CF_HOME may have put it into the shared folder meanwhile.
            if digest in self._store or self._store.refresh(digest):
                here.append(digest)
                continue
            pull = self._pulls[digest] = Pull(digest, size, peer)
            link.queue.append(pull)
        if here:
            self._arrived(here)
        self._pump(peer, link)

    def take(self, peer: str, chunk: Chunk, data: Buffer) -> bool:
        """Receive the answer to a request; return False for what nobody asked this peer for."""
        link = self._links.get(peer)
        if link is None or sum(piece.length for piece in chunk.slices) != len(data):
            return False
        link.heard = self._clock()
        work: list[tuple[Pull, int, memoryview]] = []
        view = memoryview(data)
        at = 0
        for piece in chunk.slices:
            part = view[at : at + piece.length]
            at += piece.length
            pull = self._pulls.get(piece.digest)
            if pull is None or pull.peer != peer or piece.offset != pull.received:
                continue
            first = pull.size is None
            if piece.length > max(pull.asked, 1):
                continue  # more than was asked for
            self._answered(link, pull, FIRST if first else piece.length)
            pull.size = piece.size
            pull.received += piece.length
            if first:
                pull.requested = pull.received
                if pull.received < piece.size:
                    link.queue.appendleft(pull)
            work.append((pull, piece.offset, part))
        taken = sum(len(part) for _, _, part in work)
        link.writing += taken

        def written(value: Any, error: BaseException | None) -> None:
            link.writing -= taken
            self._written(value, error)
            if self._links.get(peer) is link:
                self._pump(peer, link)

        if not work:
            return False
        self._offload.submit(lambda: self._write(work), written)
        self._pump(peer, link)
        return True

    def absent(self, peer: str, digests: Sequence[Digest]) -> None:
        """The peer cannot deliver these."""
        link = self._links.get(peer)
        if link is not None:
            link.heard = self._clock()
        lost = [digest for digest in digests if digest in self._pulls and self._pulls[digest].peer == peer]
        for digest in lost:
            self._drop(digest)
        if lost:
            self._failed(peer, lost, "not there any more, or changed")
        if link is not None:
            self._pump(peer, link)

    def restart(self, peer: str) -> None:
        """Ask again for everything outstanding: the connection was new, or silent."""
        link = self._links.get(peer)
        if link is None:
            return
        link.outstanding = 0
        link.heard = self._clock()
        queued = set(map(id, link.queue))
        for pull in self._pulls.values():
            if pull.peer == peer:
                pull.requested = pull.received
                pull.asked = 0
                if id(pull) not in queued:
                    link.queue.append(pull)
        self._pump(peer, link)

    def forget(self, peer: str) -> list[Digest]:
        """The peer is gone: return the digests it will not deliver."""
        self._links.pop(peer, None)
        lost = [digest for digest, pull in self._pulls.items() if pull.peer == peer]
        for digest in lost:
            self._drop(digest)
        return lost

    def tick(self, now: float) -> None:
        """Ask again where a peer has been silent for too long."""
        for peer, link in list(self._links.items()):
            if (link.outstanding or link.queue) and now - link.heard >= PATIENCE_S:
                self.restart(peer)

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted."""
        waiting = [link.heard for link in self._links.values() if link.outstanding or link.queue]
        return min(waiting) + PATIENCE_S if waiting else None

    def _pump(self, peer: str, link: _Link) -> None:
        while link.queue and link.outstanding + link.writing < WINDOW:
            slices: list[Slice] = []
            while link.queue and link.outstanding + link.writing < WINDOW and len(slices) < SLICES:
                pull = link.queue[0]
                if self._pulls.get(pull.digest) is not pull:
                    link.queue.popleft()
                    continue
                if pull.size is None:
                    length = FIRST
                    link.queue.popleft()
                else:
                    length = min(pull.size - pull.requested, WINDOW)
                    if pull.requested + length >= pull.size:
                        link.queue.popleft()
                slices.append(Slice(pull.digest, pull.size or 0, pull.requested, length))
                pull.requested += length
                pull.asked += length
                link.outstanding += length
            if slices:
                self._ask(peer, Fetch(tuple(slices)))

    @staticmethod
    def _answered(link: _Link, pull: Pull, length: int) -> None:
        """Give back what a request held of the window; a late copy of an answer gives back nothing."""
        length = min(length, pull.asked)
        pull.asked -= length
        link.outstanding -= length

    def _drop(self, digest: Digest) -> None:
        pull = self._pulls.pop(digest)
        link = self._links.get(pull.peer)
        if link is not None:
            self._answered(link, pull, pull.asked)
        # Behind what may still be waiting to be written, which is what makes the writer.
        self._offload.submit(lambda: self._abort(pull))

    @staticmethod
    def _abort(pull: Pull) -> None:
        if pull.writer is not None:
            pull.writer.abort()

    def _write(self, work: list[tuple[Pull, int, memoryview]]) -> tuple[list[Pull], list[tuple[Pull, str]]]:
        complete: list[Pull] = []
        broken: list[tuple[Pull, str]] = []
        for pull, offset, part in work:
            try:
                if pull.writer is None:
                    assert pull.size is not None
                    pull.writer = self._store.writer(pull.digest, pull.size)
                pull.writer.write(offset, part)
                if offset + len(part) == pull.size:
                    pull.writer.finish()
                    complete.append(pull)
            except (StoreError, OSError) as error:
                broken.append((pull, str(error)))
        return complete, broken

    def _written(self, value: Any, error: BaseException | None) -> None:
        if error is not None:
            raise error
        complete, broken = value
        done: list[Digest] = []
        pull: Pull
        for pull in complete:
            if self._pulls.get(pull.digest) is pull:
                del self._pulls[pull.digest]
                self.received_bytes += pull.size or 0
                done.append(pull.digest)
        for pull, text in broken:
            if self._pulls.get(pull.digest) is pull:
                self._drop(pull.digest)
                self._failed(pull.peer, [pull.digest], text)
        if done:
            self._arrived(done)


class Shelf(Protocol):
    """Where a provider finds blobs."""

    def read_slice(self, digest: Digest, offset: int, length: int) -> tuple[int, bytes]:
        """Return the blob's size and the bytes from `offset`; raise StoreError or OSError when it cannot."""


class StoreShelf:
    """The blobs of a store."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def read_slice(self, digest: Digest, offset: int, length: int) -> tuple[int, bytes]:
        """Return size and bytes; the store verifies the digest."""
        if digest not in self._store and not self._store.refresh(digest):
            raise StoreError(f"no blob {digest.hex()[:12]} here")
        return self._store.size(digest), self._store.read(digest, offset, length)


class Provider:
    """Answers requests for blobs from a shelf, off the loop's thread."""

    def __init__(
        self,
        shelf: Shelf,
        offload: Offload,
        *,
        send: Callable[[str, Chunk | Absent, bytes | None], None],
    ) -> None:
        self._shelf = shelf
        self._offload = offload
        self._send = send
        self.sent_bytes = 0

    def fetch(self, peer: str, request: Fetch, sent: Callable[[], None] | None = None) -> None:
        """Answer `request` on `peer`'s bulk connection, in pieces of at most one chunk; then call `sent`."""

        def then(value: Any, error: BaseException | None) -> None:
            if error is not None:
                raise error
            answers, absent = value
            for slices, data in answers:
                self.sent_bytes += len(data)
                self._send(peer, Chunk(tuple(slices)), data)
            if absent:
                self._send(peer, Absent(tuple(absent)), None)
            if sent is not None:
                sent()

        self._offload.submit(lambda: self._read(request), then)

    def _read(self, request: Fetch) -> tuple[list[tuple[list[Slice], bytes]], list[Digest]]:
        answers: list[tuple[list[Slice], bytes]] = []
        absent: list[Digest] = []
        slices: list[Slice] = []
        parts: list[bytes] = []
        room = CHUNK
        most = ANSWER

        def close() -> None:
            nonlocal slices, parts, room
            if slices:
                answers.append((slices, parts[0] if len(parts) == 1 else b"".join(parts)))
            slices, parts, room = [], [], CHUNK

        for piece in request.slices:
            offset, left = piece.offset, max(0, min(piece.length, WINDOW, most))
            if most <= 0:
                break  # nobody with a window asks for so much at once
            most -= left
            while True:
                try:
                    size, data = self._shelf.read_slice(piece.digest, offset, min(left, CHUNK))
                except (FarmError, OSError):
                    absent.append(piece.digest)
                    break
                if len(data) > room:
                    close()
                slices.append(Slice(piece.digest, size, offset, len(data)))
                parts.append(data)
                room -= len(data)
                offset += len(data)
                left -= len(data)
                if left <= 0 or offset >= size:
                    break
        close()
        return answers, absent
