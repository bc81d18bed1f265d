"""What must hold between any two calls of a task manager, whatever has happened to it."""

from __future__ import annotations

from collections import Counter

from computefarm.core.manager import TaskManager
from computefarm.core.state import Attempt, TaskState


def check(manager: TaskManager) -> None:
    """Raise `AssertionError` when the manager's tables contradict each other."""
    tables = manager._tables
    live: dict[int, Attempt] = {}
    for worker in tables.workers.values():
        for attempt in worker.attempts():
            assert attempt.key not in live, f"task {attempt.key} has two live attempts"
            live[attempt.key] = attempt
            assert attempt.worker == worker.name
        width = sum(attempt.width for attempt in worker.running.values())
        assert worker.used == width, f"{worker.name} counts {worker.used} slots, {width} are taken"
        # One that was sent ahead may begin before an older one is ready: our books are ahead of it then.
        placed = sum(a.width for a in worker.running.values() if not (a.adopted or a.begun))
        assert placed <= worker.slots, f"{worker.name} was given {placed} of {worker.slots} slots"
        assert worker.gpus_used == sum(attempt.need.gpus for attempt in worker.running.values())
        assert not worker.backlog or worker.used > 0, f"{worker.name} idles with work sent ahead"
        assert (worker.name in tables.free) == (worker.able and worker.free > 0)
        peer = tables.peers.get(worker.peer)
        assert not worker.peer or (peer is not None and peer.worker == worker.name)
    for task in tables.tasks.values():
        attempt_or_none = live.pop(task.key, None)
        assert (task.state is TaskState.RUNNING) == (attempt_or_none is not None), f"task {task.key}"
        assert task.live is attempt_or_none
        assert task.session.tasks[task.number] == task.key
        assert (task.done is not None) == (task.state is TaskState.ENDED)
        awaits_inputs = task.lacking > 0 and task.live is None
        places = [task.queued, task.looking, awaits_inputs, bool(task.leader)]
        if task.state is TaskState.WAITING:
            assert sum(places) == 1, f"task {task.key} waits nowhere or twice: {places}"
        else:
            assert places == [False] * 4, f"task {task.key} waits and does not: {places}"
        for key in task.followers or ():
            assert tables.tasks[key].leader == task.key
        if task.leader:
            assert task.key in (tables.tasks[task.leader].followers or ())
    assert not live, f"attempts of unknown tasks: {sorted(live)}"
    _check_counts(manager)


def _check_counts(manager: TaskManager) -> None:
    tables = manager._tables
    tasks = tables.tasks.values()
    running = Counter(task.session.name for task in tasks if task.state is TaskState.RUNNING)
    unended = Counter(task.session.name for task in tasks if task.state is not TaskState.ENDED)
    for session in tables.sessions.values():
        assert session.running == running[session.name]
        assert session.unended == unended[session.name]
    queued = Counter((task.queue.number, task.session.name) for task in tasks if task.queued)
    groups = {
        (queue.number, group.session.name): group.waiting
        for queue in tables.queues.busy.values()
        for group in queue.groups.values()
    }
    assert groups == dict(queued)
    assert tables.queues.waiting == sum(queued.values())
    charged = Counter(worker.host.host for worker in tables.workers.values() for _ in worker.running.values())
    for host in tables.hosts.values():
        ledger = host.ledger
        assert ledger.live == charged[host.host], f"{ledger.live} charges on {host.host}"
        if not ledger.live:
            assert (ledger.since, ledger.sampled, ledger.memory, ledger.memory_since) == (0.0, 0.0, 0, 0)
    for digest, key in tables.by_action.items():
        assert tables.tasks[key].digest == digest
        assert tables.tasks[key].state is not TaskState.ENDED
    asked = manager._wants._wanted
    lacking = Counter(key for wanted in asked.values() for key in wanted.tasks)
    assert dict(lacking) == {task.key: task.lacking for task in tasks if task.lacking}
