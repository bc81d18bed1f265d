"""How a worker and its resident processes talk: frames of msgpack over a socket pair, one request at a time.

A *resident plug-in* names the program of a process that stays: it warms up, says `Ready`, and then answers
one `Ask` after the other. It ends when its socket or its lifeline closes, so that it never outlives its
worker.
"""

from __future__ import annotations

import hashlib
import platform
import struct
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from computefarm.errors import ProtocolError

MAX: Final = 4 * 1024 * 1024
"""Bytes of one frame."""

_HEAD = struct.Struct(">I")


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """Compute this; answered by one `Told`."""

    number: int
    kernel: str
    body: bytes
    """The request, as a msgpack map."""
    budget_s: float
    """How long the answer is of use, from now on."""
    device: str = "any"
    """`cpu`, `gpu`, or `any`: on the GPU if the kernel can, else on the CPU."""
    version: int = 1
    vram: int = 0
    """Bytes of the GPU's memory that are kept for it."""


class Drop(msgspec.Struct, frozen=True, array_like=True, tag="drop"):
    """Nobody wants this any more; it is answered all the same, with any status."""

    number: int


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """Everything is compiled and has given known answers."""

    tags: tuple[tuple[str, str], ...]
    """Of the capability: kernels, devices, limits."""
    lacking: tuple[str, ...] = ()
    """What is not offered, and why: one sentence each."""
    warm_s: float = 0.0
    lost: str = ""
    """Why the GPU that the process was started for is not used; empty when it is, or there was none."""


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """Something has failed, but the process goes on without it."""

    tags: tuple[tuple[str, str], ...]
    """Instead of those of `Ready`."""
    lost: str


class Told(msgspec.Struct, frozen=True, array_like=True, tag="told"):
    """The answer to an `Ask`."""

    number: int
    status: str
    reason: str = ""
    values: bytes = b""
    device: str = ""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0


ToResident = Ask | Drop
FromResident = Ready | Changed | Told

_encoder = msgspec.msgpack.Encoder()
_to_resident: msgspec.msgpack.Decoder[ToResident] = msgspec.msgpack.Decoder(ToResident)
_from_resident: msgspec.msgpack.Decoder[FromResident] = msgspec.msgpack.Decoder(FromResident)


def frame(message: ToResident | FromResident) -> bytes:
    """Return a message as it is sent."""
    body = _encoder.encode(message)
    return _HEAD.pack(len(body)) + body


def read_ask(body: bytes) -> ToResident:
    """Return what a resident process is told."""
    return _to_resident.decode(body)


def read_told(body: bytes) -> FromResident:
    """Return what a resident process has said; raises `ProtocolError`."""
    try:
        return _from_resident.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a resident process does not speak as expected: {error}") from error


class Frames:
    """Cuts what a stream brings into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies of the frames that are complete now; raises `ProtocolError`."""
        self._data += data
        found: list[bytes] = []
        while len(self._data) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._data)
            if length > MAX:
                raise ProtocolError(f"a frame of {length:,} bytes from a resident process")
            if len(self._data) < _HEAD.size + length:
                break
            found.append(bytes(self._data[_HEAD.size : _HEAD.size + length]))
            del self._data[: _HEAD.size + length]
        return found


class Place(msgspec.Struct, frozen=True):
    """Where the process of one slot computes."""

    device: str
    """`cpu` or `gpu`, as `ResidentPlugin.resident` is told."""
    unit: str = ""
    """The GPU, as answers and logs name it; processes of the same one share its memory."""
    vram: int = 0
    """Bytes of it that requests may use together."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables that the process is started with, besides the worker's own."""
    reserved: bool = False
    """Only for requests that ask for a GPU, not for those that may run on any device."""


class Unit(msgspec.Struct, frozen=True):
    """A GPU of this machine."""

    name: str
    """As in `Place.unit`."""
    total: int
    """Bytes of memory."""
    free: int
    """Bytes that nobody uses now."""


@runtime_checkable
class PlacingPlugin(Protocol):
    """A resident plug-in whose processes do not all compute on the same device."""

    def units(self, environ: Mapping[str, str]) -> tuple[tuple[Unit, ...], str]:
        """Return this machine's GPUs, and in a line why there are none or not all."""

    def places(self, *, slots: int, environ: Mapping[str, str]) -> tuple[tuple[Place, ...], str]:
        """Return where the process of each slot computes, and what is not used, in a line.

        Called when a capability's variant `gpu` is offered; loads no driver into this process.
        """


def warmed(cache: str) -> Path:
    """Return the file that is in `cache` once a process of these versions was warm on this host."""
    versions = [sys.version, platform.node()]
    for name in ("computefarm", "numba", "llvmlite"):
        try:
            versions.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            versions.append("")
    return Path(cache) / f"warm-{hashlib.sha256(repr(versions).encode()).hexdigest()[:16]}"


@runtime_checkable
class ResidentPlugin(Protocol):
    """Names the program of a process that stays and answers requests."""

    @property
    def name(self) -> str:
        """The plug-in's name, as capability files write it in `worker:`."""

    def resident(self, *, device: str, memory: int, cache: str, nice: int) -> tuple[str, ...]:
        """Return its argument vector; the worker adds two descriptors: its socket and its lifeline.

        `device` is `auto`, `cpu` or `gpu`; `memory` the bytes that one request may use, 0 for no limit;
        `cache` a folder for what is compiled.
        """


_BIG = 1
"""The extension that carries a whole number of more than 64 bits."""


def pack(values: Mapping[str, Any]) -> bytes:
    """Return a request or an answer as msgpack: equal ones give equal bytes."""
    return msgspec.msgpack.encode(_fitting(dict(values)), order="sorted")


def unpack(data: bytes) -> Any:
    """Return what `pack` was given; raises `msgspec.MsgspecError`."""
    return _unpacker.decode(data)


def _fitting(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return msgspec.msgpack.Ext(_BIG, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if isinstance(value, list | tuple):
        return [_fitting(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _fitting(inner) for key, inner in value.items()}
    return value


def _extension(code: int, data: memoryview) -> Any:
    if code == _BIG:
        return int.from_bytes(data, "big", signed=True)
    return bytes(data)


_unpacker: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=_extension)
