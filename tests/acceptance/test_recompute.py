"""Recompute servers under load, loss and bad configuration, with the installed commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.host.processes import children

from .recompute_machines import Servers, alive, answers, shares


@pytest.fixture
def servers(machine: Any, tmp_path: Path, until: Callable[..., None]) -> Iterator[Servers]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    made = Servers(machine, tmp_path, f"tcp://{address}")
    made.start()
    yield made
    for worker in made.workers.values():
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGCONT)


def test_requests_are_shared_evenly_and_a_killed_workers_are_answered_by_others(
    servers: Servers, until: Callable[..., None]
) -> None:
    for name in ("a", "b", "c"):
        servers.worker(name, slots=4)
    until(lambda: servers.ready("a", "b", "c"), "three warm workers", servers.logs)

    began = time.monotonic()
    calm = servers.run([{"ms": 500, "deadline_ms": 60_000}] * 60)
    took = time.monotonic() - began

    assert {reply["status"] for reply in calm} == {"ok"}
    count = shares(calm)
    assert max(count.values()) / min(count.values()) <= 1.3, count
    assert took <= 1.3 * (60 * 0.5 / 12) + 2.0, "the process's own start and the last round included"

    running = servers.begin(servers.file([{"ms": 500, "deadline_ms": 60_000}] * 60))
    until(lambda: servers.status()["b"]["pending"] > 0, "work at b", servers.logs)
    resident = children(servers.workers["b"].pid)
    servers.workers["b"].kill()
    replies = answers(running)

    assert [reply["status"] for reply in replies] == ["ok"] * 60
    again = [reply for reply in replies if reply["attempts"] == 2]
    assert again
    assert "b" not in shares(again)
    until(lambda: not any(map(alive, resident)), "end of the killed worker's processes", servers.logs)


def test_a_stopped_worker_costs_little_is_shown_and_comes_back_by_itself(
    servers: Servers, until: Callable[..., None]
) -> None:
    for name in ("a", "b"):
        servers.worker(name, slots=2)
    until(lambda: servers.ready("a", "b"), "two warm workers", servers.logs)
    running = servers.begin(servers.file([{"ms": 50, "deadline_ms": 30_000}] * 100))
    until(lambda: servers.status()["b"]["served"] > 0, "answers of b", servers.logs)
    os.kill(servers.workers["b"].pid, signal.SIGSTOP)

    replies = answers(running)

    assert {reply["status"] for reply in replies} == {"ok"}
    assert max(reply["queue_ms"] for reply in replies) < 5000
    assert servers.status().get("b", {"state": "silent"})["state"] == "silent"
    os.kill(servers.workers["b"].pid, signal.SIGCONT)
    until(lambda: servers.ready("b"), "b again", servers.logs)
    assert shares(servers.run([{"ms": 100}] * 8, "--max-cores", "4"))["b"] > 0


def test_a_request_that_does_not_end_is_dropped_with_its_process_and_the_answer_says_who_had_it(
    servers: Servers, until: Callable[..., None]
) -> None:
    servers.worker("a")
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    (before,) = servers.run([{"ms": 1}])

    began = time.monotonic()
    (reply,) = servers.run([{"ms": 60_000, "deaf": True, "deadline_ms": 1500}])

    assert time.monotonic() - began < 20
    assert reply["status"] == "deadline"
    assert reply["attempts"] <= 3
    assert "attempt" in reply["reason"]
    assert "a " in reply["reason"]
    until(lambda: not alive(before["pid"]), "end of the process that was deaf", servers.logs)
    (after,) = servers.run([{"ms": 1, "deadline_ms": 20_000}])
    assert after["status"] == "ok"


def test_weights_and_reserves(servers: Servers, until: Callable[..., None]) -> None:
    servers.worker("a", "--weight", "3", slots=4)
    servers.worker("b", "--weight", "1", slots=4)
    servers.worker("c", "--tier", "1", slots=4)
    until(lambda: servers.ready("a", "b", "c"), "three warm workers", servers.logs)
    load = [{"ms": 40, "deadline_ms": 30_000}] * 80

    count = shares(servers.run(load, "--max-cores", "4"))
    assert 2.4 <= count["a"] / count["b"] <= 3.6, count
    assert count["c"] == 0

    for name in ("a", "b"):
        os.kill(servers.workers[name].pid, signal.SIGTERM)
    until(lambda: not servers.status().keys() & {"a", "b"}, "only the reserve", servers.logs)
    assert shares(servers.run(load[:8], "--max-cores", "4")) == {"c": 8}

    servers.worker("a", slots=4)
    until(lambda: servers.ready("a"), "a again", servers.logs)
    assert shares(servers.run(load[:8], "--max-cores", "4")) == {"a": 8}


def test_no_more_run_at_a_time_than_there_are_slots_and_the_rest_waits(
    servers: Servers, until: Callable[..., None]
) -> None:
    servers.worker("a", slots=4)
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    requests = [{"ms": 100, "deadline_ms": 60_000}] * 24

    for together, least_s in ((1, 2.4), (4, 0.6), (24, 0.6)):
        began = time.monotonic()
        replies = servers.run(requests, "--max-cores", str(together))
        assert [reply["status"] for reply in replies] == ["ok"] * 24
        assert time.monotonic() - began >= least_s
        assert len({reply["pid"] for reply in replies}) <= 4
    assert max(reply["queue_ms"] for reply in replies) > 300, "the last ones have waited at the manager"


@pytest.mark.parametrize("given", ["flag", "environment", "alias", "file"])
def test_a_list_of_hosts_can_be_given_in_every_way(
    servers: Servers, until: Callable[..., None], given: str
) -> None:
    servers.worker("a")
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    port = servers.address.rpartition(":")[2]
    names = {"environment": "CF_RECOMPUTE_HOST", "alias": "CHIAPOS_RECOMPUTE_HOST"}
    if given in names:
        # The port of the second comes from the port's own variable.
        ports = {"environment": "CF_RECOMPUTE_PORT", "alias": "CHIAPOS_RECOMPUTE_PORT"}
        servers.machine.environ |= {names[given]: f"localhost:{port},127.0.0.1", ports[given]: port}
    elif given == "file":
        config = servers.machine.home / "config" / "config.toml"
        config.write_text(f'recompute-host = "localhost:{port}"\n')
    options = ("--hosts", f"localhost:{port}") if given == "flag" else ()

    (reply,) = servers.run([{"ms": 1}], *options)

    assert reply["status"] == "ok"


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("a, b", "' b'"),
        ("CHIAPOS_RECOMPUTE_HOST=a", "CHIAPOS_RECOMPUTE_HOST=a"),
        ("a,,b", "''"),
        ("a:b", "a:b"),
    ],
)
def test_a_malformed_list_is_refused_at_the_start_with_the_word_that_is_wrong(
    machine: Any, tmp_path: Path, text: str, token: str
) -> None:
    (tmp_path / "r.jsonl").write_text('{"kernel": "hash.search"}\n')
    machine.environ["CHIAPOS_RECOMPUTE_HOST"] = text

    done = machine.call("cf-recompute", "run", "r.jsonl", cwd=tmp_path)

    assert done.returncode == 3
    assert "CHIAPOS_RECOMPUTE_HOST" in done.stderr
    assert token in done.stderr


def test_a_server_that_was_not_joined_is_refused_with_the_line_that_joins(
    machine: Any, tmp_path: Path
) -> None:
    (tmp_path / "r.jsonl").write_text('{"kernel": "hash.search"}\n')

    done = machine.call("cf-recompute", "run", "r.jsonl", "--hosts", "127.0.0.1:1", cwd=tmp_path)

    assert done.returncode == 6
    assert "majordomo join" in done.stderr


def test_lines_that_are_no_requests_are_answered_in_their_place(
    servers: Servers, until: Callable[..., None]
) -> None:
    servers.worker("a")
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    path = servers.folder / "mixed.jsonl"
    good = '{"kernel": "test.sleep", "ms": 1, "id": "first"}'
    path.write_text(
        f'{good}\nnonsense\n[1]\n{{"kernel": "test.slep"}}\n{{"kernel": "test.sleep", "ms": "x"}}\n'
    )

    done = servers.machine.call("cf-recompute", "run", str(path), cwd=servers.folder)

    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [one["status"] for one in said] == ["ok"] + ["bad_request"] * 4
    assert said[0]["id"] == "first"
    for one, words in zip(said[1:], ("line 2", "line 3", "did you mean 'test.sleep'", "`ms`"), strict=True):
        assert words in one["reason"]


def test_one_command_makes_a_server(machine: Any, tmp_path: Path, until: Callable[..., None]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    servers = Servers(machine, tmp_path, "")
    worker = machine.start(
        *("cf-worker", "--capability", "recompute", "--slots", "1", "--no-monitor", "--name", "a"),
        *("--serve", f"127.0.0.1:{port}"),
    )
    until(lambda: servers.ready("a"), "a warm server", servers.logs)
    (reply,) = servers.run([{"ms": 1}], "--hosts", f"127.0.0.1:{port}")
    assert reply["status"] == "ok"
    assert "test.sleep took" in servers.logs()

    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(20)

    assert servers.status() == {}, "the manager has ended with it"
