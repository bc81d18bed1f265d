from __future__ import annotations

from computefarm.journal.history import RunRow, TaskRow
from computefarm.majordomo.accounts import Account, state_of, why_json, why_text
from computefarm.majordomo.presentation import (
    Offering,
    history_json,
    history_text,
    offering_json,
    offering_text,
    status_json,
    status_text,
    table,
)
from computefarm.messages import (
    Attempt,
    Explanation,
    HostStatus,
    Obstacle,
    Offer,
    Outcome,
    Pool,
    Status,
    WorkerStatus,
)

GCC = Offer("gcc", "12.2.0", "abc", (("target", "x86_64-linux-gnu"),))
HOST = HostStatus("h1", "nn01", True, 0.25, 4, 8 * 2**30, 2 * 2**30, 0, 1.5, "")
WORKER = WorkerStatus("w1", "h1", "nn01", (GCC,), 2, 1, "busy", 0, 1.0, 7, 1)
STATUS = Status("lab", "0.1.0", 12.3456, (HOST,), (WORKER,), 3, 1)
LOST = Attempt(1, "w1", "nn01", "lost", "silent for 9 s", 10.0, 2.0)
WON = Attempt(2, "w2", "nn02", "succeeded", "", 12.0, 0.5)
RUN = RunRow("r1", "/p", "dodo.py", "lab", 7, 100.0, 102.5, 1, 2)
ROW = TaskRow(
    task="compile:lvm",
    outcome=Outcome.SUCCEEDED,
    capability="gcc",
    host="nn02",
    worker="w2",
    attempt=2,
    attempts=(LOST, WON),
    exit_code=0,
    queued_s=0.2,
    run_s=0.5,
    bytes_in=10,
    bytes_out=20,
    rerun=("lvm.c changed",),
)
FAILED = TaskRow(
    task="compile:lapi",
    outcome=Outcome.FAILED,
    capability="gcc",
    host="nn01",
    worker="w1",
    attempt=1,
    attempts=(Attempt(1, "w1", "nn01", "failed", "exit code 1"),),
    reason="exit code 1",
    exit_code=1,
    log_path="/l/compile:lapi.log",
)


def test_status_json_has_every_promised_field_under_its_name() -> None:
    found = status_json(STATUS, "tcp://127.0.0.1:1")

    assert list(found) == [
        "farm", "address", "version", "uptime_s", "hosts", "workers", "tasks", "journal", "requests",
    ]  # fmt: skip
    [host], [worker] = found["hosts"], found["workers"]
    promised = [
        "host",
        "online",
        "load",
        "cpus",
        "memory_total",
        "memory_available",
        "gpus",
        "last_report_s",
        "policy",
    ]
    assert list(host)[: len(promised)] == promised
    assert (host["host"], host["online"], host["load"], host["last_report_s"]) == ("h1", True, 0.25, 1.5)
    promised = [
        "worker",
        "host",
        "capabilities",
        "slots",
        "running",
        "state",
        "tier",
        "weight",
        "done",
        "failed",
    ]
    assert list(worker)[: len(promised)] == promised
    assert worker["capabilities"]["gcc"]["version"] == "12.2.0"
    assert worker["capabilities"]["gcc"]["fingerprint"] == "abc"
    assert (worker["slots"], worker["running"], worker["done"], worker["failed"]) == (2, 1, 7, 1)
    assert found["tasks"] == {"waiting": 3, "running": 1}


def test_status_is_a_short_page_for_people() -> None:
    assert status_text(STATUS, "tcp://127.0.0.1:1") == [
        "farm lab at tcp://127.0.0.1:1, version 0.1.0, up 12.3 s",
        "tasks: 3 waiting, 1 running",
        "",
        "HOST  LOAD  CPUS  MEMORY FREE         GPUS  REPORT",
        "nn01  0.25  4     2.0 GiB of 8.0 GiB  0     1.5 s ago",
        "",
        "WORKER  HOST  STATE  RUNNING  DONE  FAILED  OFFERS",
        "w1      nn01  busy   1/2      7     1       gcc 12.2.0",
    ]


def test_a_silent_host_and_an_empty_farm_are_said() -> None:
    silent = HostStatus("h2", "", False, None, 0, 0, 0, 0, None, "")
    text = status_text(Status("lab", "0.1.0", 1.0, (silent,), (), 0, 0), "tcp://127.0.0.1:1")

    assert "h2    -     0     -            0     offline (never)" in text
    assert text[-1] == "no worker is connected; start one:  cf-worker --capability shell"


def test_without_a_farm_status_says_what_runs_then() -> None:
    text = status_text(Status("local", "0.1.0", 0.0, (HOST,), (), 0, 0), "")

    assert text[0] == "no farm is configured: `majordomo run` uses the embedded farm on this machine"
    assert not any("WORKER" in line for line in text)


def test_what_is_offered_and_what_is_not() -> None:
    offering = Offering(
        "lab", (Pool(GCC, "linux-x86_64", 4, ("w1", "w2")),), {"python": ("python3: not found",)}
    )

    assert offering_json(offering) == {
        "farm": "lab",
        "capabilities": {
            "gcc": [
                {
                    "version": "12.2.0",
                    "fingerprint": "abc",
                    "tags": {"target": "x86_64-linux-gnu"},
                    "platform": "linux-x86_64",
                    "slots": 4,
                    "workers": ["w1", "w2"],
                    "only_actions": [],
                }
            ]
        },
        "missing": {"python": ["python3: not found"]},
        "described": {},
    }
    assert offering_text(offering) == [
        "farm lab offers:",
        "CAPABILITY  VERSION  SLOTS  WORKERS  PLATFORM      TAGS",
        "gcc         12.2.0   4      w1, w2   linux-x86_64  target=x86_64-linux-gnu",
        "not offered: python: python3: not found",
    ]
    assert offering_text(Offering("local", (), {})) == ["this machine offers nothing"]


def test_history_json_has_every_promised_field_under_its_name() -> None:
    found = history_json(RUN, [ROW], "ended")

    assert list(found)[:5] == ["run", "started", "ended", "exit", "tasks"]
    assert (found["run"], found["started"], found["ended"], found["exit"]) == ("r1", 100.0, 102.5, 1)
    [task] = found["tasks"]
    promised = [
        "task",
        "outcome",
        "capability",
        "host",
        "worker",
        "attempt",
        "attempts",
        "cached",
        "reason",
        "exit_code",
        "queued_s",
        "run_s",
        "bytes_in",
        "bytes_out",
    ]
    assert list(task)[: len(promised)] == promised
    assert task["outcome"] == "succeeded"
    assert type(task["outcome"]) is str
    assert (task["attempt"], task["cached"], task["exit_code"]) == (2, False, 0)
    assert [(one["attempt"], one["outcome"], one["host"]) for one in task["attempts"]] == [
        (1, "lost", "nn01"),
        (2, "succeeded", "nn02"),
    ]


def test_history_shows_lost_attempts_and_reasons_under_their_task() -> None:
    cached = TaskRow("link", Outcome.SUCCEEDED, "gcc", cached=True, run_s=9.0)
    text = history_text(RUN, [ROW, FAILED, cached], "ended")

    assert text[0].startswith("run r1 of ")
    assert text[0].endswith(" on farm lab: exit 1, 2.5 s, 2 tasks")
    assert text[1:] == [
        "OUTCOME     TASK          CAPABILITY  WHERE      ATTEMPT  TOOK",
        "succeeded   compile:lvm   gcc         nn02 (w2)  2        0.50 s",
        "    attempt 1 on nn01 (w1): lost: silent for 9 s",
        "    attempt 2 on nn02 (w2): succeeded",
        "failed      compile:lapi  gcc         nn01 (w1)",
        "    exit code 1",
        "from cache  link          gcc",
    ]


def test_a_run_without_an_end_was_killed_or_goes_on() -> None:
    open_run = RunRow("r1", "/p", "dodo.py", "local", 7, 100.0)

    assert history_text(open_run, [], "killed")[0].endswith("it was killed, 0 tasks")
    assert history_text(open_run, [], "running")[0].endswith("still running, 0 tasks")
    assert history_json(open_run, [], "killed")["ended"] is None
    assert history_json(open_run, [], "killed")["exit"] is None


def test_why_json_after_the_run() -> None:
    found = why_json(Account("compile:lvm", None, ((RUN, ROW),)))

    assert list(found)[:5] == ["task", "state", "rerun", "waiting", "attempts"]
    assert (found["task"], found["state"], found["rerun"], found["waiting"]) == (
        "compile:lvm",
        "succeeded",
        ["lvm.c changed"],
        [],
    )
    assert [one["outcome"] for one in found["attempts"]] == ["lost", "succeeded"]
    assert (found["run"], found["host"], found["worker"]) == ("r1", "nn02", "w2")


def test_why_a_task_waits_names_each_place() -> None:
    live = Explanation(
        "t", "waiting", (Obstacle("worker", "w1", "gcc 12.2.0 < 99"), Obstacle("host", "nn02", "busy"))
    )
    account = Account("t", live, ())

    assert why_json(account)["waiting"] == [
        {"worker": "w1", "reason": "gcc 12.2.0 < 99"},
        {"host": "nn02", "reason": "busy"},
    ]
    assert why_text(account) == [
        "t: waiting",
        "  waits: worker w1: gcc 12.2.0 < 99",
        "  waits: host nn02: busy",
    ]


def test_why_a_task_runs_now_shows_its_attempts() -> None:
    live = Explanation("t", "running", (), (LOST, Attempt(2, "w2", "nn02", "running")))

    assert why_text(Account("t", live, ()))[1:] == [
        "  now: attempt 1 on nn01 (w1): lost: silent for 9 s",
        "  now: attempt 2 on nn02 (w2): running",
    ]


def test_why_it_failed_has_the_reason_the_last_lines_and_the_log() -> None:
    assert why_text(Account("compile:lapi", None, ((RUN, FAILED),), ("lapi.c:1: error",))) == [
        "compile:lapi: failed",
        "  ran on nn01 (w1) for 0.00 s, after 0.00 s in the queue:"
        " it offered gcc and was expected to finish it first",
        "  failed: exit code 1",
        "   | lapi.c:1: error",
        "  full log: /l/compile:lapi.log",
    ]


def test_an_up_to_date_task_is_told_from_the_run_that_made_it() -> None:
    latest = RunRow("r2", "/p", "dodo.py", "lab", 7, 200.0)
    fresh = TaskRow("compile:lvm", Outcome.UP_TO_DATE)
    account = Account("compile:lvm", None, ((latest, fresh), (RUN, ROW)))

    assert state_of(account) == "up-to-date"
    assert why_json(account)["run"] == "r1"
    assert "  it was up to date in the last run; what follows is from run r1" in why_text(account)
    assert "  ran because: lvm.c changed" in why_text(account)
    assert why_text(Account("t", None, ((latest, fresh),)))[1].startswith("  no recorded run has executed it")


def test_a_task_that_came_from_the_cache_or_ran_here_says_so() -> None:
    cached = TaskRow("a", Outcome.SUCCEEDED, "gcc", cached=True)
    local = TaskRow("b", Outcome.SUCCEEDED, run_s=0.5)

    assert "result cache" in why_text(Account("a", None, ((RUN, cached),)))[1]
    assert why_text(Account("b", None, ((RUN, local),)))[1] == "  ran here, without a capability, for 0.50 s"


def test_a_slow_run_is_compared_with_the_earlier_ones() -> None:
    def took(run_s: float) -> tuple[RunRow, TaskRow]:
        return RUN, TaskRow("t", Outcome.SUCCEEDED, run_s=run_s)

    assert why_text(Account("t", None, (took(3.0), took(1.0), took(0.9))))[-1] == (
        "  slow: 3.0 s, where 1.0 s is usual over 2 earlier runs"
    )
    assert "slow" not in why_text(Account("t", None, (took(1.5), took(1.0), took(0.9))))[-1]


def test_a_task_that_never_ran_has_no_more_to_tell() -> None:
    assert why_text(Account("t", None, ())) == ["t: never run"]
    assert why_json(Account("t", None, ()))["attempts"] == []


def test_columns_without_content_are_left_out() -> None:
    assert table([["A", "B", "C"], ["1", "", "3"]]) == ["A  C", "1  3"]


# --- kinds of failure ---------------------------------------------------------------------------------


TAIL = "cc1: out of memory\nallocating 65536 bytes\n"
DIED = Attempt(1, "w1", "vm", "failed", "killed: out of memory, peak 3.9 GB", 5.0, 2.0, "out-of-memory", TAIL)


def test_a_failure_is_told_with_its_kind_place_attempt_and_last_lines() -> None:
    again = Attempt(2, "w2", "big", "failed", "exit status 1: cc", 7.0, 2.0, "exit", "x.c:1: error\n")
    row = TaskRow(
        "t",
        Outcome.FAILED,
        "gcc",
        "big",
        "w2",
        2,
        (DIED, again),
        reason="exit status 1: cc",
        exit_code=1,
        kind="exit",
    )

    text = "\n".join(history_text(RUN, [row], "ended"))
    assert "attempt 1 on vm (w1): failed (out of memory): killed: out of memory, peak 3.9 GB" in text
    assert "| x.c:1: error" in text
    account = Account("t", None, ((RUN, row),))
    told = "\n".join(why_text(account))
    assert "attempt 1 on vm (w1): failed (out of memory)" in told
    assert "| x.c:1: error" in told
    found = why_json(account)
    assert [one["kind"] for one in found["attempts"]] == ["out-of-memory", "exit"]
    assert found["attempts"][0]["reason"] == "killed: out of memory, peak 3.9 GB"
    assert found["attempts"][0]["tail"] == TAIL
    assert (found["kind"], found["tail"]) == ("exit", "x.c:1: error\n")
    [task] = history_json(RUN, [row], "ended")["tasks"]
    assert (task["kind"], task["tail"], task["host"], task["attempt"]) == ("exit", "x.c:1: error\n", "big", 2)


def test_a_worker_that_takes_no_work_is_shown_with_the_reason() -> None:
    worker = WorkerStatus(
        "w1", "h1", "vm", (), 2, 0, "quarantined", 0, 1.0, 0, 5, "5 tasks failed in 3 s; back in 50 s"
    )
    status = Status("lab", "1", 9.0, (), (worker,), 0, 0, "no space left on the manager's disk")

    text = "\n".join(status_text(status, "tcp://127.0.0.1:1"))
    assert "quarantined" in text
    assert "5 tasks failed in 3 s; back in 50 s" in text
    assert "its journal is in trouble: no space left" in text
    assert status_json(status, "x")["workers"][0]["reason"] == "5 tasks failed in 3 s; back in 50 s"
