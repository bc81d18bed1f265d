"""The farm tasks in flight: planned, submitted, followed, and their ends told to doit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doit.exceptions import BaseFail
from doit.task import Task

from computefarm.backends.base import (
    Backend,
    Ended,
    Event,
    Held,
    Link,
    Offered,
    Placed,
    Printed,
    Sink,
    Submission,
)
from computefarm.errors import FarmError
from computefarm.messages import Outcome, Piece

from .database import FileState
from .dependency import Facts
from .failures import FarmFailed, failed_to_plan, failure_of
from .farm_tasks import FarmTasks
from .graph import priorities
from .outputs import KEPT, give_back, streams, without_marks
from .patience import nothing_offers
from .place import Place
from .plan import Plan, Planner
from .plan_check import Want
from .toolchains import Toolchain

if TYPE_CHECKING:
    from computefarm.needs import Needs

    from .runner import FarmRunner

BATCH = 128
"""Submissions handed to the backend at once."""


class Flight:
    """One farm task between submission and end."""

    __slots__ = ("asked", "dropped", "live", "node", "placed", "plan", "printed")

    def __init__(self, node: Any, asked: Needs, plan: Plan) -> None:
        self.node = node
        self.asked = asked
        self.plan = plan
        self.placed = 0
        """The attempt that was last given to a worker."""
        self.printed = False
        self.dropped = ""
        """Why we asked for its cancellation."""
        wanted = plan.marked or any(action.save_out for action in node.task.actions)
        self.live: list[Piece] | None = [] if wanted else None
        """All output of the current attempt, where doit wants more of it than comes with a result."""


class Flights:
    """Everything a run has on the farm."""

    def __init__(
        self,
        runner: FarmRunner,
        farm: FarmTasks,
        open_backend: Callable[[], Backend],
        sink: Sink,
    ) -> None:
        self._runner = runner
        self._farm = farm
        self._place = Place(
            open_backend, sink, runner.dep_manager.backend.toolchains, runner.say, runner.options
        )
        self._flights: dict[int, Flight] = {}
        self._buffer: list[Submission] = []
        self._number = 0
        self._tasks: Mapping[str, Task] = {}
        self._priorities: dict[str, float] | None = None
        deps = runner.dep_manager
        self._planner = Planner(runner.options.root, farm, deps.files, always=runner.always_execute)

    def __len__(self) -> int:
        return len(self._flights)

    # --- the backend ----------------------------------------------------------------------------------

    def open(self) -> str:
        """Choose the backend without starting it; return its name."""
        return self._place.open()

    def toolchain_of(self, asked: Needs) -> Toolchain | None:
        """Return this run's toolchain for a need; the first question starts the backend."""
        return self._place.toolchain_of(asked)

    def abandon(self) -> None:
        """Have everything cancelled, in a hurry; callable from any thread."""
        self._place.abandon()

    def close(self) -> None:
        """Stop the backend; unfinished tasks are cancelled there."""
        self._place.close()

    # --- into the air ---------------------------------------------------------------------------------

    def prepare(self, tasks: Mapping[str, Task]) -> None:
        """Remember the graph, for priorities."""
        self._tasks = tasks

    def add(self, node: Any) -> bool:
        """Plan a task and queue it; False when it cannot be sent, which is then reported already."""
        task = node.task
        asked = self._farm.needs(task)
        assert asked is not None
        self._place.check()
        if self._priorities is None:
            self._priorities = priorities(self._tasks)
        self._number += 1
        try:
            facts = self._farm.facts(task)
            assert facts is not None
            priority = self._priorities.get(task.name, 0.0)
            toolchain = self.toolchain_of(asked)
            variant = self._place.toolchains.variant(asked, toolchain) if asked.action else ""
            offer = self._place.toolchains.offer(asked, toolchain)
            plan = self._planner.plan(task, asked, facts, toolchain, self._number, priority, variant, offer)
        except FarmError as error:
            fail = failed_to_plan(error)
            runner = self._runner
            runner.watching.not_run(task.name, Outcome.FAILED, fail.message, asked.capability)
            runner.failed_with(node, fail)
            return False
        if task.teardown:
            self._runner.teardown_list.append(task)
        self._flights[self._number] = Flight(node, asked, plan)
        self._buffer.append(plan.submission)
        self._runner.watching.queued(task.name)
        if len(self._buffer) >= BATCH:
            self.submit()
        return True

    def submit(self) -> None:
        """Hand over what was planned."""
        if self._buffer:
            batch, self._buffer = self._buffer, []
            self._place.started().submit(batch)

    def drop_waiting(self, reason: str) -> None:
        """Give up the tasks that no worker has yet; those that run may end."""
        unsent = {submission.task for submission in self._buffer}
        self._buffer.clear()
        waiting = [number for number, flight in self._flights.items() if not flight.placed]
        for number in waiting:
            self._flights[number].dropped = reason
            if number in unsent:
                self._record_dropped(self._flights.pop(number))
        sent = [number for number in waiting if number not in unsent]
        self._place.patience.release(waiting)
        if sent and self._place.running is not None:
            self._place.running.cancel(sent, reason)

    def cancel_all(self, reason: str) -> None:
        """Give up everything."""
        self.drop_waiting(reason)
        for flight in self._flights.values():
            flight.dropped = reason
        if self._flights and self._place.running is not None:
            self._place.running.cancel((), reason)

    def cancel(self, names: Iterable[str], reason: str) -> set[str]:
        """Cancel tasks by name; return those that are in flight. Each still ends as a failure of the run."""
        self.submit()
        meant = frozenset(names)
        chosen = {
            number: flight.node.task.name
            for number, flight in self._flights.items()
            if flight.node.task.name in meant
        }
        if chosen and self._place.running is not None:
            self._place.running.cancel(tuple(chosen), reason)
        return set(chosen.values())

    def _record_dropped(self, flight: Flight) -> None:
        name = flight.node.task.name
        self._runner.watching.not_run(name, Outcome.CANCELLED, flight.dropped, flight.asked.capability)

    # --- what the backend says ------------------------------------------------------------------------

    def timeout(self) -> float | None:
        """Return how long nothing can happen here without an event."""
        deadline = self._place.patience.next_deadline()
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def tick(self) -> list[Any]:
        """End the tasks that have waited long enough for what they need; return their nodes."""
        over = [(number, event) for number, event in self._place.patience.expired(time.monotonic())]
        nodes = []
        for number, event in over:
            flight = self._flights.pop(number, None)
            if flight is None:
                continue
            text = nothing_offers(event.need, event.obstacles)
            fail = self._place.nobody(text, event.need, event.obstacles)
            task = flight.node.task
            self._runner.watching.not_run(task.name, Outcome.FAILED, fail.message, flight.asked.capability)
            self._runner.failed_with(flight.node, fail)
            nodes.append(flight.node)
        if over and self._place.running is not None:
            self._place.running.cancel([number for number, _ in over], "no worker offers what it needs")
        return nodes

    def unmet(self, wants: Sequence[Want]) -> list[tuple[Task, FarmFailed]]:
        """Return how the run fails before anything has run: for each want that nobody meets, a task of it."""
        runner = self._runner
        lacking = self._place.unmet(wants, runner.halted, going_on=runner.continue_)
        return [(each.want.tasks[0], self._place.failure(each)) for each in lacking]

    def handle(self, event: Event) -> Any:
        """Take one event; return the node of a task that has ended."""
        match event:
            case Placed():
                self._placed(event)
            case Printed():
                self._printed(event)
            case Ended():
                return self._ended(event)
            case Held():
                self._held(event)
            case Offered(pools, settled):
                self._place.patience.settled(settled, time.monotonic())
                self._place.toolchains.note(pools)
            case Link(_, text):
                # The embedded farm is this process: no link to speak of.
                if self._place.running is not None and self._place.running.name != "local":
                    self._runner.say(text)
            case _:
                pass
        return None

    def _placed(self, event: Placed) -> None:
        flight = self._flights.get(event.task)
        if flight is None:
            return
        self._place.patience.release((event.task,))
        self._begin(flight)
        flight.placed = event.attempt
        if flight.live:
            flight.live.clear()
        self._runner.watching.placed(flight.node.task.name, event.worker, event.hostname, event.attempt)

    def _begin(self, flight: Flight) -> None:
        task = flight.node.task
        if not task.executed:
            task.executed = True
            self._runner.reporter.execute_task(task)

    def _printed(self, event: Printed) -> None:
        flight = self._flights.get(event.task)
        if flight is None:
            return
        if flight.live is not None:
            flight.live.extend(event.pieces)
        pieces: Sequence[Piece] = without_marks(event.pieces) if flight.plan.marked else event.pieces
        if pieces:
            flight.printed = True
            self._runner.watching.printed(flight.node.task.name, pieces)
            self._echo(flight.node.task, pieces)

    def _echo(self, task: Task, pieces: Sequence[Piece]) -> None:
        """Print output at once where nobody else does."""
        bare = task.io.capture is False
        if not bare and not self._runner.options.echo:
            return
        # sys.stdout may be swapped by a local Python action at this moment: the stream kept is the user's.
        for piece in pieces:
            wanted = 2 if piece.stream == 1 else 1
            if task.verbosity is not None and task.verbosity < wanted:
                continue
            stream = self._runner.terminal[0 if piece.stream == 1 else 1]
            stream.write(piece.text)
            stream.flush()

    def _held(self, event: Held) -> None:
        flights = [self._flights[number] for number in event.tasks if number in self._flights]
        if not flights:
            return
        text = self._place.patience.hold(event, time.monotonic())
        names = [flight.node.task.name for flight in flights]
        self._runner.watching.held(names, event.need, event.obstacles, event.offered, event.ever)
        if text:
            self._runner.say(text)

    # --- back on the ground ---------------------------------------------------------------------------

    def _ended(self, event: Ended) -> Any:
        flight = self._flights.pop(event.task, None)
        if flight is None:
            return None
        self._place.patience.release((event.task,))
        task = flight.node.task
        outcome = event.result.outcome
        if (
            outcome is Outcome.CANCELLED
            and not flight.dropped
            and self._runner.cancelled(task.name, event.result.reason)
        ):
            flight.dropped = event.result.reason
        if flight.dropped and outcome is not Outcome.SUCCEEDED:
            why = self._runner.dep_manager.why.get(task.name, ())
            self._runner.watching.farm_ended(
                task.name, flight.asked.capability, event, Outcome.CANCELLED, flight.dropped, why, ()
            )
            return None
        self._begin(flight)
        if not flight.printed and event.result.log:
            log = without_marks(event.result.log) if flight.plan.marked else event.result.log
            self._echo(task, log)
        self._finish(flight, event)
        return flight.node

    def _finish(self, flight: Flight, event: Ended) -> None:
        task, runner = flight.node.task, self._runner
        declared = (*task.file_dep, *flight.plan.facts.inputs)
        runner.dep_manager.files.forget(task.targets)
        if event.result.outputs:
            runner.dep_manager.files.forget(entry.path for entry in event.result.outputs)
            self._farm.forget(entry.path for entry in event.result.outputs)
        failure = failure_of(task, event, declared)
        fail: BaseFail | None = failure or self._give_back(flight, event)
        if fail is None:
            runner.dep_manager.sent[task.name] = (
                self._ran_with(flight, event),
                flight.plan.deps,
                self._read_inputs(flight),
            )
        fail = runner.process_task_result(flight.node, fail)
        result = event.result
        outcome = result.outcome
        if fail is not None and outcome is Outcome.SUCCEEDED:
            outcome = Outcome.FAILED
        why = runner.dep_manager.why.get(task.name, ())
        reason = failure.reason if failure is not None else fail.message if fail is not None else ""
        log = without_marks(result.log) if flight.plan.marked else result.log
        runner.watching.farm_ended(
            task.name, flight.asked.capability, event, outcome, reason, why, log, flight.plan.others
        )

    def _give_back(self, flight: Flight, event: Ended) -> BaseFail | None:
        """Let doit have the output, as its own actions would."""
        task = flight.node.task
        pieces: Sequence[Piece] = event.result.log
        if flight.live is not None:
            if sum(len(text) for text in streams(flight.live)) >= sum(len(text) for text in streams(pieces)):
                pieces = flight.live
            elif sum(len(text) for text in streams(pieces)) >= KEPT:
                return FarmFailed(
                    "its output is too long to be kept for save_out (64 KiB): write it to a target instead"
                )
        if task.io.capture is not True:
            pieces = ()
        give_back(task.actions, pieces, flight.plan.marked)
        for action in task.actions:
            task.result = action.result
            task.values.update(action.values)
        return None

    def _read_inputs(self, flight: Flight) -> Sequence[FileState]:
        """Return the inputs that decide whether the task runs again."""
        depfile = flight.plan.facts.depfile
        if not depfile:
            return flight.plan.inputs
        from .depfiles import discovered

        return discovered(flight.plan.submission.project / depfile, flight.plan.inputs, self._planner.inside)

    def _ran_with(self, flight: Flight, event: Ended) -> Facts:
        """Return what is to be remembered; a task sent when nothing offered its need learns it now."""
        facts = flight.plan.facts
        if facts.fingerprint or facts.any_toolchain or not event.worker:
            return facts
        fingerprint, version = self._place.toolchains.ran_on(flight.asked, event.worker)
        return Facts(facts.capability, facts.command, facts.inputs, fingerprint=fingerprint, version=version)
