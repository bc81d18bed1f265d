"""GPUs of this machine that kernels can run on: which there are, or in one line why there is none.

    python -m computefarm.workers.recompute.devices      # prints what `find` reads

Looking loads the NVIDIA driver, so a process that lives on has it done by another one (`find`). Which GPU a
process computes on is decided when it is started, by the `CUDA_VISIBLE_DEVICES` that it is given (`plan`):
then it sees that one alone, as number 0.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
LIMITS: Final = ("CF_RECOMPUTE_GPUS", "CHIAPOS_MAX_CUDA_DEVICES", "CHIAPOS_MAX_GPU_DEVICES")
"""How many GPUs may be used, the first that is set counts; 0 means none."""
SIMULATOR: Final = "NUMBA_ENABLE_CUDASIM"
SIMULATE: Final = "CF_RECOMPUTE_SIMULATOR"
"""Must be 1 as well before the simulator is taken for a GPU: it is some 100 000 times slower than one."""
SIMULATED_MEMORY: Final = 4 << 30
CHOICE: Final = (
    VISIBLE, "CUDA_DEVICE_ORDER", *LIMITS, SIMULATOR, SIMULATE, "NUMBA_CUDA_DRIVER",
)  # fmt: skip
"""The variables by which a machine's owner says which GPUs may be used."""
DESCRIBED: Final = "CF_RECOMPUTE_GPU"
"""Tells a process what the GPU that it sees is called outside."""
MODULE: Final = "computefarm.workers.recompute.devices"
LOOK_S: Final = 60.0
CONTEXT: Final = 512 << 20
"""Bytes of GPU memory that each process takes before it computes anything, at the most."""
PER_GPU: Final = ((8 << 30, 2), (16 << 30, 4), (1 << 62, 8))
"""Up to how much memory a GPU is shared by how many processes; more would wait for each other."""


class Device(msgspec.Struct, frozen=True):
    """One GPU."""

    index: int
    """Its number, as in `CUDA_VISIBLE_DEVICES`."""
    name: str
    uuid: str
    total: int
    """Bytes of memory."""
    free: int
    """Bytes that nobody used when it was looked at."""
    selector: str
    """What to set `CUDA_VISIBLE_DEVICES` to for a process that shall see this one alone."""
    simulated: bool = False

    @property
    def label(self) -> str:
        """Return what answers and logs call it, as `cuda:0 NVIDIA H100 GPU-12ab…`."""
        return f"cuda:{self.index} {self.name} {self.uuid}"


class Found(msgspec.Struct, frozen=True):
    """What a look has shown."""

    devices: tuple[Device, ...] = ()
    reason: str = ""
    """One line: why there is none; or which were left out."""


class Place(msgspec.Struct, frozen=True):
    """Where the process of one slot computes."""

    device: Device | None = None
    """None: on the CPU alone."""
    budget: int = 0
    """Bytes of the GPU that the requests of all its processes may use together."""

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that keep the process to its GPU, or away from all of them."""
        if self.device is None:
            return {VISIBLE: ""}
        return {VISIBLE: self.device.selector, DESCRIBED: msgspec.json.encode(self.device).decode()}


def find(environ: Mapping[str, str], *, timeout_s: float = LOOK_S) -> Found:
    """Have another process look; never raises for what a machine lacks."""
    reason = _hidden(environ) or _absent(environ)
    if reason:
        return Found(reason=reason)
    command = (sys.executable, "-m", MODULE)
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Found(reason=f"the NVIDIA driver has not answered within {timeout_s:g} s (try nvidia-smi)")
    except OSError as error:
        return Found(reason=f"{command[0]} cannot be started: {error.strerror}")
    try:
        return msgspec.json.decode(done.stdout, type=Found)
    except msgspec.MsgspecError:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        return Found(reason=f"looking for GPUs ended with code {done.returncode}: {said[-1][:300]}")


def look(environ: Mapping[str, str]) -> Found:
    """Look in this process, which has the driver loaded from then on."""
    reason = _hidden(environ) or _absent(environ) or _silent(environ)
    if reason:
        return Found(reason=reason)
    try:
        cuda: Any = importlib.import_module("numba.cuda")
    except Exception as error:  # numba and NVIDIA's package for it must fit each other
        return Found(reason=f"numba without CUDA support: {_line(error)}")
    if environ.get(SIMULATOR) == "1":
        return Found((_simulated(),))
    try:
        if not cuda.is_available():
            why = cuda.cuda_error() or "the CUDA compiler is missing (pip install 'computefarm[gpu]')"
            return Found(reason=f"CUDA cannot be used: {_line(why)}")
        found = [_device(n, cuda, environ) for n in range(len(cuda.gpus))]
    except Exception as error:  # whatever a driver has to say
        return Found(reason=f"CUDA cannot be used: {_line(error)}")
    variable, most = _limit(environ)
    left_out = f"{len(found) - most} of {len(found)} GPUs left out ({variable}={most})"
    return Found(tuple(found[:most]), left_out if len(found) > most else "")


def own(environ: Mapping[str, str]) -> Device | None:
    """Return the GPU that this process was started for; None for a process of the CPU."""
    try:
        return msgspec.json.decode(environ.get(DESCRIBED, ""), type=Device)
    except msgspec.MsgspecError:
        return None


def plan(devices: Sequence[Device], slots: int) -> list[Place]:
    """Spread slots over GPUs; those that a GPU has no use for compute on the CPU.

    The first slots get GPUs, in turn, so that one slot on a machine with several GPUs uses the first one.
    """
    rooms = {device: _processes(device) for device in devices}
    given: list[Device] = []
    while len(given) < slots and any(rooms.values()):
        for device in [device for device in devices if rooms[device]][: slots - len(given)]:
            rooms[device] -= 1
            given.append(device)
    budgets = {device: budget(device, given.count(device)) for device in devices}
    return [Place(device, budgets[device]) for device in given] + [Place()] * (slots - len(given))


def budget(device: Device, processes: int) -> int:
    """Return how many bytes requests may use on a GPU that so many processes share."""
    return max(0, int(min(device.free, device.total) * 0.95) - processes * CONTEXT)


def _processes(device: Device) -> int:
    """Return how many processes may share a GPU: a quarter of its memory is for them, at the most."""
    wanted = next(count for below, count in PER_GPU if device.total < below)
    return max(1, min(wanted, device.free // 4 // CONTEXT))


def _hidden(environ: Mapping[str, str]) -> str:
    """Return which variable says that no GPU is to be used; nothing when none does."""
    visible = environ.get(VISIBLE)
    if visible is not None and not _entries(visible):
        return f"{VISIBLE}={visible!r} hides every GPU"
    name, most = _limit(environ)
    if most < 0:
        return f"{name}={environ[name]!r} is not a number of GPUs"
    if most == 0:
        return f"{name}={environ[name]} says to use no GPU"
    if environ.get(SIMULATOR) == "1" and environ.get(SIMULATE) != "1":
        return f"{SIMULATOR}=1: a GPU that numba simulates is of use for tests only ({SIMULATE}=1 allows it)"
    return ""


def _limit(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return which variable limits the number of GPUs, and to how many; -1 when that is no number."""
    for name in LIMITS:
        text = environ.get(name, "").strip()
        if text:
            return name, int(text) if re.fullmatch("[0-9]{1,4}", text) else -1
    return "", 1 << 16


def _entries(visible: str) -> list[str]:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES names: those up to the first that is none."""
    entries: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry in entries or not re.fullmatch(r"[0-9]+|GPU-[0-9a-f-]+|MIG-\S+", entry):
            break
        entries.append(entry)
    return entries


def _absent(environ: Mapping[str, str]) -> str:
    """Return what is not installed, without starting it."""
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed (pip install 'computefarm[recompute]')"
    if environ.get(SIMULATOR) == "1":
        return ""
    if sys.platform == "darwin":
        return "there is no NVIDIA driver for macOS"
    return "" if _driver(environ) is not None else "no NVIDIA driver (libcuda.so.1 is not there)"


def _driver(environ: Mapping[str, str]) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(environ.get("NUMBA_CUDA_DRIVER") or "libcuda.so.1")
    except OSError:
        return None


def _silent(environ: Mapping[str, str]) -> str:
    """Return what keeps the driver from working, by starting it in this process."""
    if environ.get(SIMULATOR) == "1":
        return ""
    try:
        driver = _driver(environ)
        code = int(driver.cuInit(0)) if driver is not None else _NO_DEVICE
    except AttributeError:
        return "what is installed as libcuda.so.1 is not the NVIDIA driver"
    if code == _NO_DEVICE:
        return "the NVIDIA driver finds no GPU"
    return f"the NVIDIA driver does not start: error {code} (try nvidia-smi)" if code else ""


_NO_DEVICE: Final = 100


def _device(number: int, cuda: Any, environ: Mapping[str, str]) -> Device:
    entries = _entries(environ.get(VISIBLE, ""))
    device = cuda.gpus[number]
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    uuid = str(device.uuid)
    with device:
        memory = cuda.current_context().get_memory_info()
    selector = entries[number] if number < len(entries) else uuid
    return Device(
        index=int(selector) if selector.isdigit() else number,
        name=" ".join(name.split()),
        # CUDA calls a part of a GPU by the name of the whole.
        uuid=selector if selector.startswith("MIG-") else uuid,
        total=int(memory.total),
        free=int(memory.free),
        selector=selector,
    )


def _simulated() -> Device:
    name = "CUDA simulator of numba (no GPU)"
    return Device(0, name, "simulated", SIMULATED_MEMORY, SIMULATED_MEMORY, "0", simulated=True)


def _line(said: object) -> str:
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return (lines[0] if lines else type(said).__name__)[:300]


def main() -> int:
    """Print what there is, for `find`."""
    # What libraries print must not come between.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        out.write(msgspec.json.encode(look(os.environ)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
