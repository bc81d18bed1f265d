"""How tasks come in: checked, pinned, answered from the cache, merged, completed with blobs, queued."""

from __future__ import annotations

import math

from computefarm.codec import MAX_ACTION, action_digest, decode_action
from computefarm.errors import ProtocolError
from computefarm.messages import (
    Accepted,
    Action,
    Digest,
    Done,
    Need,
    Outcome,
    Result,
    Submit,
    TaskKey,
    TaskSpec,
    Waiting,
)

from .accept import Accept
from .commands import Found, LookUp, PeerId, Pin
from .dispatch import Dispatch
from .endings import Endings
from .entries import Submitted
from .state import Queue, Session, Task, TaskState
from .tables import Tables
from .takeover import Takeover
from .versions import parse_constraint
from .wants import Wants
from .withdrawals import Withdrawals


class Admission:
    """Takes submissions and brings them as far as the queue."""

    def __init__(
        self,
        tables: Tables,
        dispatch: Dispatch,
        wants: Wants,
        endings: Endings,
        accept: Accept,
        withdrawals: Withdrawals,
    ) -> None:
        self._tables = tables
        self._dispatch = dispatch
        self._wants = wants
        self._endings = endings
        self._accept = accept
        self._withdrawals = withdrawals
        self._takeover = Takeover(tables)

    def submit(self, session: Session, message: Submit, now: float) -> str | None:
        """Take tasks; return what is wrong with the message as a whole, or None."""
        queues = [self._tables.queue(_plain(need)) for need in message.needs]
        if any(not 0 <= spec.need < len(queues) for spec in message.tasks):
            return "a task refers to a need that the message does not have"
        faults = [_fault(need) for need in message.needs]
        session.lease_s = message.lease_s
        put_off: dict[Need, dict[int, str]] = {}
        failing = bool(self._tables.journal_fault)
        absent = self._takeover.absent(session)
        for spec in message.tasks:
            key = session.tasks.get(spec.task)
            if key is None and failing:
                put_off.setdefault(message.needs[spec.need], {})[spec.task] = spec.name
            elif key is None:
                self._admit(session, spec, queues[spec.need], faults[spec.need], absent, now)
            elif (done := self._tables.tasks[key].done) is not None:
                self._tables.say(session.peer, done, now)
        if put_off:
            self._put_off(session, put_off, now)
        if self._tables.journalled:
            known = tuple([spec.task for spec in message.tasks if spec.task in session.tasks])
            if known:
                self._tables.say(session.peer, Accepted(session.name, known), now, self._tables.promised)
        return None

    def resume(self, now: float) -> None:
        """The journal can be written again: let clients know, for they will submit again what was put off."""
        for session in self._tables.sessions.values():
            put_off, session.put_off = session.put_off or {}, None
            for need, numbers in put_off.items():
                over = Waiting(session.name, tuple(numbers), need, (), True, True)
                self._tables.say(session.peer, over, now)

    def restored(
        self, key: TaskKey, session: Session, spec: TaskSpec, queue: Queue, done: Done | None, now: float
    ) -> Task:
        """Enter a task that the journal knows, as ended when `done` says how.

        Raises `ProtocolError` when the action of one that has not ended cannot be read.
        """
        if done is None and (inputs := decode_action(spec.action).inputs):
            self._tables.do(Pin(tuple([entry.digest for entry in inputs])))
        task = self._task(key, session, spec, queue, action_digest(spec.action), now)
        if done is not None:
            task.move(TaskState.ENDED)
            task.action = b""
            task.past = done.attempts
            queue.tasks -= 1
            session.unended -= 1
            task.done = self._endings.untaken.keep(session, done)
        return task

    def go_on(self, task: Task, now: float) -> None:
        """Bring a task that is in the tables only as far as the queue."""
        if not (task.merges and self._follow(task)):
            if task.read_cache:
                task.looking = True
                self._tables.do(LookUp(task.key, task.digest))
            else:
                self._complete_or_wait(task, now)

    def lead(self, task: Task) -> None:
        """Let identical actions share the run of this task, if they share none yet."""
        if task.merges:
            self._tables.by_action.setdefault(task.digest, task.key)

    def found(self, fact: Found, now: float) -> None:
        """The result cache has an answer; it counts when everything it names is still there."""
        task = self._looking(fact.key)
        if task is None:
            return
        result = fact.result
        if result.outcome is Outcome.SUCCEEDED and not self._wants.missing(e.digest for e in result.outputs):
            self._endings.end(task, result, now, cached=True)
        else:
            self._complete_or_wait(task, now)

    def not_found(self, key: int, now: float) -> None:
        """The result cache has no answer."""
        task = self._looking(key)
        if task is not None:
            self._complete_or_wait(task, now)

    def arrived(self, digests: tuple[Digest, ...], now: float) -> None:
        """Blobs are in the store now: inputs let tasks queue, outputs let attempts end."""
        for task in self._wants.arrived(digests):
            if task.state is TaskState.RUNNING:
                self._accept.complete(task, now)
            else:
                self._complete_or_wait(task, now)

    def vanished(self, digests: tuple[Digest, ...], now: float) -> None:
        """Blobs are damaged or gone: queued tasks that need them wait for them again."""
        gone = set(digests)
        for queue in list(self._tables.queues.busy.values()):
            for group in list(queue.groups.values()):
                for task in self._tables.queues.tasks(group):
                    lost = [digest for digest in self._wants.digests(task) if digest in gone]
                    if missing := self._wants.missing(lost):
                        self._dispatch.withdraw(task)
                        self._wants.wait(task, missing)

    def absent(self, peer: PeerId, digests: tuple[Digest, ...], now: float) -> None:
        """A client cannot deliver inputs: its tasks that need them fail, those of others ask elsewhere."""
        for digest in digests:
            for task in self._wants.waiting_for(digest):
                if task.state is TaskState.WAITING:
                    self._fail_for(peer, task, digest, now)
        self._wants.moved()

    # --- inside ---------------------------------------------------------------------------------------

    def _admit(
        self,
        session: Session,
        spec: TaskSpec,
        queue: Queue,
        fault: str | None,
        absent: list[Session],
        now: float,
    ) -> None:
        key = self._tables.new_key()
        task = self._task(key, session, spec, queue, action_digest(spec.action), now)
        if self._tables.journalled:
            at = now + self._tables.wall_offset
            need, epoch = queue.need, self._tables.epoch
            entry = Submitted(key, session.name, session.owner, spec, need, at, session.lease_s, epoch)
            self._tables.record(entry, urgent=True)
        if spec.deadline_s > 0:
            self._tables.deadlines.set(key, now + spec.deadline_s)
        try:
            action = decode_action(spec.action)
        except ProtocolError as error:
            task.action = b""
            self._endings.end(task, Result(Outcome.FAILED, reason=f"the action cannot be read: {error}"), now)
            return
        if action.inputs:
            self._tables.do(Pin(tuple([entry.digest for entry in action.inputs])))
        fault = fault or _oversize(spec) or _contradiction(action, queue.need)
        if fault is not None:
            self._endings.end(task, Result(Outcome.FAILED, reason=fault), now)
        elif not (task.merges and self._follow(task)):
            if spec.read_cache:
                task.looking = True
                self._tables.do(LookUp(task.key, task.digest))
            elif not (absent and self._taken_over(task, absent, now)):
                self._complete_or_wait(task, now, action)

    def _task(
        self, key: TaskKey, session: Session, spec: TaskSpec, queue: Queue, digest: Digest, now: float
    ) -> Task:
        """Return a new entry in all tables."""
        task = Task(
            key=key,
            number=spec.task,
            name=spec.name,
            session=session,
            queue=queue,
            kind=self._tables.kind(queue.need.capability, spec.kind),
            action=spec.action,
            digest=digest,
            priority=0.0 if math.isnan(spec.priority) else spec.priority,
            retries=spec.retries,
            merges=spec.read_cache and spec.write_cache,
            read_cache=spec.read_cache,
            write_cache=spec.write_cache,
            queued_at=now,
        )
        self._tables.tasks[task.key] = task
        session.tasks[task.number] = task.key
        session.unended += 1
        queue.tasks += 1
        return task

    def _put_off(self, session: Session, tasks: dict[Need, dict[int, str]], now: float) -> None:
        """Say why these are not accepted now; remember their numbers only, for the client has the rest."""
        session.put_off = session.put_off or {}
        fault = self._tables.journal_obstacle()
        for need, names in tasks.items():
            session.put_off.setdefault(need, {}).update(names)
            waiting = Waiting(session.name, tuple(names), need, (fault,), True, True)
            self._tables.say(session.peer, waiting, now)

    def _follow(self, task: Task) -> bool:
        """Share the run of an identical action that has not ended, or be the one others share."""
        key = self._tables.by_action.get(task.digest)
        if key is None:
            self._tables.by_action[task.digest] = task.key
            return False
        self._share(task, self._tables.tasks[key])
        return True

    def _taken_over(self, task: Task, absent: list[Session], now: float) -> bool:
        """Have what an absent client of the same owner left under way, or finished, serve this task."""
        left = self._takeover.find(absent, task.name, task.digest)
        if left is None:
            return False
        if left.done is None:
            self._share(task, left)
            return True
        if self._wants.missing(entry.digest for entry in left.done.result.outputs):
            return False
        self._endings.end(task, left.done.result, now, cached=True)
        return True

    def _share(self, task: Task, leader: Task) -> None:
        """Let `task` have what the run of `leader` brings."""
        if leader.followers is None:
            leader.followers = []
        leader.followers.append(task.key)
        task.leader = leader.key
        if leader.lacking and not leader.session.peer:
            self._wants.moved()  # its own client is away, but this one may have what is missing

    def _looking(self, key: int) -> Task | None:
        task = self._tables.tasks.get(key)
        if task is None or not task.looking or task.state is not TaskState.WAITING:
            return None
        task.looking = False
        return task

    def _complete_or_wait(self, task: Task, now: float, action: Action | None = None) -> None:
        """Queue a task whose inputs are all there; else have them sent."""
        action = action or decode_action(task.action)
        missing = self._wants.missing([entry.digest for entry in action.inputs])
        if missing:
            self._wants.wait(task, missing)
        else:
            self._dispatch.enter(task, now)

    def _fail_for(self, peer: PeerId, task: Task, digest: Digest, now: float) -> None:
        """End those of the clients' tasks that share this run and are `peer`'s."""
        result = _unreadable(task, digest)
        for key in list(task.followers or ()):
            follower = self._tables.tasks[key]
            if follower.session.peer == peer:
                self._withdrawals.detach(follower, now)
                follower.leader = 0
                self._endings.end(follower, result, now)
        if task.session.peer == peer:
            entry = self._withdrawals.detach(task, now)
            entry.leader = 0
            self._endings.end(entry, result, now)


def _plain(need: Need) -> Need:
    """Return `need` without a version that nothing could be compared with."""
    try:
        parse_constraint(need.version)
    except ValueError:
        return Need(need.capability)
    return need


def _fault(need: Need) -> str | None:
    """Return what is wrong with a need, or None."""
    try:
        parse_constraint(need.version)
    except ValueError as error:
        return str(error)
    if need.cpus < 1 or need.memory < 0 or need.gpus < 0 or not 0 <= need.load < math.inf:
        return f"impossible need: cpus {need.cpus}, memory {need.memory}, gpus {need.gpus}, load {need.load}"
    return None


def _oversize(spec: TaskSpec) -> str | None:
    """Return why a task cannot be told to a worker, or None."""
    if len(spec.action) <= MAX_ACTION:
        return None
    return (
        f"the task's description has {len(spec.action):,} bytes, and {MAX_ACTION:,} are the limit: "
        "too many inputs; pack them into one file"
    )


def _contradiction(action: Action, need: Need) -> str | None:
    """Return how the action and the need differ in what decides the result, or None.

    The result answers everybody with the same action, so it must come from the toolchain named there.
    """
    if action.capability != need.capability:
        return f"the action is for {action.capability}, the need for {need.capability}"
    if action.fingerprint and action.fingerprint != need.fingerprint:
        return f"the action was planned for another {need.capability} than the need asks for"
    return None


def _unreadable(task: Task, digest: Digest) -> Result:
    paths = [entry.path for entry in decode_action(task.action).inputs if entry.digest == digest]
    text = f"input {', '.join(paths)} could not be sent: it is gone or has changed since the run began"
    return Result(Outcome.FAILED, reason=text)
