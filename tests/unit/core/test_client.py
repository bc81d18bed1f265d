from __future__ import annotations

from computefarm.core import client
from computefarm.core.client import (
    ClientCommand,
    ClientSession,
    Linked,
    Reconnect,
    Rejected,
    Say,
    Silent,
    Tell,
)
from computefarm.messages import (
    Accepted,
    Answer,
    Ask,
    Cancel,
    Disconnect,
    Done,
    Heartbeat,
    Need,
    Outcome,
    Placed,
    Result,
    Submit,
    Taken,
    TaskSpec,
    Waiting,
    Want,
    Welcome,
)

SHELL, GCC = Need("shell"), Need("gcc")
WELCOME = Welcome(1, "1", "farm", "e1", 2.0, "p1")


def task(number: int, size: int = 10) -> TaskSpec:
    return TaskSpec(number, f"t{number}", 0, b"x" * size)


def done(number: int) -> Done:
    return Done("s", number, Result(Outcome.SUCCEEDED))


def session() -> ClientSession:
    made = ClientSession("s")
    made.connected(0.0)
    made.receive(WELCOME, 0.0)
    return made


def said(commands: list[ClientCommand]) -> list[object]:
    return [command.message for command in commands if isinstance(command, Say)]


def test_tasks_with_equal_needs_share_an_entry() -> None:
    (submit,) = said(session().submit([(SHELL, task(1)), (GCC, task(2)), (SHELL, task(3))], 1.0))

    assert isinstance(submit, Submit)
    assert submit.needs == (SHELL, GCC)
    assert [spec.need for spec in submit.tasks] == [0, 1, 0]


def test_big_submissions_are_split() -> None:
    by_bytes = said(session().submit([(SHELL, task(n, client.BATCH_BYTES // 2)) for n in range(5)], 1.0))
    assert [len(submit.tasks) for submit in by_bytes] == [2, 2, 1]  # type: ignore[attr-defined]

    by_count = said(session().submit([(SHELL, task(n)) for n in range(client.BATCH_TASKS + 1)], 1.0))
    assert [len(submit.tasks) for submit in by_count] == [client.BATCH_TASKS, 1]  # type: ignore[attr-defined]


def test_what_was_submitted_before_the_welcome_is_sent_after_it() -> None:
    made = ClientSession("s")
    assert made.submit([(SHELL, task(1))], 0.0) == []

    linked, submit = made.receive(WELCOME, 1.0)
    assert linked == Tell(Linked("farm", "1", "e1", "p1"))
    assert submit == Say(Submit("s", (SHELL,), (task(1),)))


def test_only_what_has_not_ended_is_submitted_again() -> None:
    made = session()
    made.submit([(SHELL, task(1)), (SHELL, task(2)), (SHELL, task(3))], 0.0)
    made.receive(done(1), 1.0)
    made.receive(done(2), 1.0)
    made.taken([2], 2.0)
    made.cancel([3], 2.0, "enough")
    made.disconnected(3.0)

    assert said(made.receive(WELCOME, 4.0)) == [
        Taken("s", (2,)),
        Submit("s", (SHELL,), (task(3),)),
        Cancel("s", (3,), "enough"),
    ]


def test_an_end_is_told_once() -> None:
    made = session()
    made.submit([(SHELL, task(1))], 0.0)

    assert made.receive(done(1), 1.0) == [Tell(done(1))]
    assert made.receive(done(1), 1.0) == []
    assert made.taken([1], 2.0) == [Say(Taken("s", (1,)))]
    assert made.receive(done(1), 3.0) == [Say(Taken("s", (1,)))]
    assert made.unfinished == 0


def test_the_same_task_is_not_submitted_twice() -> None:
    made = session()
    made.submit([(SHELL, task(1))], 0.0)

    assert made.submit([(SHELL, task(1))], 1.0) == []


def test_other_sessions_news_are_not_ours() -> None:
    made = session()

    assert made.receive(Placed("other", 1, 1, "w", "h"), 1.0) == []
    assert made.receive(Done("other", 1, Result(Outcome.SUCCEEDED)), 1.0) == []
    assert made.receive(Want((b"a" * 32,)), 1.0) == [Tell(Want((b"a" * 32,)))]


def test_cancelling_everything_names_nothing() -> None:
    made = session()
    made.submit([(SHELL, task(1)), (SHELL, task(2))], 0.0)

    assert said(made.cancel([2, 9], 1.0)) == [Cancel("s", (2,))]
    assert said(made.cancel([], 1.0, "stop")) == [Cancel("s", (), "stop")]


def test_questions_are_asked_again_after_a_reconnect_and_answered_once() -> None:
    made = session()
    number, commands = made.ask("status", 1.0)
    assert said(commands) == [Ask(number, "status")]

    made.disconnected(2.0)
    assert said(made.receive(WELCOME, 3.0)) == [Ask(number, "status")]
    assert made.receive(Answer(number), 4.0) == [Tell(Answer(number))]
    assert made.receive(Answer(number), 4.0) == []


def test_it_beats_only_when_it_has_said_nothing() -> None:
    made = session()
    made.submit([(SHELL, task(1))], 1.0)
    assert made.next_deadline() == 3.0
    assert made.tick(2.9) == []
    assert made.tick(3.0) == [Say(Heartbeat())]


def test_a_silent_manager_is_called_again_and_the_user_told_once() -> None:
    made = session()
    assert [type(command) for command in made.tick(6.0)] == [Reconnect]
    assert made.tick(9.9) == []
    assert made.tick(10.0) == [Tell(Silent(10.0))]
    assert made.tick(20.0) == []
    assert made.next_deadline() is None

    made.receive(WELCOME, 21.0)
    assert made.next_deadline() is not None


def test_some_refusals_are_final() -> None:
    assert session().receive(Disconnect("protocol", "say Hello first"), 1.0) == [Reconnect("say Hello first")]
    assert session().receive(Disconnect("key", "not yours"), 1.0) == [Tell(Rejected("key", "not yours"))]


# --- a manager with a journal -------------------------------------------------------------------------------


def test_it_knows_what_would_survive() -> None:
    made = ClientSession("s")
    made.connected(0.0)
    made.receive(Welcome(1, "1", "farm", "e1", 2.0, lineage="l"), 0.0)
    made.submit([(SHELL, task(1)), (SHELL, task(2))], 0.0)
    assert made.unaccepted == 2

    assert made.receive(Accepted("s", (1, 7)), 1.0) == [Tell(Accepted("s", (1, 7)))]
    assert made.unaccepted == 1
    made.receive(done(1), 1.0)
    made.receive(Welcome(1, "1", "farm", "e2", 2.0, lineage="l"), 2.0)
    made.receive(Accepted("s", (2,)), 3.0)
    assert made.unaccepted == 0

    made.receive(Welcome(1, "1", "farm", "e3", 2.0, lineage="another"), 4.0)
    assert made.unaccepted == 1


def test_what_was_put_off_is_submitted_again_when_the_wait_is_over() -> None:
    made = ClientSession("s")
    made.connected(0.0)
    made.receive(Welcome(1, "1", "farm", "e1", 2.0, lineage="l"), 0.0)
    made.submit([(SHELL, task(1)), (SHELL, task(2))], 0.0)
    made.receive(Accepted("s", (1,)), 1.0)
    over = Waiting("s", (1, 2, 3), SHELL, (), True, True)

    commands = made.receive(over, 2.0)

    assert commands == [Tell(over), Say(Submit("s", (SHELL,), (task(2),)))]


def test_without_a_journal_the_end_of_a_wait_means_nothing_more() -> None:
    made = session()
    made.submit([(SHELL, task(1))], 0.0)
    over = Waiting("s", (1,), SHELL, (), True, True)

    assert made.receive(over, 2.0) == [Tell(over)]


def test_a_session_to_be_left_alone_says_for_how_long() -> None:
    made = ClientSession("s", lease_s=3600.0)
    made.connected(0.0)
    made.receive(WELCOME, 0.0)

    assert made.submit([(SHELL, task(1))], 0.0) == [Say(Submit("s", (SHELL,), (task(1),), 3600.0))]


def test_a_task_accepted_once_and_put_off_after_a_reconnect_is_submitted_again() -> None:
    made = ClientSession("s")
    made.connected(0.0)
    made.receive(Welcome(1, "1", "farm", "e1", 2.0, lineage="l"), 0.0)
    made.submit([(SHELL, task(1))], 0.0)
    made.receive(Accepted("s", (1,)), 1.0)
    made.disconnected(2.0)
    made.connected(90.0)
    made.receive(Welcome(1, "1", "farm", "e1", 2.0, lineage="l"), 90.0)
    over = Waiting("s", (1,), SHELL, (), True, True)

    commands = made.receive(over, 91.0)

    assert commands == [Tell(over), Say(Submit("s", (SHELL,), (task(1),)))]
