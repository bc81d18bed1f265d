"""Random histories of one task manager: what must hold after every step, and that everything ends once all is well."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from computefarm.core.commands import Found, Gone, LookUp, NotFound, Vanished
from computefarm.messages import (
    Absent,
    Begun,
    Cancel,
    Declined,
    Done,
    FileEntry,
    Finished,
    Goodbye,
    Halt,
    Need,
    Outcome,
    Result,
    Run,
    Running,
    Taken,
    TaskSpec,
    Want,
)
from computefarm.testing.farm import Farm, action, spec, success
from computefarm.testing.invariants import check

CLIENTS = ("c1", "c2")
NEEDS = (Need("shell"), Need("shell", version=">=1"), Need("shell", cpus=2), Need("shell", exclusive=True))
BLOBS = [bytes([n]) * 32 for n in range(4)]


class Histories(RuleBasedStateMachine):
    runs: Bundle[tuple[str, Run]] = Bundle("runs")

    @initialize(journalled=st.booleans())
    def begin(self, journalled: bool) -> None:
        self.farm = Farm(journalled=journalled)
        self.journalled = journalled
        if journalled:
            self.farm.sync(0)
        self.restored = 0
        """Entries that this life began with; what came later is written down but not always synced."""
        self.actions: dict[tuple[str, int], bytes] = {}
        self.specs: dict[tuple[str, int], tuple[Need, TaskSpec]] = {}
        self.ran: dict[bytes, bytes] = {}
        """Actions, by the first output that their attempts make."""
        self.earlier: set[tuple[str, int]] = set()
        """Told in an earlier life of the manager."""
        for client in CLIENTS:
            self.farm.client(client)
        self.life = Counter[str]()
        self.peers: dict[str, str] = {}
        self.submitted: dict[tuple[str, int], bool] = {}
        self.done: Counter[tuple[str, int]] = Counter()
        self.number = 0
        self.given: dict[str, list[tuple[int, int, str]]] = {}
        """Attempts, by worker."""
        self.hold: list[tuple[str, Run]] = []

    def collect(self) -> None:
        """Look at what the manager said, as its peers would."""
        for to, message in self.farm.sent:
            if isinstance(message, Run):
                self.hold.append((to, message))
                name = to.split("-")[0]
                self.given.setdefault(name, []).append((message.key, message.attempt, message.epoch))
                self.ran[made_by(message)] = message.action
            elif isinstance(message, Done):
                assert (message.session, message.task) in self.submitted
                self.honest(message)
                self.done[message.session, message.task] += 1
        self.farm.sent.clear()

    def honest(self, done: Done) -> None:
        """The result is the one of the attempt that is named as the last."""
        if done.cached or not done.attempts:
            return
        last = done.attempts[-1].attempt
        if done.result.outcome is Outcome.SUCCEEDED:
            assert all(entry.digest[0] == last for entry in done.result.outputs)
            for entry in done.result.outputs:
                assert self.ran[entry.digest] == self.actions[done.session, done.task]
            assert all(entry.digest in self.farm.blobs for entry in done.result.outputs)
        elif done.result.outcome is Outcome.FAILED and done.result.exit_code is not None:
            assert done.result.reason == f"attempt {last}"

    # --- clients

    @rule(
        client=st.sampled_from(CLIENTS),
        need=st.sampled_from(NEEDS),
        command=st.sampled_from("abc"),
        inputs=st.sets(st.sampled_from(BLOBS), max_size=2),
        cached=st.booleans(),
        retries=st.integers(0, 3),
    )
    def submit(
        self, client: str, need: Need, command: str, inputs: set[bytes], cached: bool, retries: int
    ) -> None:
        self.number += 1
        files = tuple(FileEntry(f"i{digest[0]}", digest, 1) for digest in sorted(inputs))
        task = spec(
            self.number,
            action=action(command, inputs=files, outputs=("o",)),
            read_cache=cached,
            write_cache=cached,
            retries=retries,
            kind=command,
        )
        self.submitted[f"s-{client}", self.number] = True
        self.actions[f"s-{client}", self.number] = task.action
        self.specs[f"s-{client}", self.number] = (need, task)
        self.farm.submit(task, need=need, session=f"s-{client}", client=client)

    @rule(client=st.sampled_from(CLIENTS), data=st.data())
    def cancel(self, client: str, data: st.DataObject) -> None:
        mine = sorted(number for session, number in self.submitted if session == f"s-{client}")
        if mine:
            self.farm.say(client, Cancel(f"s-{client}", (data.draw(st.sampled_from(mine)),)))

    @rule(client=st.sampled_from(CLIENTS))
    def take(self, client: str) -> None:
        ended = tuple(number for (session, number) in self.done if session == f"s-{client}")
        self.farm.say(client, Taken(f"s-{client}", ended))

    @rule(blob=st.sampled_from(BLOBS))
    def arrive(self, blob: bytes) -> None:
        self.farm.arrive(blob)

    @rule(blob=st.sampled_from(BLOBS))
    def vanish(self, blob: bytes) -> None:
        self.farm.blobs.discard(blob)
        self.farm.learn(Vanished((blob,)))

    @rule(client=st.sampled_from(CLIENTS), blob=st.sampled_from(BLOBS))
    def cannot_deliver(self, client: str, blob: bytes) -> None:
        self.farm.say(client, Absent((blob,)))

    @rule(hit=st.booleans())
    def look_up(self, hit: bool) -> None:
        for command in [each for each in self.farm.others if isinstance(each, LookUp)]:
            self.farm.others.remove(command)
            result = success(FileEntry("o", BLOBS[0], 1))
            self.farm.learn(Found(command.key, result) if hit else NotFound(command.key))

    # --- workers

    @rule(name=st.sampled_from(["w1", "w2", "w3"]), slots=st.integers(1, 3), same=st.booleans())
    def come(self, name: str, slots: int, same: bool) -> None:
        """A worker starts, or connects again when it is the same process."""
        if self.peers.get(name) in self.farm.manager._tables.peers:
            return
        self.life[name] += 1
        boot = name if same else f"{name}.{self.life[name]}"
        peer = f"{name}-{self.life[name]}"
        self.peers[name] = peer
        self.farm.worker(name, slots, peer=peer, boot=boot)

    @rule(name=st.sampled_from(["w1", "w2", "w3"]), politely=st.booleans())
    def go(self, name: str, politely: bool) -> None:
        peer = self.peers.pop(name, "")
        if politely and peer:
            self.farm.say(peer, Goodbye())
        elif peer:
            self.farm.learn(Gone(peer))

    @rule(target=runs)
    def receive(self) -> object:
        self.collect()
        held, self.hold = self.hold, []
        return multiple(*held)

    @rule(run=runs, outputs=st.booleans(), run_s=st.sampled_from([0.001, 0.02, 1.0]), fails=st.booleans())
    def finish(self, run: tuple[str, Run], outputs: bool, run_s: float, fails: bool) -> None:
        peer, what = run
        made = (FileEntry("o", made_by(what), 1),) if outputs else ()
        result = (
            Result(Outcome.FAILED, exit_code=1, reason=f"attempt {what.attempt}")
            if fails
            else success(*made, run_s=run_s)
        )
        self.farm.say(peer, Finished(what.key, what.attempt, result, what.epoch))

    @rule(run=runs)
    def deliver(self, run: tuple[str, Run]) -> None:
        self.farm.arrive(made_by(run[1]))

    @rule(run=runs)
    def fail_to_deliver(self, run: tuple[str, Run]) -> None:
        self.farm.say(run[0], Absent((made_by(run[1]),)))

    @rule(run=runs)
    def begin_run(self, run: tuple[str, Run]) -> None:
        self.farm.say(run[0], Begun(run[1].key, run[1].attempt))

    @rule(run=consumes(runs), absent=st.sets(st.sampled_from(BLOBS), max_size=1))
    def decline(self, run: tuple[str, Run], absent: set[bytes]) -> None:
        self.farm.say(run[0], Declined(run[1].key, run[1].attempt, "not now", tuple(absent)))

    @rule(name=st.sampled_from(["w1", "w2", "w3"]), slots=st.integers(1, 3), data=st.data())
    def come_back(self, name: str, slots: int, data: st.DataObject) -> None:
        """A worker connects again, with some of the attempts it was ever given still in hand."""
        if self.peers.get(name) in self.farm.manager._tables.peers or not self.given.get(name):
            return
        held = data.draw(st.lists(st.sampled_from(self.given[name]), max_size=3, unique=True))
        self.life[name] += 1
        self.peers[name] = peer = f"{name}-{self.life[name]}"
        running = tuple(Running(*attempt) for attempt in held)
        self.farm.worker(name, slots, peer=peer, boot=name, running=running)

    # --- the journal and the manager's death

    @rule(records=st.integers(0, 20))
    def sync(self, records: int) -> None:
        if self.journalled:
            written = len(self.farm.journal) - self.restored
            self.farm.sync(min(written, (self.farm.synced or 0) + records))

    @precondition(lambda self: self.journalled)
    @rule(lucky=st.integers(0, 5))
    def restart(self, lucky: int) -> None:
        """The manager dies, and with it some of what was not synced; its clients come back."""
        self.collect()
        kept = self.restored + (self.farm.synced or 0) + lucky
        self.farm.restart(self.farm.journal[:kept])
        self.farm.sync(0)
        self.restored = len(self.farm.journal)
        self.peers.clear()
        self.hold.clear()
        self.earlier |= set(self.done)
        check(self.farm.manager)
        for client in CLIENTS:
            session = f"s-{client}"
            self.farm.client(client)
            self.take(client)
            for (of, number), (need, task) in self.specs.items():
                if of == session and (of, number) not in self.done:
                    self.farm.submit(task, need=need, session=session, client=client)

    # --- time

    @rule(seconds=st.sampled_from([0.01, 0.06, 1.1, 7.0]), awake=st.booleans())
    def wait(self, seconds: float, awake: bool) -> None:
        if awake:
            self.farm.alive(
                *CLIENTS, *[p for p in self.peers.values() if p in self.farm.manager._tables.peers]
            )
        self.farm.at(self.farm.now + seconds)

    @rule(load=st.floats(0, 3), limit=st.one_of(st.none(), st.floats(0.1, 2)))
    def report(self, load: float, limit: float | None) -> None:
        self.farm.load("host-w1", load, max_load=limit)

    # --- what holds

    @invariant()
    def tables_agree(self) -> None:
        if hasattr(self, "farm"):
            check(self.farm.manager)

    @invariant()
    def told_once(self) -> None:
        if hasattr(self, "farm"):
            self.collect()
            told = {task for task, count in self.done.items() if count > 1}
            assert told <= self.earlier

    def teardown(self) -> None:
        if hasattr(self, "farm"):
            self.heal()

    def heal(self) -> None:
        """With clients that answer and a healthy worker, everything ends and nothing is left."""
        farm = self.farm
        tables = farm.manager._tables
        farm.sync()
        farm.worker("healer", 4)
        for _ in range(400):
            unended = [s for s in tables.sessions.values() if s.unended]
            if not unended:
                break
            self.answer_everything()
            farm.alive("healer", *[c for c in CLIENTS if c in tables.peers])
            farm.at(farm.now + 0.5)
            check(farm.manager)
        assert not [s.name for s in tables.sessions.values() if s.unended]
        for client in CLIENTS:
            if client in tables.peers:
                farm.say(client, Goodbye())
        farm.at(farm.now + 40)
        assert not tables.tasks
        assert not tables.sessions
        assert farm.pins == {}

    def answer_everything(self) -> None:
        farm = self.farm
        for to, message in list(farm.sent):
            if isinstance(message, Want):
                farm.arrive(*message.digests)
            elif isinstance(message, Halt) and to in farm.manager._tables.peers:
                farm.say(to, Declined(message.key, message.attempt, "halted"))
        farm.arrive(*BLOBS)
        self.look_up(False)
        self.collect()
        held, self.hold = self.hold, []
        for to, run in held:
            if to in farm.manager._tables.peers:
                farm.say(to, Finished(run.key, run.attempt, success(), run.epoch))


def made_by(run: Run) -> bytes:
    """Return the digest of what an attempt makes: no other attempt of any life of the manager makes the same."""
    life = int(run.epoch.removeprefix("epoch") or 1)
    return bytes([run.attempt, run.key % 256, life, 0]) * 8


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
