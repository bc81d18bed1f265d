"""What the spawner adds to a task, against the C floor, xargs and ninja in the same run.

    python tests/benchmarks/bench_spawn.py [COUNT] [WIDTH]

Prints microseconds of wall per task and, for the spawner and its owner apart, of CPU. Asserts no time.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from computefarm.sandbox.spawner import Ended, Launch, Spawner

COMMAND = ("/bin/sh", "-c", "true")


def floor(folder: Path, count: int, width: int) -> tuple[float, float] | None:
    """Return microseconds per task: wall, CPU of the spawning processes."""
    if shutil.which("gcc") is None:
        return None
    program = folder / "floor"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).with_name("floor.c")], check=True)
    ran = subprocess.run([program, str(count), str(width), *COMMAND], check=True, capture_output=True)
    wall, cpu = ran.stdout.split()
    return float(wall), float(cpu)


def xargs(folder: Path, count: int, width: int) -> float | None:
    if shutil.which("xargs") is None:
        return None
    lines = "true\n" * count
    start = time.perf_counter()
    subprocess.run(["xargs", f"-P{width}", "-I{}", "/bin/sh", "-c", "{}"], input=lines.encode(), check=True)
    return (time.perf_counter() - start) * 1e6 / count


def ninja(folder: Path, count: int, width: int) -> float | None:
    if shutil.which("ninja") is None:
        return None
    rules = "rule r\n  command = true\n" + "".join(f"build t{n}: r\n" for n in range(count))
    (folder / "build.ninja").write_text(rules)
    start = time.perf_counter()
    subprocess.run(["ninja", f"-j{width}", "--quiet"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e6 / count


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process itself, without its children."""
    nanoseconds = Path(f"/proc/{pid}/schedstat")
    if nanoseconds.exists():
        return int(nanoseconds.read_text().split()[0]) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spawner(folder: Path, count: int, slots: int, ahead: int) -> tuple[float, float, float]:
    """Return microseconds per task with `ahead` tasks waiting: wall, CPU of the spawner, CPU of its owner."""
    env = tuple(
        {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}.items()
    )
    launched = ended = 0
    with Spawner(slots=slots) as spawn:
        poller = select.poll()
        poller.register(spawn, select.POLLIN)

        def launch() -> None:
            nonlocal launched
            launched += 1
            spawn.launch(Launch(launched, (COMMAND,), str(folder), env))

        launch()
        spawn.flush()
        while ended < 1:  # started up
            poller.poll()
            ended += sum(isinstance(event, Ended) for event in spawn.receive())
        launched = ended = 0
        theirs, ours, start = cpu_of(spawn.pid), time.process_time(), time.perf_counter()
        for _ in range(slots + ahead):
            launch()
        spawn.flush()
        while ended < count:
            poller.poll()
            for event in spawn.receive():
                if isinstance(event, Ended):
                    if event.exit_code != 0:
                        raise RuntimeError(event)
                    ended += 1
                    if launched < count:
                        launch()
            spawn.flush()
        wall = time.perf_counter() - start
        owner = time.process_time() - ours
        return tuple(value * 1e6 / count for value in (wall, cpu_of(spawn.pid) - theirs, owner))  # type: ignore[return-value]


def main(arguments: list[str]) -> None:
    count = int(arguments[0]) if arguments else 10_000
    width = int(arguments[1]) if len(arguments) > 1 else 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{count} x {' '.join(COMMAND)}, {width} in flight; microseconds per task")
        lowest = floor(folder, count, width)
        least = lowest[0] if lowest else None
        _show("C posix_spawn floor", least, least, f"cpu: {lowest[1]:.0f}" if lowest else "")
        _show("xargs", xargs(folder, count, width), least)
        _show("ninja", ninja(folder, count, width), least)
        for ahead in (0, width):
            wall, theirs, ours = spawner(folder, count, width, ahead)
            _show(f"spawner, {ahead} ahead", wall, least, f"cpu: spawner {theirs:.0f}, owner {ours:.0f}")


def _show(label: str, value: float | None, least: float | None, more: str = "") -> None:
    number = "not here" if value is None else f"{value:8.0f}"
    ratio = f"{value / least:5.2f} x floor" if value and least else ""
    print(f"  {label:22}{number}  {ratio}  {more}".rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
