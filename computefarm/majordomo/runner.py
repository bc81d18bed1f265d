"""doit's runner, asynchronous: thousands of farm tasks in flight, one thread that decides.

The dispatcher's protocol (`doit.control.TaskDispatcher.generator`), as far as it is used here:
`send(x)` takes None or a node whose state has just changed, and yields a node to try, or "hold on", or ends.
A node that is not run is sent back at once, also one that only waits for its setup tasks;
a node that has run may be sent back at any later time.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from doit.exceptions import InvalidDodoFile, InvalidTask
from doit.task import Task

from computefarm.backends.base import Backend, Broken, Event
from computefarm.errors import FarmError
from computefarm.messages import Outcome

from .cancelling import Cancelling
from .dependency import Dependencies
from .failures import FarmFailed, exit_code
from .farm_tasks import FarmTasks
from .flights import Flights
from .graph import wanted
from .judge import Judge
from .local import LocalEnded, LocalThread, end_children, execute
from .options import RunOptions
from .overhearing import Overheard, Overhearing
from .plan_check import certain, nothing_started
from .requests import Inbox
from .stopping import CANCELLED, Stopping, Terminated
from .unrun import record_the_rest
from .watching import Watching

STOP_S = 5.0
"""How long an interrupted run waits for the farm to confirm that its tasks have ended."""

NOTICE_S = 0.5
"""The longest wait without a look around: a signal that comes just before a wait begins does not end it."""

TURN = 512
"""Nodes taken from the dispatcher before the results that have come meanwhile are looked at."""


class Wake(msgspec.Struct):
    """Look up: a signal came."""


class FarmRunner(Judge):
    """Runs local tasks here, one at a time and in doit's order, and farm tasks on a backend."""

    def __init__(
        self,
        dep_manager: Dependencies,
        reporter: Any,
        continue_: bool,
        always_execute: bool,
        stream: Any,
        *,
        options: RunOptions,
        farm: FarmTasks,
        open_backend: Callable[[], Backend],
        watching: Watching,
    ) -> None:
        super().__init__(
            dep_manager, reporter, continue_, always_execute, stream,
            options=options, farm=farm, watching=watching,
        )  # fmt: skip
        self.fatal: list[FarmError] = []
        """What ended the run early, for the user, in order."""
        self._mixed = False
        """Some task goes to the farm; if none does, everything runs exactly as under doit."""
        self._events: queue.SimpleQueue[Event | LocalEnded | Overheard | Wake] = queue.SimpleQueue()
        self._stopping = Stopping(lambda: self._events.put(Wake()))
        self._local = LocalThread(self._events.put)
        self._local_node: Any = None
        self._parked: deque[Any] = deque()
        self._back: deque[Any] = deque()
        self._exhausted = False
        self._selected: list[str] = []
        self._tasks: Mapping[str, Task] = {}
        self._nodes: Mapping[str, Any] = {}
        self._flights = Flights(self, farm, open_backend, self._events.put)
        farm.toolchain_of = self._flights.toolchain_of
        self._cancelling = Cancelling(
            Inbox(options.state, options.run_id), self._stopping, self._flights, watching,
            tasks=lambda: wanted(self._tasks, self._selected),
            local=lambda: self._local_node.task.name if self._local_node is not None else "",
            say=self.say,
        )  # fmt: skip
        self._stopping.look = self._cancelling.interrupted
        self._stopping.hurry = self._flights.abandon

    # --- the whole run --------------------------------------------------------------------------------

    def run_all(self, task_dispatcher: Any) -> int:
        """Run everything and return the exit code."""
        with self._stopping, Overhearing(self.options.run_id, self._events.put):
            try:
                self._begin(task_dispatcher)
                self.run_tasks(task_dispatcher)
            except InvalidTask as error:
                self.reporter.runtime_error(str(error))
                self.codes.add(2)
            except FarmError as error:
                self.fatal.append(error)
                self.codes.add(error.exit_code)
            except (KeyboardInterrupt, Terminated):
                self.codes.add(self._stopping.code or 130)
            finally:
                self.finish()
        return exit_code(self.codes)

    def _begin(self, dispatcher: Any) -> None:
        self._tasks, self._nodes = dispatcher.tasks, dispatcher.nodes
        if hasattr(self.reporter, "initialize"):
            self.reporter.initialize(dispatcher.tasks, dispatcher.selected_tasks)
        self._selected = dispatcher.selected_tasks
        self._mixed = self._farm.any_of(dispatcher.tasks.values())
        name = self._flights.open() if self._mixed else "local"
        names = wanted(dispatcher.tasks, self._selected)
        self.watching.started(self.options.run_id, len(names), self._selected, name)
        self._flights.prepare(dispatcher.tasks)
        if self._mixed:
            self._check_offers(names)

    def _check_offers(self, names: Sequence[str]) -> None:
        """Find out before the first task runs whether a worker is missing for one that is certain to run."""
        every, recorded = self.always_execute, self.dep_manager.backend.in_
        wants = certain(names, self._tasks, self._farm, lambda name: every or not recorded(name))
        failures = self._flights.unmet(wants) if wants else []
        if not failures:
            return
        for task, fail in failures:
            self.reporter.add_failure(task, fail)
            self.watching.not_run(task.name, Outcome.FAILED, fail.message, self.capability(task))
        self.codes.add(5)
        self._stop_running = True
        others = {name: self.capability(self._tasks[name]) for name in names}
        nothing_started(others, failures[0][0].name, self.watching)

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Dispatch, submit, and take results until nothing is left or the run is stopped."""
        try:
            while not self._stopping.code:
                self._cancelling.look()
                idle = self._dispatch(task_dispatcher)
                self._start_parked()
                self._flights.submit()
                if self._over():
                    break
                if self._underway():
                    self._take_events(block=(idle and not self._back) or self._stop_running)
                elif idle and not self._back and not self._parked:
                    self._deadlock()
        finally:
            if self._stopping.code:
                self.codes.add(self._stopping.code)
                self._interrupted()

    def halted(self) -> bool:
        """Say whether nothing new is to be started."""
        return self._stop_running or bool(self._stopping.code)

    def _over(self) -> bool:
        if self._underway():
            return False
        return bool(self._stop_running or (self._exhausted and not self._back and not self._parked))

    def _underway(self) -> bool:
        return bool(self._flights) or self._local_node is not None

    def _deadlock(self) -> None:
        stuck = sorted(name for name, node in self._nodes.items() if node.run_status in (None, "run"))
        raise InvalidDodoFile(f"tasks wait for one another and none can start: {', '.join(stuck[:10])}")

    # --- dispatching ----------------------------------------------------------------------------------

    def _dispatch(self, dispatcher: Any) -> bool:
        """Take what the dispatcher offers; return True when it has nothing more for now."""
        for _ in range(TURN):
            # Looked at after every node, not only after results: nothing starts after a failure.
            if self._exhausted:
                # Nobody waits any more for what the last tasks in flight have become.
                self._back.clear()
                return True
            if self.halted():
                return True
            if self._local_node is not None and not self._mixed:
                return True
            back = self._back.popleft() if self._back else None
            try:
                node = dispatcher.generator.send(back)
            except StopIteration:
                self._exhausted = True
                return True
            if type(node) is str:  # "hold on", its only word
                if not self._back:
                    return True
                continue
            self._take(node)
        return False

    def _take(self, node: Any) -> None:
        task = node.task
        if task.options is None and not (task.params or task.creator_params or task.cfg_values):
            task.options = {}  # what doit would find with a parser of its own for each task
        if not task._actions:
            # A group, or a task that only stands for others.
            if self.select_task(node, self._tasks):
                self._run_here(node)
            else:
                self._back.appendleft(node)
            return
        if self._cancelling.unwanted and self._drop_unwanted(node):
            return
        needs = self._farm.needs(task)
        if needs is None and (self._local_node is not None or self._parked):
            # Looked at when its turn comes: the tasks before it may still change what it depends on.
            self._parked.append(node)
        elif self.nothing_to_do(node, needs.capability if needs else ""):
            self._back.appendleft(node)
        elif needs is not None:
            self._mixed = True
            if not self.select_task(node, self._tasks) or not self._flights.add(node):
                self._back.appendleft(node)
        else:
            self._start_local(node)

    def _drop_unwanted(self, node: Any) -> bool:
        """Fail a task that was cancelled before its turn; say whether it was."""
        reason = self._cancelling.unwanted.get(node.task.name)
        if reason is None:
            return False
        self.watching.not_run(node.task.name, Outcome.CANCELLED, reason, self.capability(node.task))
        self.failed_with(node, FarmFailed(reason))
        self._back.appendleft(node)
        return True

    def _start_parked(self) -> None:
        while self._parked and self._local_node is None and not self.halted():
            self._start_local(self._parked.popleft())

    def _start_local(self, node: Any) -> None:
        if not self.select_task(node, self._tasks):
            self._back.appendleft(node)
            return
        if not self._mixed or self.options.in_place:
            self._run_here(node)
            return
        task = node.task
        if task.teardown:
            self.teardown_list.append(task)
        self.reporter.execute_task(task)
        self.watching.placed(task.name, "", "", 1)
        self._local_node = node
        self._local.run(node, self.stream)

    def _run_here(self, node: Any) -> None:
        """Run a local task on the main thread, as doit does: Ctrl-C, `--pdb` and interactive actions work."""
        task = node.task
        if task.teardown:
            self.teardown_list.append(task)
        self.reporter.execute_task(task)
        if task._actions:
            self.watching.placed(task.name, "", "", 1)
        self._stopping.raising = True
        try:
            done = execute(node, self.stream)
        finally:
            self._stopping.raising = False
        self._local_ended(done)

    # --- results --------------------------------------------------------------------------------------

    def _take_events(self, *, block: bool) -> None:
        """Handle what has come; wait for the first event if there is nothing else to do."""
        self.watching.flush()
        try:
            event = self._events.get(block, self._wait_s() if block else None)
        except queue.Empty:
            self._back.extend(self._flights.tick())
            return
        self._handle(event)
        # As many as were there: an event once taken is always handled, and new ones wait for the next turn.
        for _ in range(self._events.qsize()):
            self._handle(self._events.get())
        self._back.extend(self._flights.tick())

    def _wait_s(self) -> float:
        left = self._flights.timeout()
        return NOTICE_S if left is None else min(left, NOTICE_S)

    def _handle(self, event: Event | LocalEnded | Overheard | Wake) -> None:
        match event:
            case LocalEnded():
                self._local_node = None
                self._local_ended(event)
            case Wake():
                pass
            case Overheard():
                self._overheard(event)
            case Broken(error):
                raise error
            case _:
                node = self._flights.handle(event)
                if node is not None:
                    self._back.append(node)

    def _local_ended(self, done: LocalEnded) -> None:
        node, task = done.node, done.node.task
        if task._actions:
            self._farm.forget()
            self.dep_manager.files.forget()
        if done.error is not None:
            if task._actions:
                self.watching.not_run(task.name, Outcome.CANCELLED, "interrupted", started_at=done.started_at)
            raise done.error
        fail = self.process_task_result(node, done.fail)
        if task._actions:
            self.watching.local_ended(task, done, fail, self.dep_manager.why.get(task.name, ()))
        self._back.append(node)

    def stopped_by(self, task: Task) -> None:
        """Give up what no worker has yet; what runs may end."""
        ended = "was cancelled" if task.name in self._cancelling.cancelled else "failed"
        self._flights.drop_waiting(f"not started: the run stopped when {task.name} {ended}")

    def cancelled(self, name: str, reason: str) -> bool:
        """Take note that somebody has cancelled a farm task; say whether it was the whole run."""
        return self._cancelling.note(name, reason)

    # --- the end --------------------------------------------------------------------------------------

    def _interrupted(self) -> None:
        """End what runs on the farm and wait a little for it to be confirmed."""
        if self._stopping.code == CANCELLED:
            self.say(self._stopping.reason)
        self._flights.cancel_all(self._stopping.reason)
        deadline = time.monotonic() + STOP_S
        while self._flights and (left := deadline - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=min(left, NOTICE_S))
            except queue.Empty:
                continue
            if isinstance(event, Broken):
                break
            if isinstance(event, Overheard):
                self._overheard(event)
            elif not isinstance(event, LocalEnded | Wake):
                self._flights.handle(event)

    def _overheard(self, event: Overheard) -> None:
        self.watching.overheard(event.record, event.text)
        if self.options.echo:
            self.terminal[1].write(f"majordomo: {event.text}\n")

    def _hear_the_rest(self) -> None:
        """Pass on what the daemons have said while they ended."""
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, Overheard):
                self._overheard(event)

    def finish(self) -> int:
        """Close everything in doit's order; nothing this run started is left running."""
        stopped = bool(self._stopping.code)
        self._local.close()
        try:
            self._flights.close()
        finally:
            if stopped or self._local_node is not None:
                end_children()
            self._hear_the_rest()
            self._record_the_rest()
            try:
                self.dep_manager.close()
            except FarmError as error:
                self.fatal.append(error)
                self.codes.add(error.exit_code)
            self.teardown()
            self.reporter.complete_run()
            self.watching.run_ended(exit_code(self.codes))
            if self.watching.trouble:
                self.terminal[1].write(f"majordomo: {self.watching.trouble}\n")
        return exit_code(self.codes)

    def _record_the_rest(self) -> None:
        if not self.codes and self._exhausted:
            return
        why = self._stopping.reason or "not started: the run stopped before"
        record_the_rest(
            self._tasks, self._nodes, self._selected, self.watching, capability=self.capability, why=why
        )
