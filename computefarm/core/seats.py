"""Which of a worker's warm processes answers a request, and on which device. No I/O.

A *seat* is a process: on the CPU alone, or on a *unit*, a GPU that several may share. Requests that run on a
unit together never need more of its memory than there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from computefarm.messages import Request

from .volatile_servers import DEVICES, KERNEL

Tags = tuple[tuple[str, str], ...]


class Seat(msgspec.Struct, eq=False):
    """One warm process."""

    unit: str = ""
    """Its GPU; empty for one that computes on the CPU alone."""
    vram: int = 0
    """Bytes of the unit that requests may use together."""
    reserved: bool = False
    """Takes only those requests on its unit that ask for a GPU."""
    works: Mapping[str, frozenset[str]] = {}
    """Kernel to the devices that it works on; empty until the process is warm."""
    busy: bool = False
    taken: int = 0
    """Bytes of the unit that are kept for the request at hand."""


def works_of(tags: Tags) -> dict[str, frozenset[str]]:
    """Return kernel to devices, from what a process announces."""
    told = dict(tags)
    every = told.get(DEVICES, "cpu")
    names = [name.removeprefix(KERNEL) for name in told if name.startswith(KERNEL)]
    return {name: frozenset(told.get(f"{DEVICES}:{name}", every).split()) for name in names}


def together(announced: Sequence[Tags]) -> Tags:
    """Return what a worker announces whose processes announce this."""
    tags: dict[str, str] = {}
    works: dict[str, frozenset[str]] = {}
    for told in announced:
        tags = {**dict(told), **tags}
        for name, devices in works_of(told).items():
            works[name] = works.get(name, frozenset()) | devices
    every = frozenset().union(*works.values()) if works else frozenset({"cpu"})
    tags = {name: value for name, value in tags.items() if not name.startswith(f"{DEVICES}:")}
    tags[DEVICES] = " ".join(sorted(every))
    tags |= {f"{DEVICES}:{name}": " ".join(sorted(has)) for name, has in works.items() if has != every}
    return tuple(sorted(tags.items()))


def choose(request: Request, seats: Sequence[Seat], ahead: int = 0) -> tuple[int, str] | None:
    """Return which seat takes a request, and on `cpu` or `gpu`; None while it has to wait.

    `ahead` requests wait for a GPU already, with which this one would be done first if it may use the CPU.
    """
    suited = _suited(request, seats)
    if suited:
        chosen = None if ahead else _on_unit(request, seats, suited)
        if chosen is not None:
            return chosen, "gpu"
        running = sum(seats[n].busy for n in suited)
        soon = request.gpu_s * (2 + ahead + running) / len(suited)
        # Should a GPU be free earlier than the CPU has computed it, it waits for that.
        if request.device == "gpu" or request.cpu_s > soon:
            return None
    elif request.device == "gpu":
        return None
    free = [
        n for n, seat in enumerate(seats) if not seat.busy and "cpu" in seat.works.get(request.kernel, ())
    ]
    # A process with a GPU is the last to be kept from it.
    chosen = min(free, key=lambda n: seats[n].unit != "", default=None)
    return None if chosen is None or (suited and seats[chosen].unit) else (chosen, "cpu")


def wants_unit(request: Request, seats: Sequence[Seat]) -> bool:
    """Return whether a request runs on a GPU of these, or waits for one."""
    return bool(_suited(request, seats))


def hopeless(request: Request, seats: Sequence[Seat]) -> bool:
    """Return whether no seat can ever take a request, all being warm."""
    if _suited(request, seats):
        return False
    can = any("cpu" in seat.works.get(request.kernel, ()) for seat in seats)
    return request.device == "gpu" or not can


def _suited(request: Request, seats: Sequence[Seat]) -> list[int]:
    """Return the seats on whose units a request may run, and should."""
    if request.device == "cpu":
        return []
    asked = request.device == "gpu"
    if not asked and not 0 < request.gpu_s < request.cpu_s:
        return []
    return [
        n
        for n, seat in enumerate(seats)
        if "cuda" in seat.works.get(request.kernel, ())
        and request.vram <= seat.vram
        and (asked or not seat.reserved)
    ]


def _on_unit(request: Request, seats: Sequence[Seat], suited: Sequence[int]) -> int | None:
    """Return a free seat on the unit with least to do that has enough memory left."""
    taken: dict[str, int] = {}
    running: dict[str, int] = {}
    for seat in seats:
        if seat.busy:
            taken[seat.unit] = taken.get(seat.unit, 0) + seat.taken
            running[seat.unit] = running.get(seat.unit, 0) + 1
    free = [
        n for n in suited if not seats[n].busy and taken.get(seats[n].unit, 0) + request.vram <= seats[n].vram
    ]
    return min(free, key=lambda n: running.get(seats[n].unit, 0), default=None)
