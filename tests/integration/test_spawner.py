"""The spawner on real processes: what it tells is true, and what it ends is gone."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from computefarm.sandbox import spawner as spawner_module
from computefarm.sandbox.kin import mark_of, parent_of, processes
from computefarm.sandbox.launching import spawn_without_posix_spawn
from computefarm.sandbox.program import EXPENDABLE
from computefarm.sandbox.resident import FILES
from computefarm.sandbox.spawner import Ended, Event, Launch, Spawner, SpawnerDied, Started, Text

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="child subreaper and /proc are Linux's"
)
ENV = (("PATH", os.environ["PATH"]), ("LANG", "C.UTF-8"))


class Owner:
    """What a worker's loop does with a spawner, with everything it has heard kept."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.spawner = Spawner(**options)
        self.folder = folder
        self.events: list[Event] = []
        self._poll = select.poll()
        self._poll.register(self.spawner, select.POLLIN)

    def launch(self, ticket: int, *commands: tuple[str, ...] | str, **options: object) -> None:
        argvs = tuple(("/bin/sh", "-c", c) if isinstance(c, str) else c for c in commands)
        arguments = {"directory": str(self.folder), "env": ENV} | options
        self.spawner.launch(Launch(ticket, argvs, **arguments))  # type: ignore[arg-type]
        self.spawner.flush()

    def until(self, done: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, f"nothing came in {seconds} s; so far {self.events[-20:]}"
            if self._poll.poll(left * 1000):
                self.events += self.spawner.receive()
            self.spawner.flush()

    def end_of(self, *tickets: int) -> Ended:
        """Wait for these tasks and return how the last one ended."""
        self.until(lambda: set(tickets) <= {e.ticket for e in self.events if isinstance(e, Ended)})
        return next(e for e in self.events if isinstance(e, Ended) and e.ticket == tickets[-1])

    def text(self, ticket: int, stream: int = 1) -> str:
        parts = [
            e.data for e in self.events if isinstance(e, Text) and (e.ticket, e.stream) == (ticket, stream)
        ]
        return b"".join(parts).decode()

    def run(self, *commands: tuple[str, ...] | str, **options: object) -> tuple[Ended, str, str]:
        ticket = 1 + max((e.ticket for e in self.events), default=0)
        self.launch(ticket, *commands, **options)
        return self.end_of(ticket), self.text(ticket), self.text(ticket, 2)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(tmp_path)
    yield owner
    owner.spawner.close()
    assert not owner.spawner.alive


def gone(pid: int) -> bool:
    """Tell whether a process is no more, or only a zombie that somebody else has not reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def wait_until(done: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        select.select([], [], [], 0.01)


def pids_in(folder: Path, count: int) -> list[int]:
    """Wait for `count` files `pid.*`, each holding a pid, and return the pids."""

    def read() -> list[int]:
        return [int(text) for file in folder.glob("pid.*") if (text := file.read_text().strip())]

    wait_until(lambda: len(read()) >= count, 10)
    return read()


# --- how a task ended ---------------------------------------------------------------------------------


def test_exit_code_is_kept(owner: Owner) -> None:
    ended, _, _ = owner.run("exit 3")

    assert (ended.exit_code, ended.signal, ended.command, ended.error) == (3, None, 0, "")
    assert not ended.timed_out
    assert not ended.halted


def test_signal_is_kept(owner: Owner) -> None:
    ended, _, _ = owner.run("kill -SEGV $$")

    assert (ended.exit_code, ended.signal) == (None, signal.SIGSEGV)


def test_stdout_and_stderr_apart_and_before_the_end(owner: Owner) -> None:
    ended, out, err = owner.run("echo one; echo two >&2; echo three; printf last")

    assert (out, err) == ("one\nthree\nlast", "two\n")
    assert isinstance(owner.events[0], Started)
    assert owner.events[-1] is ended


def test_commands_run_in_order_in_one_folder_and_stop_at_the_first_failure(owner: Owner) -> None:
    ended, out, _ = owner.run("echo a > f; pwd", ("cat", "f"), "exit 4", "echo never")

    assert out == f"{owner.folder}\na\n"
    assert (ended.exit_code, ended.command) == (4, 2)
    assert sum(isinstance(e, Started) for e in owner.events) == 1


def test_time_and_memory_are_measured(owner: Owner) -> None:
    burn = "import time\nx = bytearray(80_000_000)\nwhile time.process_time() < 0.2: pass"
    ended, _, _ = owner.run((sys.executable, "-c", burn))

    assert ended.cpu_s >= 0.2
    assert ended.run_s >= 0.2
    assert 80_000_000 < ended.peak_memory < 400_000_000


def test_arguments_arrive_unchanged(owner: Owner) -> None:
    arguments = ("a b", "new\nline", "ünï→😀", "", "$HOME `x` \"'", "\udcff")
    ended, out, _ = owner.run(
        (sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *arguments),
        env=(*ENV, ("PYTHONUTF8", "1")),
    )

    assert ended.exit_code == 0
    assert out == ascii(list(arguments)) + "\n"


def test_environment_is_exactly_what_was_given_and_the_mark(owner: Owner) -> None:
    _, out, _ = owner.run(("/usr/bin/env",), env=(("A", "1"), ("B", "x y\nz")))

    lines = out.splitlines()
    assert lines[:3] == ["A=1", "B=x y", "z"]
    assert [line.split("=")[0] for line in lines[3:]] == ["CF_TICKET"]


@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        (("no-such-program",), 127, "no-such-program: not found"),
        (("./absent",), 127, "./absent: not found"),
        (("plain.txt",), 126, "plain.txt: permission denied"),
        (("./plain.txt",), 126, "./plain.txt: permission denied"),
        (("./folder",), 126, "./folder: is a directory"),
        (("./lost",), 127, "./lost: the interpreter it names is not found"),
        (("",), 127, "the command is empty"),
        ((), 127, "the command is empty"),
        (("echo", "a\0b"), 126, "echo: embedded null byte"),
    ],
)
def test_what_cannot_be_started_says_why(owner: Owner, argv: tuple[str, ...], code: int, error: str) -> None:
    (owner.folder / "plain.txt").write_text("text")
    (owner.folder / "folder").mkdir()
    (owner.folder / "lost").write_text("#!/no/such/interpreter\n")
    (owner.folder / "lost").chmod(0o755)

    ended, _, _ = owner.run(argv, env=(("PATH", f"/usr/bin:/bin:{owner.folder}"),))

    assert (ended.exit_code, ended.error) == (code, error)
    assert not any(isinstance(e, Started) for e in owner.events)


def test_later_command_that_cannot_be_started(owner: Owner) -> None:
    ended, out, _ = owner.run("echo first", ("no-such-program",))

    assert (ended.exit_code, ended.command, out) == (127, 1, "first\n")


def test_missing_folder_is_named(owner: Owner) -> None:
    ended, _, _ = owner.run("true", directory=str(owner.folder / "absent"))

    assert (ended.exit_code, ended.error) == (126, f"{owner.folder}/absent: no such file or directory")


def test_script_without_interpreter_line_runs_with_sh(owner: Owner) -> None:
    (owner.folder / "script").write_text("echo $0 $1\n")
    (owner.folder / "script").chmod(0o755)

    assert owner.run(("./script", "x"))[1] == "./script x\n"


def test_path_is_the_tasks_own_and_changes_are_noticed(owner: Owner) -> None:
    first, second = owner.folder / "first", owner.folder / "second"
    for folder in (first, second):
        folder.mkdir()
    (second / "tool").write_text("#!/bin/sh\necho second\n")
    (second / "tool").chmod(0o755)
    env = (("PATH", f"first:{second}"),)
    assert owner.run(("tool",), env=env)[1] == "second\n"
    shutil.copy(second / "tool", first / "tool")
    (first / "tool").write_text("#!/bin/sh\necho first\n")

    assert owner.run(("tool",), env=env)[1] == "first\n"


@linux_only
def test_task_has_three_files_and_clean_signals(owner: Owner) -> None:
    script = "ls -x /proc/self/fd; grep -E 'SigBlk|SigIgn' /proc/self/status; readlink /proc/self/fd/0"
    for _ in range(3):  # also on pipes that another task has used
        ended, out, _ = owner.run(script)
        files, blocked, ignored, stdin = out.splitlines()
        assert ended.exit_code == 0
        assert files.split() == ["0", "1", "2", "3"]  # 3 is the folder that ls lists
        assert int(blocked.split()[1], 16) == 0
        assert int(ignored.split()[1], 16) & 0x7FFFFFFF == 0  # 32 and 33 are the C library's own
        assert stdin == "/dev/null"


def test_pipe_left_non_blocking_by_one_task_blocks_for_the_next(owner: Owner) -> None:
    owner.run((sys.executable, "-c", "import os; os.set_blocking(1, False); os.set_blocking(2, False)"))

    assert (
        owner.run((sys.executable, "-c", "import os; print(os.get_blocking(1), os.get_blocking(2))"))[1]
        == "True True\n"
    )


@linux_only
def test_memory_limit_is_enforced(owner: Owner) -> None:
    hog = "import time; time.sleep(.05); x = bytearray(2_000_000_000)"
    ended, _, err = owner.run((sys.executable, "-c", hog), memory_limit=1_000_000_000)

    assert (ended.exit_code, "MemoryError" in err) == (1, True)


def test_tasks_are_nice_to_other_sessions_too(tmp_path: Path) -> None:
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("NOT TESTED: this kernel does not group processes by session")
    owner = Owner(tmp_path, nice=7)
    try:
        assert owner.run(("cat", "/proc/self/autogroup"))[1].endswith(" nice 7\n")
    finally:
        owner.spawner.close()


def test_nice_is_inherited(tmp_path: Path) -> None:
    owner = Owner(tmp_path, nice=7)
    try:
        assert owner.run(("nice",))[1] == f"{os.nice(0) + 7}\n"
    finally:
        owner.spawner.close()


def test_start_without_posix_spawn(tmp_path: Path) -> None:
    read, write = os.pipe()
    pid = spawn_without_posix_spawn("/bin/sh", ["sh", "-c", "echo $A; exit 5"], {"A": "b"}, write, write)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(read) as file:
        assert (file.read(), os.waitstatus_to_exitcode(status)) == ("b\n", 5)


# --- nothing is left ----------------------------------------------------------------------------------


def test_background_child_does_not_outlive_the_task(owner: Owner) -> None:
    ended, _, _ = owner.run("sleep 60 & echo $! > pid.a; exit 6")

    assert ended.exit_code == 6
    assert ended.run_s < 5
    assert gone(*pids_in(owner.folder, 1))


@linux_only
@pytest.mark.parametrize("clear", ["", "env -i PATH=$PATH "])
def test_daemonised_grandchildren_do_not_outlive_the_task(owner: Owner, clear: str) -> None:
    daemon = f"setsid {clear}setsid -f sh -c 'echo $$ > pid.a; setsid sh -c \"echo \\$\\$ > pid.b; sleep 60\" & sleep 60'"
    owner.launch(1, f"{daemon} >/dev/null 2>&1; while [ ! -s pid.b ]; do sleep 0.01; done")
    ended = owner.end_of(1)
    pids = pids_in(owner.folder, 2)

    assert ended.exit_code == 0
    if (
        clear
    ):  # nameless: ended with the last task that may own it, but not necessarily before its end is told
        wait_until(lambda: all(map(gone, pids)), 2)
    assert all(map(gone, pids))


@linux_only
def test_daemon_of_one_task_lives_while_its_task_does(owner: Owner) -> None:
    os.mkfifo(owner.folder / "gate")
    owner.launch(
        1, "setsid -f sh -c 'echo $$ > pid.a; sleep 60' >/dev/null 2>&1; read x < gate; kill -0 $(cat pid.a)"
    )
    (daemon,) = pids_in(owner.folder, 1)
    owner.launch(2, "true")  # its end makes the spawner look around
    owner.end_of(2)
    assert not gone(daemon)
    with (owner.folder / "gate").open("w") as gate:
        gate.write("go\n")

    assert owner.end_of(1).exit_code == 0
    assert gone(daemon)


def test_halt_ends_the_whole_group(owner: Owner) -> None:
    owner.launch(1, "sh -c 'echo $$ > pid.a; sleep 60' & echo $$ > pid.b; sleep 60")
    pids = pids_in(owner.folder, 2)
    owner.spawner.halt(1)
    ended = owner.end_of(1)

    assert (ended.halted, ended.timed_out, ended.signal) == (True, False, signal.SIGTERM)
    assert all(map(gone, pids))


def test_child_has_the_grace_even_when_its_shell_is_gone(owner: Owner) -> None:
    script = "import signal, time, os, sys\n"
    script += "signal.signal(15, lambda *_: (time.sleep(.3), open('saved', 'w').write('x'), os._exit(0)))\n"
    script += "open('pid.a', 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    (owner.folder / "child.py").write_text(script)
    owner.launch(1, f"{sys.executable} child.py; true")
    pids = pids_in(owner.folder, 1)
    owner.spawner.halt(1, 10)
    ended = owner.end_of(1)

    assert ended.signal == signal.SIGTERM
    assert ended.run_s < 8
    if sys.platform.startswith("linux"):
        assert (owner.folder / "saved").exists()
    assert gone(*pids)


def test_timeout_ends_a_task_that_ignores_term(owner: Owner) -> None:
    ended, _, _ = owner.run("trap '' TERM; while :; do sleep 0.05; done", timeout_s=0.2, grace_s=0.3)

    assert (ended.timed_out, ended.halted, ended.signal) == (True, False, signal.SIGKILL)
    assert 0.5 <= ended.run_s < 1.0


def test_timeout_is_told_even_when_the_task_exits_zero_on_term(owner: Owner) -> None:
    ended, _, _ = owner.run("trap 'exit 0' TERM; while :; do sleep 0.01; done", "echo never", timeout_s=0.2)

    assert (ended.timed_out, ended.exit_code, ended.command) == (True, 0, 0)


def test_timeout_counts_all_commands(owner: Owner) -> None:
    ended, _, _ = owner.run("sleep 0.3", "sleep 30", timeout_s=0.6, grace_s=0)

    assert (ended.timed_out, ended.command) == (True, 1)
    assert ended.run_s < 5


def test_stopped_task_can_be_ended(owner: Owner) -> None:
    owner.launch(1, "echo $$ > pid.a; kill -STOP $$; sleep 60")
    pids_in(owner.folder, 1)
    owner.spawner.halt(1, 5)

    assert owner.end_of(1).run_s < 4


STUBBORN = {
    "ignores TERM": "trap '' TERM; touch pid.ready; while :; do sleep 0.05; done",
    "nohup": "nohup sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' >/dev/null 2>&1 & touch pid.ready; wait",
    "a session of its own": "setsid sh -c 'trap \"\" TERM; touch pid.ready; while :; do sleep 0.05; done' & wait",
    "a daemon": "setsid -f sh -c 'trap \"\" TERM; touch pid.ready; sleep 77' >/dev/null 2>&1; sleep 60",
    "stopped": "sh -c 'trap \"\" TERM; touch pid.ready; kill -STOP $$' & wait",
    "stopped daemon": "setsid -f sh -c 'touch pid.ready; kill -STOP $$; sleep 77' >/dev/null 2>&1; sleep 60",
    "no environment": "exec env -i PATH=$PATH setsid -w sh -c 'trap \"\" TERM; touch pid.ready; sleep 77; :'",
    "forks": f"exec {sys.executable} bomb.py",
}
BOMB = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def grow(depth):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if depth:
                grow(depth - 1)
            open('pid.ready', 'w').close()
            while True:  # and somebody new all the time
                if os.fork() == 0:
                    time.sleep(0.2)
                    os._exit(0)
                try:
                    os.wait()
                except ChildProcessError:
                    pass
grow(3)
time.sleep(60)
"""


def in_folder(folder: Path, owner: Owner) -> list[int]:
    """Return the tasks' processes in `folder`, whatever they have done to their environment."""
    found = []
    for pid in processes():
        try:
            if (
                pid != owner.spawner.pid
                and os.path.realpath(f"/proc/{pid}/cwd") == str(folder.resolve())
                and not gone(pid)
            ):
                found.append(pid)
        except OSError:
            continue
    return found


@linux_only
@pytest.mark.parametrize("script", STUBBORN.values(), ids=list(STUBBORN))
def test_stubborn_processes_are_gone_two_seconds_after_the_halt(owner: Owner, script: str) -> None:
    (owner.folder / "bomb.py").write_text(BOMB)
    elsewhere = owner.folder / "older"
    elsewhere.mkdir()
    owner.launch(1, "sleep 60", directory=str(elsewhere))  # what is nobody's cannot be blamed on this one
    owner.launch(2, script)
    wait_until(lambda: (owner.folder / "pid.ready").exists(), 10)
    assert in_folder(owner.folder, owner)
    owner.spawner.halt(2)
    asked_at = time.monotonic()
    ended = owner.end_of(2)
    took_s = time.monotonic() - asked_at

    assert in_folder(owner.folder, owner) == []
    assert (ended.halted, ended.error) == (True, "")
    assert took_s < 2
    assert in_folder(elsewhere, owner)


def test_halt_of_unknown_and_ended_tasks_is_harmless(owner: Owner) -> None:
    owner.run("true")
    owner.spawner.halt(1)
    owner.spawner.halt(99)

    assert owner.run("true")[0].exit_code == 0


def test_interrupt_from_the_terminal_reaches_neither_spawner_nor_task(owner: Owner) -> None:
    owner.launch(1, "echo $$ > pid.a; sleep 0.3; echo done")
    (pid,) = pids_in(owner.folder, 1)
    os.kill(owner.spawner.pid, signal.SIGINT)
    os.kill(owner.spawner.pid, signal.SIGTERM)

    assert os.getsid(pid) == os.getsid(owner.spawner.pid) != os.getsid(0)
    assert owner.end_of(1).exit_code == 0


def test_close_kills_everything(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.launch(1, "sh -c 'trap \"\" TERM; echo $$ > pid.a; sleep 60' & echo $$ > pid.b; sleep 60")
    owner.launch(2, "setsid sh -c 'echo $$ > pid.c; sleep 60'; true")
    pids = pids_in(tmp_path, 3)
    owner.spawner.close()
    owner.spawner.close()

    if not sys.platform.startswith("linux"):
        pids = pids[:2]
    assert all(map(gone, pids))
    assert not owner.spawner.alive


OWNER = """
import sys, time, os
from computefarm.sandbox.spawner import Launch, Spawner
spawner = Spawner()
env = tuple(os.environ.items())
for ticket in range(3):
    script = f"setsid -f sh -c 'echo $$ > pid.d{ticket}; sleep 60'; sleep 60 & echo $! > pid.b{ticket}; echo $$ > pid.m{ticket}; sleep 60"
    spawner.launch(Launch(ticket, (("sh", "-c", script),), sys.argv[1], env))
spawner.flush()
print(spawner.pid, flush=True)
time.sleep(60)
"""


@linux_only
def test_owner_killed_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        spawner = int(process.stdout.readline())
        pids = [*pids_in(tmp_path, 9), spawner]
        assert not any(map(gone, pids))
        process.kill()
    wait_until(lambda: all(map(gone, pids)), 2)


@linux_only
def test_spawner_killed_is_noticed_and_its_tasks_are_ended(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.launch(
        7,
        "setsid -f sh -c 'echo $$ > pid.d; sleep 60'; sleep 60 & echo $! > pid.b; echo $$ > pid.m; sleep 60",
    )
    owner.launch(8, "env -i PATH=$PATH sh -c 'echo $$ > pid.e; sleep 60'")
    owner.until(lambda: sum(isinstance(e, Started) for e in owner.events) == 2)
    pids = pids_in(tmp_path, 4)
    os.kill(owner.spawner.pid, signal.SIGKILL)

    with pytest.raises(SpawnerDied) as died:
        owner.until(lambda: False, 5)
    assert died.value.tickets == (7, 8)
    wait_until(lambda: all(map(gone, pids)), 2)
    assert not owner.spawner.alive
    owner.spawner.launch(Launch(9, (("true",),), "/", ENV))
    owner.spawner.flush()  # says nothing; whoever receives next is told
    with pytest.raises(SpawnerDied):
        owner.spawner.receive()


NO_REAPER = "import computefarm.sandbox.kin as kin\nkin.become_subreaper = lambda: False\n"
NO_LISTING = """
import os
def refuse(path, *rest, real=os.open):
    if str(path).endswith("/children"):
        raise FileNotFoundError(path)
    return real(path, *rest)
os.open = refuse
"""


@pytest.fixture(params=[NO_REAPER, NO_LISTING], ids=["no-reaper", "no-listing"])
def poor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Owner]:
    """A spawner on a system that shows it less: macOS, or a kernel without the list of children."""
    before, import_, after = spawner_module._BOOT.partition("from computefarm.sandbox.resident")
    monkeypatch.setattr(spawner_module, "_BOOT", before + request.param + import_ + after)
    owner = Owner(tmp_path)
    yield owner
    owner.spawner.close()
    assert not owner.spawner.alive


def test_poor_system_tells_the_truth_too(poor: Owner) -> None:
    ended, out, _ = poor.run("sleep 60 & echo $! > pid.a; echo hello", "exit 7")

    assert (ended.exit_code, ended.command, out) == (7, 1, "hello\n")
    wait_until(lambda: gone(*pids_in(poor.folder, 1)), 2)


def test_poor_system_times_out_and_halts(poor: Owner) -> None:
    poor.launch(1, "trap '' TERM; echo $$ > pid.a; while :; do sleep 0.05; done", timeout_s=0.2, grace_s=0.2)
    poor.launch(2, "sh -c 'echo $$ > pid.b; sleep 60'; true")
    pids = pids_in(poor.folder, 2)
    poor.spawner.halt(2)

    assert poor.end_of(1).timed_out
    assert poor.end_of(2).halted
    wait_until(lambda: all(map(gone, pids)), 2)


def test_poor_system_closes(poor: Owner) -> None:
    poor.launch(1, "sleep 60 & echo $! > pid.a; echo $$ > pid.b; sleep 60")
    pids = pids_in(poor.folder, 2)
    poor.spawner.close()

    wait_until(lambda: all(map(gone, pids)), 2)


@linux_only
@pytest.mark.parametrize("poor", [NO_LISTING], indirect=True)
def test_daemons_are_found_without_the_list_when_the_spawner_is_idle(poor: Owner) -> None:
    poor.run(
        "setsid -f sh -c 'echo $$ > pid.a; sleep 60' >/dev/null 2>&1; while [ ! -s pid.a ]; do sleep 0.01; done"
    )

    assert gone(*pids_in(poor.folder, 1))


def test_many_on_a_poor_system(poor: Owner) -> None:
    for ticket in range(200):
        poor.launch(ticket, f"echo {ticket}")
    poor.end_of(*range(200))

    assert all(poor.text(ticket) == f"{ticket}\n" for ticket in range(200))


# --- floods, crowds and length ------------------------------------------------------------------------


def test_flood_waits_for_a_stalled_owner_and_loses_nothing(owner: Owner) -> None:
    size = 30_000_000
    owner.launch(1, f"head -c {size} /dev/zero; echo end >&2")
    owner.until(lambda: owner.events)
    before = rss(owner.spawner.pid)
    owner.launch(2, "sleep 60", timeout_s=0.1, grace_s=0)
    owner.launch(3, "echo $$ > pid.a; sleep 60")
    (pid,) = pids_in(owner.folder, 1)
    owner.spawner.halt(3)
    owner.spawner.flush()
    wait_until(lambda: gone(pid), 5)  # it obeys although nobody reads
    assert rss(owner.spawner.pid) - before < 32_000_000

    assert owner.end_of(2, 3, 1).exit_code == 0
    assert sum(len(e.data) for e in owner.events if isinstance(e, Text) and e.stream == 1) == size
    assert max(len(e.data) for e in owner.events if isinstance(e, Text)) <= 65536
    assert owner.text(1, 2) == "end\n"


def test_endless_flood_is_halted(owner: Owner) -> None:
    owner.launch(1, ("yes",))
    owner.until(lambda: len(owner.events) > 50)
    owner.spawner.halt(1)

    assert owner.end_of(1).signal == signal.SIGTERM


def test_quiet_task_is_heard_beside_a_flood(owner: Owner) -> None:
    for ticket in range(1, 5):
        owner.launch(ticket, ("yes",))
    owner.until(lambda: len(owner.events) > 50)
    owner.launch(9, "echo hello")
    owner.end_of(9)

    assert owner.text(9) == "hello\n"


def test_two_hundred_at_once(owner: Owner) -> None:
    os.mkfifo(owner.folder / "gate")
    for ticket in range(200):
        owner.launch(ticket, f"read x < gate; echo {ticket}; exit {ticket % 100}")
    owner.until(lambda: sum(isinstance(e, Started) for e in owner.events) == 200)
    # Opened for both, so that every reader finds a writer for as long as we want.
    gate = os.open(owner.folder / "gate", os.O_RDWR)
    os.write(gate, b"\n" * 4000)
    try:
        owner.end_of(*range(200))
    finally:
        os.close(gate)

    codes = {e.ticket: e.exit_code for e in owner.events if isinstance(e, Ended)}
    assert codes == {ticket: ticket % 100 for ticket in range(200)}
    assert all(owner.text(ticket) == f"{ticket}\n" for ticket in range(200))


def test_slots_hold_tasks_back_in_order(tmp_path: Path) -> None:
    owner = Owner(tmp_path, slots=2)
    try:
        for ticket in range(1, 7):
            owner.launch(
                ticket, f"ls running.* 2>/dev/null; : > running.{ticket}; sleep 0.05; rm running.{ticket}"
            )
        owner.launch(7, "echo never")
        owner.spawner.halt(7)
        ended = owner.end_of(1, 2, 3, 4, 5, 6, 7)

        assert (ended.halted, ended.exit_code, ended.signal) == (True, None, None)
        assert [e.ticket for e in owner.events if isinstance(e, Started)] == [1, 2, 3, 4, 5, 6]
        assert max(owner.text(ticket).count("\n") for ticket in range(1, 7)) <= 1
    finally:
        owner.spawner.close()


def test_recall_withdraws_only_what_still_waits(tmp_path: Path) -> None:
    owner = Owner(tmp_path, slots=1)
    try:
        os.mkfifo(tmp_path / "gate")
        owner.launch(1, "read x < gate; exit 3")
        owner.launch(2, "echo never")
        owner.spawner.recall(1)
        owner.spawner.recall(2)
        owner.spawner.flush()
        withdrawn = owner.end_of(2)
        with (tmp_path / "gate").open("w") as gate:
            gate.write("go\n")

        assert (withdrawn.halted, withdrawn.exit_code, withdrawn.signal) == (True, None, None)
        assert (owner.end_of(1).exit_code, owner.end_of(1).halted) == (3, False)
        assert [e.ticket for e in owner.events if isinstance(e, Started)] == [1]
    finally:
        owner.spawner.close()


def test_long_queue_of_what_cannot_be_started(tmp_path: Path) -> None:
    owner = Owner(tmp_path, slots=1)
    try:
        for ticket in range(2000):
            owner.spawner.launch(Launch(ticket, (("no-such-program",),), str(tmp_path), ENV))
        owner.spawner.flush()

        assert owner.end_of(*range(2000)).exit_code == 127
    finally:
        owner.spawner.close()


def test_same_ticket_twice_and_no_command_are_refused(owner: Owner) -> None:
    owner.launch(1, "sleep 60")
    with pytest.raises(ValueError, match="ticket 1 is in flight already"):
        owner.launch(1, "true")
    with pytest.raises(ValueError, match="ticket 2 has no command"):
        owner.launch(2)


def rss(pid: int) -> int:
    path = Path(f"/proc/{pid}/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0


def open_files(pid: int) -> int:
    path = Path(f"/proc/{pid}/fd")
    return len(list(path.iterdir())) if path.exists() else 0


def test_thousands_of_tasks_without_growth(owner: Owner) -> None:
    def many(first: int, count: int) -> None:
        owner.events.clear()
        for start in range(first, first + count, 20):
            for ticket in range(start, start + 20):
                owner.launch(ticket, "sleep 60 & echo x" if ticket % 20 == 0 else ("true",))
            owner.end_of(*range(start, start + 20))
        assert all(e.exit_code == 0 for e in owner.events if isinstance(e, Ended))

    many(0, 400)
    memory = rss(owner.spawner.pid)
    many(400, 2000)

    assert open_files(owner.spawner.pid) <= 8 + FILES
    assert rss(owner.spawner.pid) - memory < 1_000_000
    assert [pid for pid in processes() if parent_of(pid) == owner.spawner.pid] == []
    assert owner.spawner.running == {}


@linux_only
def test_mark_names_the_ticket(owner: Owner) -> None:
    owner.launch(5, "echo $$ > pid.a; echo $CF_TICKET; sleep 60")
    (pid,) = pids_in(owner.folder, 1)
    owner.until(lambda: owner.text(5))
    token, _, ticket = owner.text(5).strip().partition(":")

    assert ticket == "5"
    assert mark_of(pid, token) == 5
    assert mark_of(pid, "another") is None


@linux_only
def test_memory_is_taken_from_tasks_before_their_owner(owner: Owner) -> None:
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    _, out, _ = owner.run("cat /proc/self/oom_score_adj")

    assert int(out) == max(ours, EXPENDABLE)
