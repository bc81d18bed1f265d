"""Recompute servers under load, loss and bad configuration: real processes, a kernel that sleeps."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from computefarm.host.processes import children
from computefarm.recompute import Answer, AsyncClient
from computefarm.transport.farms import Access, farms_folder, read_access, write_access

from .conftest import Machine, wait_for
from .recompute_machines import Servers, alive, free_address, right, shares


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One TaskManager for all tests here."""
    folder = tmp_path_factory.mktemp("rc")
    made = Servers(Machine(folder / "home"), folder, free_address())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "kernels"))
        made.manager = made.start()
        wait_for(lambda: "farm 'default'" in made.logs(), "the manager", made.logs)
        yield made
    made.machine.stop()


@pytest.fixture
def servers(farm: Servers) -> Iterator[Servers]:
    """The manager, without any worker."""
    yield farm
    for worker in farm.workers.values():
        if worker.poll() is None:
            os.kill(worker.pid, signal.SIGCONT)
            worker.terminate()
    for worker in farm.workers.values():
        worker.wait(20)
    wait_for(lambda: not farm.status(), "end of all workers", farm.logs)
    farm.workers.clear()


Until = Callable[..., None]


def results(futures: list[Future[Answer]]) -> list[Answer]:
    return [future.result(60) for future in futures]


# --- S1: fault-tolerant balancing -------------------------------------------------------------------------


def test_s1_requests_are_shared_evenly_and_a_killed_workers_are_answered_by_others(
    servers: Servers, until: Until
) -> None:
    for name in ("a", "b", "c"):
        servers.worker(name, slots=4)
    until(lambda: servers.ready("a", "b", "c"), "three warm workers", servers.logs)

    began = time.monotonic()
    calm = servers.ask(60, ms=500)
    took = time.monotonic() - began

    count = shares(calm)
    assert max(count.values()) / min(count.values()) <= 1.3, count
    assert took <= 1.3 * (60 * 0.5 / 12) + 1.0, "a connection and the last round included"

    requests = servers.requests(60, ms=500)
    with servers.client() as client:
        futures = [client.submit(request) for request in requests]
        until(lambda: servers.status()["b"]["pending"] > 0, "work at b", servers.logs)
        residents = children(servers.workers["b"].pid)
        servers.workers["b"].kill()
        answers = results(futures)

    assert right(requests, answers)
    again = [answer for answer in answers if answer.attempts == 2]
    assert again
    assert "b" not in shares(again)
    until(lambda: not any(map(alive, residents)), "end of the killed worker's processes", servers.logs)


# --- S2: black-holed node ---------------------------------------------------------------------------------


def test_s2_a_stopped_worker_is_shown_costs_the_others_nothing_and_comes_back_by_itself(
    servers: Servers, until: Until
) -> None:
    for name in ("a", "b"):
        servers.worker(name, slots=2)
    until(lambda: servers.ready("a", "b"), "two warm workers", servers.logs)
    requests = servers.requests(60, ms=50)
    with servers.client() as client:
        futures = [client.submit(request) for request in requests]
        futures[3].result()
        os.kill(servers.workers["b"].pid, signal.SIGSTOP)
        until(lambda: servers.status()["b"]["state"] == "silent", "b, silent", servers.logs, 4)
        answers = results(futures)
    assert right(requests, answers)
    assert max(answer.queue_ms for answer in answers) < 5000

    began = time.monotonic()
    alone = servers.ask(40, ms=50)
    assert time.monotonic() - began <= 1.1 * 40 * 0.05 / 2 + 1.0
    assert shares(alone) == {"a": 40}

    os.kill(servers.workers["b"].pid, signal.SIGCONT)
    until(lambda: servers.ready("b"), "b again", servers.logs)
    assert shares(servers.ask(8, ms=100, in_flight=4))["b"] > 0


def test_s2_a_host_that_never_answers_costs_no_request_anything_beside_one_that_does(
    servers: Servers, until: Until
) -> None:
    servers.worker("a")
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()  # connections are made by the kernel, and nobody ever reads
        address = f"127.0.0.1:{hole.getsockname()[1]}"
        known = read_access(farms_folder(servers.home) / "default" / "access.json")
        keys = known.folder.parent / "hole" / "keys"
        keys.mkdir(parents=True, mode=0o700)
        keys.parent.chmod(0o700)
        (keys / "client.key").write_bytes((known.folder / "keys" / "client.key").read_bytes())
        (keys / "client.key").chmod(0o600)
        write_access(Access("hole", f"tcp://{address}", known.server_key, keys.parent))

        with servers.client(f"{address},{servers.host}") as client:
            for request in servers.requests(5, ms=1):
                began = time.monotonic()
                assert client.compute(request).status == "ok"
                assert time.monotonic() - began < 2.0
        with servers.client(address) as client:
            began = time.monotonic()
            first, second = (client.compute(request) for request in servers.requests(2, ms=1))
            assert 1.9 <= time.monotonic() - began < 4.0, "the connect timeout, once"
    shutil.rmtree(keys.parent)  # or this home would know several farms
    assert (first.status, second.status) == ("error", "error")
    assert f"{address}: no answer within 2000 ms" in second.reason


# --- S3: request timeout and fail-over cap ----------------------------------------------------------------


def test_s3_a_request_that_does_not_end_is_dropped_with_all_its_processes_and_the_answer_says_who_had_it(
    servers: Servers, until: Until
) -> None:
    servers.worker("a")
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    with servers.client() as client:
        before = client.compute(*servers.requests(1, ms=1, child=True))
        child = before.values["child"]
        (request,) = servers.requests(1, ms=60_000, deaf=True, child=True, deadline_ms=1500)
        began = time.monotonic()
        answer = client.compute(request)

        assert time.monotonic() - began < 20
        assert answer.status == "deadline"
        assert answer.attempts <= 3
        assert "1 attempt" in answer.reason
        assert "a " in answer.reason
        until(lambda: not alive(before.values["pid"]), "end of the process that was deaf", servers.logs)
        until(lambda: ended(child), "end of what it had started", servers.logs)
        assert client.compute(*servers.requests(1, ms=1)).status == "ok"


def test_s3_a_request_that_kills_its_process_is_given_to_three_workers_and_no_more(
    servers: Servers, until: Until
) -> None:
    names = ("a", "b", "c", "d")
    for name in names:
        servers.worker(name)
    until(lambda: servers.ready(*names), "four warm workers", servers.logs)
    requests = servers.requests(20, ms=30)
    with servers.client() as client:
        futures = [client.submit(request) for request in requests]
        bad = client.compute(*servers.requests(1, ms=1, die=True))
        answers = results(futures)

    assert right(requests, answers), "nobody else's request is harmed"
    assert (bad.status, bad.attempts) == ("error", 3)
    assert bad.reason.count("was killed by signal 11") == 3
    assert sum(f"{name}: " in bad.reason for name in names) == 3


# --- S4: tiers and weights --------------------------------------------------------------------------------


def test_s4_weights_and_reserves(servers: Servers, until: Until) -> None:
    servers.worker("a", "--weight", "3", slots=2)
    servers.worker("b", "--weight", "1", slots=2)
    servers.worker("c", "--tier", "1", slots=2)
    until(lambda: servers.ready("a", "b", "c"), "three warm workers", servers.logs)

    count = shares(servers.ask(80, ms=20, in_flight=2))
    assert 2.4 <= count["a"] / count["b"] <= 3.6, count
    assert count["c"] == 0

    for name in ("a", "b"):
        os.kill(servers.workers[name].pid, signal.SIGTERM)
    until(lambda: not servers.status().keys() & {"a", "b"}, "only the reserve", servers.logs)
    assert shares(servers.ask(8, ms=20, in_flight=2)) == {"c": 8}

    servers.worker("a", slots=2)
    until(lambda: servers.ready("a"), "a again", servers.logs)
    assert shares(servers.ask(8, ms=20, in_flight=2)) == {"a": 8}


# --- S6: concurrency, memory ------------------------------------------------------------------------------


def test_s6_no_more_run_at_a_time_than_there_are_slots_or_memory_for(servers: Servers, until: Until) -> None:
    servers.worker("a", slots=4)
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)

    for together, least_s in ((1, 1.2), (4, 0.3), (24, 0.3)):
        began = time.monotonic()
        answers = servers.ask(12, ms=100, in_flight=together)
        assert time.monotonic() - began >= least_s
        assert len({answer.values["pid"] for answer in answers}) <= 4
        assert busiest(answers) <= min(together, 4)
    assert max(answer.queue_ms for answer in answers) > 150, "the last ones have waited at the manager"

    total = psutil.virtual_memory().total
    large, small = (servers.requests(6, ms=60, memory=int(total * share)) for share in (0.35, 0.01))
    with servers.client(max_in_flight=12) as client:
        answers = list(client.map([*large, *small]))
        assert right([*large, *small], answers)
        too_large = client.compute(*servers.requests(1, ms=1, memory=total))
    assert busiest(answers[:6]) <= 2, "a third of the memory each"
    assert too_large.status == "error"
    assert "for requests, this one needs" in too_large.reason


# --- S7: one host or a list, from anywhere ----------------------------------------------------------------


def test_s7_a_list_of_hosts_can_be_given_in_every_way(servers: Servers, until: Until) -> None:
    servers.worker("a")
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    port = servers.host.rpartition(":")[2]
    config = servers.machine.home / "config" / "config.toml"
    ways: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
        "flag": ({}, "", ("--hosts", f"localhost:{port}")),
        # The port of the second comes from the port's own variable.
        "environment": ({"CF_RECOMPUTE_HOST": "localhost,127.0.0.1", "CF_RECOMPUTE_PORT": port}, "", ()),
        "alias": ({"CHIAPOS_RECOMPUTE_HOST": "localhost", "CHIAPOS_RECOMPUTE_PORT": port}, "", ()),
        "file": ({}, f'recompute-host = "localhost:{port}"\n', ()),
    }
    for way, (variables, text, options) in ways.items():
        config.write_text(text)
        answers = run_file(servers, servers.requests(1, ms=1), *options, **variables)
        assert [answer["status"] for answer in answers] == ["ok"], way
    config.unlink()


@pytest.mark.parametrize(
    ("name", "text", "token"),
    [
        ("CHIAPOS_RECOMPUTE_HOST", "a, b", "' b'"),
        ("CHIAPOS_RECOMPUTE_HOST", "CHIAPOS_RECOMPUTE_HOST=a", "CHIAPOS_RECOMPUTE_HOST=a"),
        ("CHIAPOS_RECOMPUTE_PORT", "x", "x"),
        ("CF_RECOMPUTE_TIMEOUT", "5s", "5s"),
    ],
)
def test_s7_a_malformed_value_is_refused_at_the_start_with_the_word_that_is_wrong(
    machine: Any, tmp_path: Path, name: str, text: str, token: str
) -> None:
    (tmp_path / "r.jsonl").write_text('{"kernel": "hash.search"}\n')
    machine.environ[name] = text

    done = machine.call("cf-recompute", "run", "r.jsonl", cwd=tmp_path)

    assert done.returncode == 3
    assert name in done.stderr
    assert token in done.stderr


def test_s7_a_server_that_was_not_joined_is_refused_with_the_line_that_joins(
    machine: Any, tmp_path: Path
) -> None:
    (tmp_path / "r.jsonl").write_text('{"kernel": "hash.search"}\n')

    done = machine.call("cf-recompute", "run", "r.jsonl", "--hosts", "127.0.0.1:1", cwd=tmp_path)

    assert done.returncode == 6
    assert "majordomo join" in done.stderr


# --- and more ---------------------------------------------------------------------------------------------


def test_lines_that_are_no_requests_are_answered_in_their_place(servers: Servers, until: Until) -> None:
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


def test_requests_can_be_awaited_and_what_is_cancelled_is_computed_no_more(
    servers: Servers, until: Until
) -> None:
    servers.worker("a", slots=2)
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)

    async def ask() -> list[Answer]:
        async with AsyncClient(servers.host, home=servers.home, settings=servers.settings) as client:
            unwanted = asyncio.create_task(client.compute(*servers.requests(1, ms=60_000)))
            answers = list(await asyncio.gather(*map(client.compute, requests)))
            assert servers.status()["a"]["pending"] == 1
            unwanted.cancel()
            await asyncio.to_thread(
                until, lambda: servers.status()["a"]["pending"] == 0, "its end", servers.logs
            )
            return answers

    requests = servers.requests(10, ms=10)
    assert right(requests, asyncio.run(ask()))


def test_a_killed_manager_that_is_started_again_has_cost_no_request(servers: Servers, until: Until) -> None:
    servers.worker("a", slots=2)
    until(lambda: servers.ready("a"), "a warm worker", servers.logs)
    requests = servers.requests(40, ms=50)
    # A machine that is busy takes its time to start a manager.
    with servers.client(connect_timeout_ms=20_000) as client:
        futures = [client.submit(request) for request in requests]
        futures[3].result()
        servers.manager.kill()
        servers.manager.wait()
        servers.manager = servers.start()
        answers = results(futures)

    assert right(requests, answers)
    assert max(answer.attempts for answer in answers) >= 2
    until(lambda: servers.ready("a"), "the worker again", servers.logs)


def test_one_command_makes_a_server_that_ends_as_a_whole_even_when_it_is_killed(
    machine: Any, tmp_path: Path, farm: Servers, until: Until
) -> None:
    servers = Servers(machine, tmp_path, free_address())
    command = ("cf-worker", "--capability", "recompute", "--slots", "1", "--no-monitor", "--name", "a")
    for kill in (False, True):
        worker = machine.start(*command, "--serve", servers.host)
        until(lambda: servers.ready("a"), "a warm server", servers.logs)
        with servers.client() as client:
            assert client.compute(*servers.requests(1, ms=1)).status == "ok"
            late = client.submit(*servers.requests(1, ms=60_000))
            until(lambda: servers.status()["a"]["pending"] == 1, "a request in hand", servers.logs)
            processes = [process.pid for process in psutil.Process(worker.pid).children(recursive=True)]
            assert len(processes) >= 2, "a manager and a warm process"
            os.kill(worker.pid, signal.SIGKILL if kill else signal.SIGTERM)
            worker.wait(20)
            assert late.result(30).status in ("error", "busy"), "told, long before its deadline"
        until(lambda pids=processes: all(map(ended, pids)), "end of everything it had started", servers.logs)
    assert "test.sleep took" in servers.logs()


# --- looking ----------------------------------------------------------------------------------------------


def busiest(answers: list[Answer]) -> int:
    """Return how many ran at a time, at the most."""
    edges = sorted(edge for one in answers for edge in ((one.values["began"], 1), (one.values["ended"], -1)))
    running = most = 0
    for _, change in edges:
        running += change
        most = max(most, running)
    return most


def ended(pid: int) -> bool:
    """Return whether a process has ended, whoever has to collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run_file(
    servers: Servers, requests: list[dict[str, object]], *options: str, **environ: str
) -> list[dict[str, Any]]:
    """Have the installed command answer a file of requests."""
    path = servers.folder / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(request)}\n" for request in requests))
    done = subprocess.run(
        ["cf-recompute", "run", str(path), *options],
        cwd=servers.folder,
        env={**servers.machine.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
