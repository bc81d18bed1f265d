from __future__ import annotations

from computefarm.core.worker import (
    LetGo,
    Quit,
    Recall,
    Reconnect,
    Say,
    Start,
    Stop,
    Upload,
    WorkerCommand,
    WorkerSession,
)
from computefarm.messages import (
    Begun,
    Declined,
    Disconnect,
    Drain,
    Finished,
    Goodbye,
    Halt,
    Heartbeat,
    Leaving,
    Offer,
    Outcome,
    Register,
    Result,
    Run,
    Running,
    Settled,
    Want,
    Welcome,
)

REGISTER = Register("w", "h", "h", "linux", 1, (Offer("shell"),))
OK = Result(Outcome.SUCCEEDED, exit_code=0)


def welcome(epoch: str = "e1") -> Welcome:
    return Welcome(1, "1", "farm", epoch, 2.0)


def run(key: int, attempt: int = 1, cpus: int = 1) -> Run:
    return Run(key, attempt, f"t{key}", b"", cpus, epoch="e1")


def session(slots: int = 1) -> WorkerSession:
    made = WorkerSession("w", slots)
    made.offer(REGISTER, 0.0)
    made.connected(0.0)
    made.receive(welcome(), 0.0)
    return made


def said(commands: list[WorkerCommand]) -> list[object]:
    return [command.message for command in commands if isinstance(command, Say)]


def test_it_registers_after_every_welcome() -> None:
    made = WorkerSession("w", 3)
    assert made.offer(REGISTER, 0.0) == []
    made.connected(0.0)

    (register,) = said(made.receive(welcome(), 0.0))
    assert isinstance(register, Register)
    assert (register.worker, register.slots, register.running) == ("w", 3, ())


def test_it_starts_what_fits_and_keeps_the_rest() -> None:
    made = session(2)

    assert made.receive(run(1, cpus=2), 0.0) == [Start(run(1, cpus=2))]
    assert made.receive(run(2), 0.0) == []
    assert made.receive(run(3), 0.0) == []
    assert made.ended(1, 1, OK, 1.0) == [Say(Finished(1, 1, OK, "e1")), Start(run(2)), Start(run(3))]


def test_a_copy_of_a_run_is_not_started_again() -> None:
    made = session(2)
    made.receive(run(1), 0.0)
    assert made.receive(run(1), 0.0) == []

    made.ended(1, 1, OK, 1.0)
    made.receive(Settled(((1, 1),)), 1.0)
    assert made.receive(run(1), 2.0) == []


def test_a_result_is_said_until_it_is_settled() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.ended(1, 1, OK, 1.0)
    made.receive(Heartbeat(), 6.0)
    assert Finished(1, 1, OK, "e1") in said(made.tick(7.0))

    made.receive(Settled(((1, 1),)), 8.0)
    made.receive(Heartbeat(), 13.0)
    assert said(made.tick(14.0)) == [Heartbeat()]


def test_what_ended_while_the_line_was_down_is_said_on_the_next() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.disconnected(1.0)
    assert made.ended(1, 1, OK, 2.0) == []

    register, finished = said(made.receive(welcome(), 3.0))
    assert isinstance(register, Register)
    assert register.running == (Running(1, 1, "e1"),)
    assert finished == Finished(1, 1, OK, "e1")


def test_what_has_not_begun_when_the_line_breaks_never_begins() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)
    made.disconnected(1.0)

    assert made.ended(1, 1, OK, 2.0) == []
    made.receive(welcome(), 3.0)
    assert made.running == ()


def test_another_epoch_stops_what_an_earlier_one_started() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.disconnected(1.0)
    stop, register = made.receive(welcome("e2"), 2.0)

    assert isinstance(stop, Stop)
    assert (stop.key, stop.attempt) == (1, 1)
    assert said([register])[0].running == ()  # type: ignore[attr-defined]
    fresh = Run(1, 1, "other", b"", epoch="e2")
    assert made.receive(fresh, 3.0) == []  # the slot is still taken
    assert made.ended(1, 1, Result(Outcome.CANCELLED), 4.0) == [Start(fresh)]


def test_the_same_epoch_lets_it_go_on() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.disconnected(1.0)

    assert [type(command) for command in made.receive(welcome(), 2.0)] == [Say]
    assert made.running == (run(1),)


def test_what_has_not_begun_is_given_back_when_halted() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)

    assert made.receive(Halt(2, 1, "recalled", True), 1.0) == [Say(Declined(2, 1, "recalled"))]
    assert made.ended(1, 1, OK, 2.0) == [Say(Finished(1, 1, OK, "e1"))]


def test_what_runs_is_stopped_when_halted_but_not_when_only_recalled() -> None:
    made = session()
    made.receive(run(1), 0.0)
    assert made.receive(Halt(1, 1, "recalled", True), 0.5) == [Recall(1, 1, "recalled")]

    made.begun(1, 1, 0.9)

    assert made.receive(Halt(1, 1, "recalled", True), 1.0) == []
    assert made.receive(Halt(1, 1, "cancelled"), 1.0) == [Stop(1, 1, "cancelled")]
    assert made.receive(Halt(1, 1, "cancelled"), 1.0) == []


def test_a_halt_for_something_unknown_is_answered() -> None:
    made = session()

    assert made.receive(Halt(9, 1), 1.0) == [Say(Declined(9, 1, "not here"))]
    assert made.receive(run(9), 2.0) == []


def test_a_drained_worker_gives_back_finishes_and_quits() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)

    assert said(made.receive(Drain(), 1.0)) == [Leaving(), Declined(2, 1, "draining")]
    assert said(made.receive(run(3), 1.0)) == [Declined(3, 1, "draining")]
    assert said(made.ended(1, 1, OK, 2.0)) == [Finished(1, 1, OK, "e1")]
    assert made.receive(Settled(((1, 1),)), 3.0) == [Say(Goodbye("drained")), Quit("drained")]


def test_what_could_not_be_started_is_declined_and_frees_its_slot() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)

    commands = made.decline(1, 1, "inputs absent", 1.0, (b"a" * 32,))

    assert commands == [Say(Declined(1, 1, "inputs absent", (b"a" * 32,))), Start(run(2))]


def test_it_says_when_an_attempt_has_begun() -> None:
    made = session()
    made.receive(run(1), 0.0)

    assert made.begun(1, 1, 1.0) == [Say(Begun(1, 1))]
    assert made.begun(2, 1, 1.0) == []


def test_it_beats_only_when_it_has_said_nothing() -> None:
    made = session()
    assert made.next_deadline() == 2.0
    assert made.tick(1.9) == []
    assert made.tick(2.0) == [Say(Heartbeat())]
    assert made.next_deadline() == 4.0


def test_a_silent_manager_is_called_again() -> None:
    made = session()
    for second in (2.0, 4.0):
        made.tick(second)

    (command,) = made.tick(6.0)
    assert isinstance(command, Reconnect)
    assert made.next_deadline() is None


def test_outputs_are_uploaded_when_wanted() -> None:
    assert session().receive(Want((b"o" * 32,)), 1.0) == [Upload((b"o" * 32,))]


def test_some_refusals_are_final() -> None:
    assert session().receive(Disconnect("protocol", "say Hello first"), 1.0) == [Reconnect("say Hello first")]
    assert session().receive(Disconnect("name", "taken"), 1.0) == [Quit("taken", "name")]


def test_attempts_of_one_slot_are_started_ahead_for_a_shell_that_queues_them() -> None:
    made = WorkerSession("w1", 1, now=0.0, ahead=2)
    made.connected(0.0)
    made.receive(Welcome(1, "1.0", "farm", "e1", 2.0), 0.0)

    started = [command for key in range(1, 6) for command in made.receive(run(key), 1.0)]

    assert [command.run.key for command in started if isinstance(command, Start)] == [1, 2, 3]
    assert [c.run.key for c in made.ended(1, 1, OK, 2.0) if isinstance(c, Start)] == [4]


def test_a_wide_attempt_is_never_started_ahead() -> None:
    made = WorkerSession("w1", 2, now=0.0, ahead=4)
    made.connected(0.0)
    made.receive(Welcome(1, "1.0", "farm", "e1", 2.0), 0.0)
    made.receive(run(1), 0.0)

    wide = Run(key=2, attempt=1, name="wide", action=b"", cpus=2, epoch="e1")
    assert made.receive(wide, 1.0) == []
    assert Start(wide) in made.ended(1, 1, OK, 2.0)


def test_an_attempt_of_a_new_epoch_waits_for_the_end_of_its_namesake() -> None:
    made = session(slots=2)
    made.receive(run(1), 1.0)
    made.receive(welcome("e2"), 2.0)
    fresh = Run(1, 1, "other", b"", epoch="e2")

    assert made.receive(fresh, 3.0) == []
    assert made.ended(1, 1, OK, 4.0) == [Start(fresh)]
    (finished,) = said(made.ended(1, 1, OK, 5.0))
    assert finished == Finished(1, 1, OK, "e2")


def test_a_held_worker_takes_nothing_new_and_says_why_until_it_is_held_no_longer() -> None:
    made = session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)
    register, declined = said(made.hold("disk full on n1", 1.0))
    assert isinstance(register, Register)
    assert (register.held, register.draining) == ("disk full on n1", False)
    assert register.running == (Running(1, 1, "e1"), Running(2, 1, "e1"))
    assert declined == Declined(2, 1, "disk full on n1")
    assert said(made.receive(run(3), 1.0)) == [Declined(3, 1, "disk full on n1")]
    assert [one.key for one in made.running] == [1]

    [register] = said(made.hold("", 2.0))
    assert isinstance(register, Register)
    assert register.held == ""
    made.ended(1, 1, OK, 2.0)
    assert [type(one) for one in made.receive(run(4), 2.0)] == [Start]


# --- managers that come and go ------------------------------------------------------------------------------


def descendant(epoch: str, lineage: str = "l") -> Welcome:
    return Welcome(1, "1", "farm", epoch, 2.0, lineage=lineage)


def journalled_session(slots: int = 2, result_hold_s: float = 100.0) -> WorkerSession:
    made = WorkerSession("w", slots, result_hold_s=result_hold_s)
    made.offer(REGISTER, 0.0)
    made.connected(0.0)
    made.receive(descendant("e1"), 0.0)
    return made


def test_a_manager_of_the_same_lineage_is_told_what_is_in_hand_and_held() -> None:
    made = journalled_session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)
    made.disconnected(1.0)
    made.ended(2, 1, OK, 2.0)

    commands = made.receive(descendant("e2"), 3.0)

    (register, finished) = said(commands)
    assert isinstance(register, Register)
    assert register.running == (Running(1, 1, "e1"), Running(2, 1, "e1"))
    assert finished == Finished(2, 1, OK, "e1")
    assert not any(isinstance(command, Stop) for command in commands)
    assert said(made.ended(1, 1, OK, 4.0)) == [Finished(1, 1, OK, "e1")]


def test_a_manager_of_another_lineage_stops_what_it_does_not_know() -> None:
    made = journalled_session()
    made.receive(run(1), 0.0)
    made.disconnected(1.0)

    commands = made.receive(descendant("e2", "other"), 2.0)

    assert [type(command) for command in commands] == [Stop, Say]
    assert said(made.ended(1, 1, OK, 3.0)) == []


def test_words_about_another_epochs_attempt_do_not_touch_its_namesake() -> None:
    made = journalled_session(slots=2)
    made.receive(run(1), 0.0)
    made.disconnected(1.0)
    made.receive(descendant("e2"), 2.0)
    namesake = Run(1, 1, "another", b"", epoch="e2")

    assert made.receive(namesake, 3.0) == []  # waits for the end of the old one
    assert made.receive(Halt(1, 1, epoch="e1"), 3.0) == [Stop(1, 1, "")]
    ended = made.ended(1, 1, OK, 4.0)
    assert said(ended) == [Finished(1, 1, OK, "e1")]
    assert made.receive(Settled(((1, 1),)), 5.0) == []  # not of this epoch
    assert made.unsettled == {(1, 1)}

    assert made.receive(Settled(((1, 1),), "e1"), 5.0) == [Start(namesake)]
    assert said(made.begun(1, 1, 6.0)) == [Begun(1, 1)]


def test_what_it_says_of_an_earlier_epochs_attempt_names_the_epoch() -> None:
    made = journalled_session()
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)
    made.disconnected(1.0)
    made.receive(descendant("e2"), 2.0)

    assert said(made.begun(1, 1, 3.0)) == [Begun(1, 1, "e1")]
    assert said(made.decline(2, 1, "no", 3.0)) == [Declined(2, 1, "no", epoch="e1")]


def test_results_are_let_go_when_the_manager_stays_away() -> None:
    made = journalled_session(result_hold_s=100.0)
    made.receive(run(1), 0.0)
    made.receive(run(2), 0.0)
    made.ended(1, 1, OK, 1.0)
    made.disconnected(2.0)
    made.ended(2, 1, OK, 50.0)

    assert made.next_deadline() == 102.0
    assert made.tick(101.0) == []
    (first,) = made.tick(102.0)
    assert isinstance(first, LetGo)
    assert first.attempts == ((1, 1),)
    assert made.unsettled == {(2, 1)}
    made.tick(150.0)
    assert made.unsettled == frozenset()
    assert made.next_deadline() is None


def test_a_manager_that_comes_back_in_time_gets_the_results_however_long_it_takes_them() -> None:
    made = journalled_session(result_hold_s=10.0)
    made.receive(run(1), 0.0)
    made.disconnected(1.0)
    made.ended(1, 1, OK, 2.0)
    made.connected(3.0)
    made.receive(descendant("e2"), 3.0)

    made.receive(Heartbeat(), 100.0)
    made.tick(100.0)

    assert made.unsettled == {(1, 1)}


def test_a_drained_worker_without_a_manager_leaves_when_its_results_are_let_go() -> None:
    made = journalled_session(result_hold_s=10.0)
    made.receive(run(1), 0.0)
    made.leave(0.0)
    made.disconnected(1.0)
    made.ended(1, 1, OK, 2.0)

    assert [type(command) for command in made.tick(12.0)] == [LetGo, Quit]


def test_an_orphan_wider_than_a_slot_leaves_no_room_ahead() -> None:
    made = WorkerSession("w", 2, ahead=2)
    made.offer(REGISTER, 0.0)
    made.connected(0.0)
    made.receive(descendant("e1", "l1"), 0.0)
    made.receive(run(1, cpus=2), 1.0)
    made.disconnected(2.0)
    made.connected(3.0)
    made.receive(descendant("e2", "l2"), 3.0)
    fresh = Run(7, 1, "t7", b"", 1, epoch="e2")

    assert made.receive(fresh, 4.0) == []
    assert made.ended(1, 1, OK, 5.0) == [Start(fresh)]
