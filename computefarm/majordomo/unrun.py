"""Records of the tasks that a run did not come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from doit.task import Task

from computefarm.messages import Outcome

from .graph import blocked_by, wanted
from .watching import Watching


def record_the_rest(
    tasks: Mapping[str, Task],
    nodes: Mapping[str, Any],
    selected: Sequence[str],
    watching: Watching,
    *,
    capability: Callable[[Task], str],
    why: str,
) -> None:
    """Give every task that did not come to its turn a record that says why."""
    failed = {name for name, node in nodes.items() if node.run_status == "failure"}
    blocked = blocked_by(tasks, failed)
    for name in wanted(tasks, list(selected)):
        if name in watching.recorded:
            continue
        unsettled = name in nodes and nodes[name].run_status in (None, "run")
        if name in blocked or unsettled:
            outcome = Outcome.BLOCKED if name in blocked else Outcome.CANCELLED
            reason = f"blocked by {blocked[name]}" if name in blocked else why
            watching.not_run(name, outcome, reason, capability(tasks[name]))
