"""Start one command: find the program, give it its own process group and clean signals, and say why not.

Standard library only: it runs in the spawner's process, which is kept small.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
from collections.abc import Mapping, Sequence

NOT_FOUND = 127
"""What `sh` exits with when there is no such program."""
NOT_RUNNABLE = 126
"""What `sh` exits with when a program is there but cannot be run."""


@functools.cache
def ignored_signals() -> tuple[int, ...]:
    """Return the signals that this process ignores, as tasks must not; fixed at the first call."""
    return tuple(
        int(number) for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN
    )


class Unstartable(Exception):
    """A command that cannot be started, with the exit code `sh` would give it."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.text = text


def find_program(name: str, path: str) -> str:
    """Return the file to run for `name`, as `sh` searches `path`; raise `Unstartable`.

    Nothing is remembered between calls: checking a remembered answer would cost as much as looking.
    """
    if "/" in name:
        return name
    refused = False
    for folder in path.split(":"):
        candidate = f"{folder}/{name}" if folder else f"./{name}"
        if os.access(candidate, os.X_OK):
            if not os.path.isdir(candidate):
                return candidate
        elif not refused and os.path.isfile(candidate):
            refused = True
    if refused:
        raise Unstartable(NOT_RUNNABLE, f"{name}: permission denied")
    raise Unstartable(NOT_FOUND, f"{name}: not found")


def start(argv: Sequence[str], directory: str, env: Mapping[str, str], stdout: int, stderr: int) -> int:
    """Start `argv` in `directory` and return its pid; raise `Unstartable`.

    Its stdin is ours. Changes the working directory of this process, which must have no other thread.
    """
    if not argv or not argv[0]:
        raise Unstartable(NOT_FOUND, "the command is empty")
    try:
        os.chdir(directory)
    except OSError as error:
        raise Unstartable(NOT_RUNNABLE, f"{directory}: {_in_words(error)}") from error
    program = find_program(argv[0], env.get("PATH", os.defpath))
    try:
        try:
            return _spawn(program, argv, env, stdout, stderr)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without `#!`: every shell and execvp run it with sh.
            return _spawn("/bin/sh", ["sh", program, *argv[1:]], env, stdout, stderr)
    except OSError as error:
        raise _refusal(argv[0], program, error) from error
    except ValueError as error:  # a NUL inside an argument or a variable, '=' in a variable's name
        raise Unstartable(NOT_RUNNABLE, f"{argv[0]}: {error}") from error


def _spawn(program: str, argv: Sequence[str], env: Mapping[str, str], stdout: int, stderr: int) -> int:
    if not hasattr(os, "posix_spawn"):
        return spawn_without_posix_spawn(program, argv, env, stdout, stderr)
    return os.posix_spawn(
        program,
        tuple(argv),
        env,
        file_actions=((os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)),
        setpgroup=0,
        setsigmask=(),
        setsigdef=ignored_signals(),
    )


def spawn_without_posix_spawn(
    program: str, argv: Sequence[str], env: Mapping[str, str], stdout: int, stderr: int
) -> int:
    """Do the same through `subprocess`, on systems whose Python lacks `posix_spawn`."""
    import subprocess

    process = subprocess.Popen(
        list(argv), executable=program, env=env, stdout=stdout, stderr=stderr, process_group=0
    )
    process.returncode = 0  # we reap it ourselves; this keeps subprocess from trying
    return process.pid


def _refusal(name: str, program: str, error: OSError) -> Unstartable:
    if error.errno == errno.ENOENT:
        if os.path.exists(program):
            return Unstartable(NOT_FOUND, f"{name}: the interpreter it names is not found")
        return Unstartable(NOT_FOUND, f"{name}: not found")
    if error.errno == errno.EACCES and os.path.isdir(program):
        return Unstartable(NOT_RUNNABLE, f"{name}: is a directory")
    return Unstartable(NOT_RUNNABLE, f"{name}: {_in_words(error)}")


def _in_words(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
