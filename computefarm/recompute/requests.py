"""From what a user writes to what is sent, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from computefarm.messages import Reply, Request
from computefarm.worker_api.kernel import OPAQUE, Envelope, Kernel, Response, find
from computefarm.worker_api.resident import pack, unpack

SIZES = ("k", "d")
"""Fields of requests that workers have limits for."""


class Order(msgspec.Struct, frozen=True):
    """A request, checked and ready to be sent."""

    id: bytes
    request: Request
    """Its number and its budget are filled in when it is sent."""
    deadline_s: float


class Kernels:
    """The kernels of this machine, for checking and judging; each found once. None of them is warmed up."""

    def __init__(self) -> None:
        self._found: dict[str, Kernel[Any, Any]] = {}

    def order(self, raw: Mapping[str, object], *, deadline_ms: int) -> Order:
        """Return what to send; raises `BadRequest` saying which field is wrong."""
        envelope = Envelope.read({"deadline_ms": deadline_ms, **raw})
        kernel = self._found.get(envelope.kernel)
        if kernel is None:
            kernel = self._found[envelope.kernel] = find(envelope.kernel)
        cost = kernel.cost(kernel.parse(raw))
        sizes = tuple((name, value) for name in SIZES if isinstance(value := raw.get(name), int))
        content = {key: value for key, value in raw.items() if key not in OPAQUE}
        request = Request(
            0,
            envelope.kernel,
            pack(content),
            0.0,
            envelope.device,
            envelope.version,
            cost.memory,
            sizes,
            vram=cost.vram,
            cpu_s=cost.cpu_s,
            gpu_s=cost.gpu_s,
        )
        return Order(envelope.id, request, envelope.deadline_ms / 1000.0)


class Answer(Response, frozen=True):
    """A response, and who gave it."""

    worker: str = ""
    hostname: str = ""
    attempts: int = 1
    merged: bool = False

    def fields(self) -> dict[str, object]:
        """Return the flat mapping that is shown to users."""
        return {
            **super().fields(),
            "worker": self.worker,
            "hostname": self.hostname,
            "attempts": self.attempts,
            "merged": self.merged,
        }


def answer_of(order_id: bytes, reply: Reply) -> Answer:
    """Return what a server has said."""
    values: Mapping[str, Any] = {}
    status, reason = reply.status, reply.reason
    if reply.values:
        try:
            values = unpack(reply.values)
        except msgspec.MsgspecError as error:
            status, reason = "error", f"the answer cannot be read: {error}"
    return Answer(
        id=order_id,
        status=status,
        reason=reason,
        values=values,
        device=reply.device,
        cpu_ms=reply.cpu_ms,
        wall_ms=reply.wall_ms,
        queue_ms=reply.queue_ms,
        worker=reply.worker,
        hostname=reply.hostname,
        attempts=reply.attempts,
        merged=reply.merged,
    )
