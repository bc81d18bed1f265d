"""The environment of a task: what it may rely on, and nothing of the worker's own beyond PATH."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping


def task_environment(
    directory: str,
    action_env: Iterable[tuple[str, str]],
    facts: Mapping[str, str | int],
    *,
    path: str | None = None,
) -> tuple[tuple[str, str], ...]:
    """Return the whole environment of a task that runs in `directory`; later names win.

    `facts` become `CF_*` variables: `{"task": "build:lua"}` is `CF_TASK`.
    `path` is the worker's PATH unless given. HOME and TMPDIR are the directory itself: it exists already
    and goes with the task, so neither costs a system call.
    """
    env = {
        "PATH": os.environ.get("PATH", os.defpath) if path is None else path,
        "HOME": directory,
        "TMPDIR": directory,
        "LANG": "C.UTF-8",
    }
    for name, value in facts.items():
        env[name if name.startswith("CF_") else "CF_" + name.upper()] = str(value)
    env.update(action_env)
    return tuple(env.items())
