"""What a recompute kernel promises, what it is given, and how requests and responses look.

A *kernel* answers requests that are pure functions of their content, in a warm process. It is found by an
entry point of the group `computefarm.kernels`, which names a class that takes no arguments.

    kernel = find("chia.pos1")
    kernel.warmup(context)                        # compiled before the capability is announced
    request = kernel.parse(raw)                   # a mapping, from msgpack (bytes) or JSON (hex)
    parts = kernel.split(request, cores)          # independent of each other
    result = kernel.merge(request, [kernel.run(part, context) for part in parts])
    assert kernel.verify(request, result)         # cheap; whoever asked may do it too

Importing a kernel's module is cheap: numpy and numba are loaded by its first `warmup` or `run`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from computefarm.errors import FarmError
from computefarm.spelling import QUOTED, did_you_mean

from . import plugins
from .plugins import make

GROUP: Final = "computefarm.kernels"
DEFAULT_DEADLINE_MS: Final = 5000
OPAQUE: Final = ("id", "deadline_ms", "device")
"""Keys of a request that do not change its answer."""

OK: Final = "ok"
NO_PROOF: Final = "no_proof"
BAD_REQUEST: Final = "bad_request"
TOO_LARGE: Final = "too_large"
DEADLINE: Final = "deadline"
BUSY: Final = "busy"
ERROR: Final = "error"
ANSWERED: Final = frozenset({OK, NO_PROOF})
"""The statuses that are an answer; the others may be asked again, or put differently."""


class KernelError(FarmError):
    """A request that has no answer here; `status` is what its response says."""

    status: ClassVar[str] = ERROR


class BadRequest(KernelError):
    """The request is malformed or out of range; asking again is of no use."""

    status = BAD_REQUEST


class TooLarge(KernelError):
    """The request needs more memory than this worker may use."""

    status = TOO_LARGE


class DeadlinePassed(KernelError):
    """Nobody waits for the answer any more."""

    status = DEADLINE


class Cancelled(KernelError):
    """The client has withdrawn the request, or the worker is stopping."""

    status = BUSY


class Envelope(msgspec.Struct, frozen=True):
    """What every request says, whatever its kernel."""

    kernel: str
    id: bytes = b""
    """The asker's name for the request, at most 64 bytes; the response repeats it."""
    version: int = 1
    """`v` on the wire."""
    deadline_ms: int = DEFAULT_DEADLINE_MS
    """Milliseconds left when the request was sent."""
    device: str = "any"
    """`any`, `cpu` or `gpu`."""

    @classmethod
    def read(cls, raw: Mapping[str, object]) -> Envelope:
        """Return the common part of a request; raises `BadRequest`."""
        kernel = raw.get("kernel")
        if not isinstance(kernel, str) or not kernel:
            raise BadRequest('`kernel` is missing: it names what is to be computed, as in "chia.pos1"')
        device = raw.get("device", "any")
        if device not in ("any", "cpu", "gpu"):
            raise BadRequest(f"`device` is {device!r}: it is any, cpu or gpu")
        return cls(
            kernel=kernel,
            id=octets(raw, "id", most=64, default=b""),
            version=whole(raw, "v", 1, 1 << 16, default=1),
            deadline_ms=whole(raw, "deadline_ms", 0, 86_400_000, default=DEFAULT_DEADLINE_MS),
            device=str(device),
        )


class Cost(msgspec.Struct, frozen=True):
    """What a request will take, for admission and for the choice of a worker."""

    memory: int
    """Bytes of main memory while it runs, beyond what the idle process has."""
    cpu_s: float
    """Expected seconds on one core."""
    gpu_s: float = 0.0
    """Expected seconds on a GPU; 0 when the kernel has no version for one."""
    vram: int = 0
    """Bytes of GPU memory when run there."""
    splittable: int = 1
    """Into how many parts it may be split."""


class Context(msgspec.Struct):
    """What a kernel is given while it runs."""

    device: str = "cpu"
    """`cpu` or `cuda`: the first GPU that CUDA shows, as the process was started to see only its own.

    A process with a GPU has a context of each kind; a kernel that names both in `devices` is warmed up and
    tested with both.
    """
    check: Callable[[], None] = lambda: None
    """Called every few milliseconds of work; raises `DeadlinePassed` or `Cancelled`."""
    memory: int = 0
    """Bytes that one request may use; 0: no limit."""
    cache: str = ""
    """A folder for compiled code, kept between starts; empty: nothing is kept."""
    scratch: dict[str, Any] = {}
    """Buffers that a kernel keeps between requests; one process, one context, one request at a time.

    In main memory: what `run` takes of a GPU's memory it gives back, others compute there as well.
    """
    vram: int = 0
    """Bytes of the GPU's memory that one request may use; 0: no limit."""
    simulated: bool = False
    """The GPU is numba's simulator: a self-test does as little as it can."""


class Result(msgspec.Struct, frozen=True):
    """The answer to a request: a status, and what the kernel has to say."""

    status: str
    values: Mapping[str, Any] = {}
    """Fields of the response: bytes, integers, floats, text, and lists of them."""
    reason: str = ""
    """One sentence, for every status but `ok`."""


class Response(msgspec.Struct, frozen=True):
    """A result, to whom it belongs, and what it took."""

    id: bytes
    status: str
    reason: str = ""
    values: Mapping[str, Any] = {}
    device: str = ""
    """For example `cpu` or `cuda:0 NVIDIA H100 GPU-12ab`."""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    queue_ms: float = 0.0

    def fields(self) -> dict[str, object]:
        """Return the flat mapping that is shown to users, bytes as they are."""
        timing = {"cpu_ms": self.cpu_ms, "wall_ms": self.wall_ms, "queue_ms": self.queue_ms}
        head: dict[str, object] = {"id": self.id, "status": self.status}
        if self.reason:
            head["reason"] = self.reason
        return {**head, **self.values, "device": self.device, **timing}

    def as_json(self) -> bytes:
        """Return one line of JSON (without its end), bytes as hex."""
        return msgspec.json.encode(_hex(self.fields()))


R = TypeVar("R")
P = TypeVar("P")


@runtime_checkable
class Kernel(Protocol[R, P]):
    """Computes the answers to one kind of request; `R` is a parsed request, `P` the answer to a part."""

    @property
    def name(self) -> str:
        """What requests call it, as in `chia.pos1`."""

    @property
    def version(self) -> int:
        """The highest version of requests it understands."""

    @property
    def devices(self) -> frozenset[str]:
        """Where it can run: `cpu`, `cuda`; the machine may have less."""

    def parse(self, raw: Mapping[str, object]) -> R:
        """Return the request, validated; raises `BadRequest`. Needs neither numpy nor numba."""

    def cost(self, request: R) -> Cost:
        """Estimate what `request` takes. Needs neither numpy nor numba."""

    def split(self, request: R, parts: int) -> Sequence[R]:
        """Return at most `parts` requests that are independent of each other; their answers merge."""

    def run(self, part: R, context: Context) -> P:
        """Compute one part; raises `KernelError`, among them what `context.check()` raises."""

    def merge(self, request: R, partials: Sequence[P]) -> Result:
        """Return the answer to `request` from those to its parts, in their order."""

    def verify(self, request: R, result: Result) -> bool:
        """Say whether `result` answers `request`, in about a millisecond; `no_proof` cannot be judged."""

    def warmup(self, context: Context) -> None:
        """Compile or load everything that requests need."""

    def selftest(self, context: Context) -> None:
        """Compute known answers; raises `KernelError` when one is wrong."""

    def tags(self) -> Mapping[str, str]:
        """Return what a worker announces of it, as in `{"kernel:chia.pos1": "1", "k<": "41"}`."""


def answer(kernel: Kernel[R, P], raw: Mapping[str, object], context: Context) -> Result:
    """Parse, compute and verify one request in this process; errors of the kernel become results."""
    try:
        request = kernel.parse(raw)
        need = kernel.cost(request).memory
        if context.memory and need > context.memory:
            raise TooLarge(f"it needs {need >> 20} MiB, this worker may use {context.memory >> 20} MiB")
        result = kernel.merge(request, [kernel.run(part, context) for part in kernel.split(request, 1)])
        if not kernel.verify(request, result):
            return Result(ERROR, reason=f"{kernel.name} computed an answer that is wrong; it was withheld")
    except KernelError as error:
        return Result(error.status, reason=str(error))
    return result


def digest(raw: Mapping[str, object]) -> bytes:
    """Return the SHA-256 of what determines the answer: equal requests have equal digests."""
    content = {key: _plain(value) for key, value in raw.items() if key not in OPAQUE}
    return hashlib.sha256(msgspec.msgpack.encode(content, order="sorted")).digest()


def _installed() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUP)


def find(
    name: str, *, installed: Callable[[], Iterable[metadata.EntryPoint]] = _installed
) -> Kernel[Any, Any]:
    """Return a new kernel called `name`; raises `BadRequest` saying what there is when it cannot be had."""
    points = {point.name: point for point in installed()}
    if name not in points:
        guess = did_you_mean(name, points, QUOTED)
        raise BadRequest(f"no kernel {name!r}; there are: {', '.join(sorted(points)) or 'none'}{guess}")
    return make(points[name], "kernel", Kernel, "computefarm.worker_api.kernel.Kernel", KernelError)  # type: ignore[type-abstract]


def names() -> tuple[str, ...]:
    """Return the names of all installed kernels, sorted."""
    return plugins.names(GROUP)


def whole(raw: Mapping[str, object], key: str, least: int, most: int, *, default: int | None = None) -> int:
    """Return the integer at `key`, from `least` to `most`; raises `BadRequest`."""
    value = raw.get(key, default)
    if value is None:
        raise BadRequest(f"`{key}` is missing")
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"`{key}` is {_short(value)}: it must be an integer")
    if not least <= value <= most:
        raise BadRequest(f"`{key}` is {value}: it must be from {least} to {most}")
    return value


def octets(
    raw: Mapping[str, object], key: str, *, least: int = 0, most: int, default: bytes | None = None
) -> bytes:
    """Return the bytes at `key` (in JSON: hex digits); raises `BadRequest`."""
    value = raw.get(key, default)
    if value is None:
        raise BadRequest(f"`{key}` is missing")
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            raise BadRequest(f"`{key}` is {_short(value)}: it must be hex digits") from None
    if not isinstance(value, bytes | bytearray | memoryview):
        raise BadRequest(f"`{key}` is {_short(value)}: it must be bytes (in JSON: hex digits)")
    if not least <= len(value) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise BadRequest(f"`{key}` has {len(value)} bytes: it must have {wanted}")
    return bytes(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hex(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _hex(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hex(inner) for inner in value]
    return value


def _plain(value: object) -> object:
    # Hex from JSON and bytes from msgpack are the same request.
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, str):
        return value.removeprefix("0x").lower() if value.startswith("0x") else value
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    # Numbers beyond 64 bits do not fit msgpack.
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    return value
