"""How busy this host is with other things than ComputeFarm.

    load = demand of everybody else, in cores, divided by the cores there are

While cores are free, the others' demand is the CPU time they got. Once all cores are busy, CPU time says too
little: two owners' programs on two cores get one core's worth beside two tasks of ours. Then the queue of
runnable threads is divided in the ratio of the CPU time that they and we got. Whoever got no CPU time at all
is taken to have asked for none, so a farm that fills its own host never throttles itself.

The queue is read from /proc/stat on Linux; elsewhere the one-minute load average stands in for it.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

from computefarm.messages import LoadReport

from .gpu import count_gpus
from .pids import OwnProcesses
from .processes import Process

SHORTEST_S = 0.25
"""Two samples must lie this far apart: the kernel counts CPU time in hundredths of a second."""
QUEUE_MEMORY_S = 3.0
"""A moment's queue is noise; it is averaged with a weight that falls to 1/e in this time."""
FULL = 0.9
"""Share of busy CPU time from which on threads are taken to queue for cores."""
SLOW_FACTS_S = 15.0
"""Users, battery and GPUs change rarely and cost more to ask for."""
CHANGE = 0.1
"""A change worth telling at once: of load per core, or of the memory as a whole."""


class Counters(msgspec.Struct, frozen=True):
    """What the system counts, at one moment."""

    busy_s: float
    """CPU seconds used by anybody since the start, over all cores (stolen time counts as used)."""
    total_s: float
    """CPU seconds there were."""
    runnable: float
    """Threads that run or wait for a core now, without the one that counts."""
    cpus: int


def foreign_load(
    busy_s: float, own_s: float, total_s: float, queue: float, cpus: int, own_queue: int
) -> float:
    """Return everybody else's demand per core over an interval of `total_s` CPU seconds.

    `queue` is the average number of runnable threads, `own_queue` how many of them are surely ours.
    """
    if total_s <= 0 or cpus <= 0:
        return 0.0
    others_s = max(0.0, busy_s - own_s)
    got = others_s / total_s * cpus
    if busy_s < FULL * total_s or others_s <= 0.0:
        return got / cpus
    wanted = others_s / busy_s * queue
    return max(got, min(wanted, queue - own_queue)) / cpus


def own_cpu_s(before: Mapping[int, Process], after: Mapping[int, Process], since_s: float) -> float:
    """Return the CPU seconds that our processes used between two looks at them, `since_s` seconds apart.

    A process that ended passes its time to the parent that waited for it; what is passed on must not count
    twice, and what is lost with a family that vanished must not count as negative.
    """
    spent = 0.0
    counted = {pid for pid in before if pid in after and before[pid].started == after[pid].started}
    for pid, process in after.items():
        if pid in counted:
            spent += process.cpu_s - before[pid].cpu_s
        elif process.parent in before or process.parent in after:
            spent += process.cpu_s
        else:
            # Newly registered: what it used before we knew it is no part of this interval.
            spent += min(process.cpu_s, since_s)
    for pid, process in before.items():
        if pid not in counted and _heir(process, before, counted):
            spent -= process.cpu_s
    return max(0.0, spent)


def _heir(process: Process, before: Mapping[int, Process], alive: set[int]) -> bool:
    """Say whether some living ancestor took over the CPU time of an ended process."""
    for _ in range(len(before)):
        if process.parent in alive:
            return True
        if process.parent not in before:
            return False
        process = before[process.parent]
    return False


def significant(old: LoadReport, new: LoadReport) -> bool:
    """Say whether `new` should be told at once rather than at the next regular time."""
    limit = new.max_load
    return (
        abs(new.load - old.load) >= CHANGE
        or (limit is not None and (old.load > limit) != (new.load > limit))
        or abs(new.memory_available - old.memory_available) >= CHANGE * max(1, new.memory_total)
        or (old.users == 0) != (new.users == 0)
        or (old.on_battery, old.max_load, old.policy, old.gpus)
        != (new.on_battery, new.max_load, new.policy, new.gpus)
    )


class LoadSampler:
    """Takes samples; each covers the time since the one before."""

    def __init__(self, own: OwnProcesses | None = None, cache: Path | None = None) -> None:
        self._own = own or OwnProcesses()
        self._cache = cache
        self._tree = self._own.tree()
        self._counters = read_counters()
        self._queue = self._counters.runnable
        self._now: float | None = None
        self._slow: tuple[int, bool, int] = (0, False, 0)
        self._slow_at = -math.inf
        # Nothing has been measured yet; the load average is old news, but better than none.
        self._load = min(1.0, _load_average() / self._counters.cpus)
        self._own_load = 0.0

    def sample(self, now: float) -> LoadReport:
        """Return the facts of this moment (`now`: monotonic seconds); the caller fills in the names."""
        counters = read_counters()
        if (counters.total_s - self._counters.total_s) / counters.cpus >= SHORTEST_S:
            self._measure(counters, now)
        if now - self._slow_at >= SLOW_FACTS_S:
            self._slow = (_users(), _on_battery(), count_gpus())
            self._slow_at = now
        memory = psutil.virtual_memory()
        users, on_battery, gpus = self._slow
        return LoadReport(
            host="",
            hostname="",
            load=round(self._load, 4),
            cpus=counters.cpus,
            memory_total=memory.total,
            memory_available=memory.available,
            gpus=gpus,
            disk_free=_disk_free(self._cache),
            users=users,
            on_battery=on_battery,
            task_load=round(self._own_load, 4),
        )

    def _measure(self, counters: Counters, now: float) -> None:
        tree = self._own.tree()
        total_s = counters.total_s - self._counters.total_s
        busy_s = max(0.0, counters.busy_s - self._counters.busy_s)
        own_s = min(busy_s, own_cpu_s(self._tree, tree, total_s / counters.cpus))
        weight = 1.0 if self._now is None else 1.0 - math.exp((self._now - now) / QUEUE_MEMORY_S)
        self._queue += (counters.runnable - self._queue) * weight
        own_queue = sum(1 for process in tree.values() if process.runnable and process.pid != os.getpid())
        self._load = foreign_load(busy_s, own_s, total_s, self._queue, counters.cpus, own_queue)
        self._own_load = own_s / total_s
        self._tree, self._counters, self._now = tree, counters, now


def read_counters() -> Counters:
    """Return the system's counters now."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Linux counts a guest's time in `user` as well.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    cpus = psutil.cpu_count() or 1
    runnable = _runnable()
    return Counters(total - idle, total, _load_average() if runnable is None else runnable, cpus)


def _runnable() -> float | None:
    try:
        text = Path("/proc/stat").read_text(encoding="ascii")
    except OSError:
        return None
    _, found, rest = text.partition("\nprocs_running ")
    return max(0.0, float(rest.split()[0]) - 1.0) if found else None


def _load_average() -> float:
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0


def _disk_free(folder: Path | None) -> int:
    """Return the bytes free where `folder` is, or will be."""
    while folder is not None:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            folder = folder.parent if folder.parent != folder else None
    return 0


def _users() -> int:
    try:
        return len({user.name for user in psutil.users()})
    except (OSError, RuntimeError, psutil.Error):
        return 0


def _on_battery() -> bool:
    ask = getattr(psutil, "sensors_battery", None)
    try:
        battery = ask() if ask is not None else None
    except (OSError, RuntimeError, ValueError, psutil.Error):
        return False
    return battery is not None and battery.power_plugged is False
