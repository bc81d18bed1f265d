"""Ends the processes of local tasks when majordomo itself is killed and cannot. Linux only.

A shell waits on a pipe that only majordomo holds open. When that closes without a word, majordomo has been
killed, and the shell kills every process with majordomo's mark in its environment: all that local tasks have
started, in sessions of their own or not. A majordomo that ends by itself says so, and nothing is touched:
a daemon that a task has left behind on purpose stays, as it does under doit.

Elsewhere than on Linux there is no such list of processes, and what a local task runs goes on to its end.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import subprocess
import sys

from computefarm.sandbox.kin import LEASH

_GUARD = f"""
trap '' INT TERM HUP QUIT
read -r word && exit
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    for file in $(grep -lszx "{LEASH}=$1" /proc/[0-9]*/environ); do
        pid=${{file#/proc/}}
        kill -9 "${{pid%/environ}}" && found=1
    done
    [ "$found" ] || exit
done
"""


class Leash:
    """The guard's process, and the end of the pipe that it waits on."""

    def __init__(self) -> None:
        token = f"{os.getpid()}.{os.urandom(8).hex()}"
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "cf-leash", token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Without the mark, and out of reach of what the terminal sends to majordomo's group.
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
        self.pid = self._guard.pid
        os.environ[LEASH] = token
        # Else a child that was forked would keep the pipe open.
        os.register_at_fork(after_in_child=self._drop)
        atexit.register(self._release)

    def _drop(self) -> None:
        pipe, self._guard.stdin = self._guard.stdin, None
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()

    def _release(self) -> None:
        """Tell the guard that majordomo ends by itself."""
        if self._guard.stdin is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                os.write(self._guard.stdin.fileno(), b"done\n")
                self._guard.wait(1)


@functools.cache
def hold() -> Leash | None:
    """Have the local tasks of this process guarded from now on; None where that is not possible."""
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError):
        return Leash()
    return None
