"""What every peer of a manager needs for bulk data: a thread for the disk, a puller, and a provider."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from computefarm.messages import Absent, Chunk, Digest, Fetch, FromManager
from computefarm.store.blobs import BlobStore
from computefarm.transport.wire import Buffer

from .bulk import Provider, Puller, Shelf
from .loop import Loop
from .offload import Offload, Then, Work

MANAGER = "manager"
"""The one peer of this traffic."""


class Transfer:
    """Blobs between this process and its manager. Every method runs on the loop's thread."""

    def __init__(
        self,
        name: str,
        *,
        store: BlobStore,
        shelf: Shelf,
        say: Callable[..., None],
        arrived: Callable[[list[Digest]], None],
        failed: Callable[[list[Digest], str], None],
    ) -> None:
        """`name` is that of the thread; `say(message, data)` sends on the bulk connection.

        Blobs wanted go to `store`, those asked for come from `shelf`.
        """
        self._store = store
        self._shelf = shelf
        self._say = say
        self._arrived = arrived
        self._failed = failed
        self._offload = Offload(name)

    def attach(self, loop: Loop) -> None:
        """Start the thread."""
        self._offload.attach(loop)
        self._puller = Puller(
            self._store,
            self._offload,
            ask=lambda _peer, request: self._say(request),
            arrived=self._arrived,
            failed=lambda _peer, digests, text: self._failed(digests, text),
            clock=loop.clock,
        )
        self._provider = Provider(
            self._shelf, self._offload, send=lambda _peer, message, data: self._say(message, data)
        )

    def submit(self, work: Work, then: Then | None = None) -> None:
        """Run `work` on the thread, after all that was submitted before it."""
        self._offload.submit(work, then)

    def want(self, blobs: Iterable[tuple[Digest, int | None]]) -> None:
        """Fetch these `(digest, size)`; `arrived` or `failed` follows for each."""
        self._puller.want(MANAGER, blobs)

    def heard(self, message: FromManager, data: Buffer | None) -> bool:
        """Take a message of the bulk connection; False when it is not about blobs."""
        match message:
            case Chunk():
                if data is not None:
                    self._puller.take(MANAGER, message, data)
            case Fetch():
                self._provider.fetch(MANAGER, message)
            case Absent():
                self._puller.absent(MANAGER, message.digests)
            case _:
                return False
        return True

    def restart(self) -> None:
        """Ask again for everything: the connection is a new one."""
        self._puller.restart(MANAGER)

    def tick(self, now: float) -> None:
        """Ask again after a long silence."""
        self._puller.tick(now)

    def next_deadline(self) -> float | None:
        """Return when `tick` is wanted."""
        return self._puller.next_deadline()

    def close(self, loop: Loop) -> None:
        """Finish what the thread has to do, and end it."""
        self._offload.close(loop)

    @property
    def offload(self) -> Offload:
        """Return the thread itself, for parts that take one."""
        return self._offload
