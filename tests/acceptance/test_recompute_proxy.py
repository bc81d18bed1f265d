"""A TaskManager that passes requests on to others: one client, one proxy, two farms, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.home import Home
from computefarm.recompute import Answer, Client
from computefarm.settings import load_settings

from .conftest import Machine, wait_for
from .recompute_machines import Servers, free_address


class Proxied:
    """Farms `a` and `b`, the proxy `p` in front of them and of `q`, which is not there at first."""

    def __init__(self, folder: Path, until: Callable[..., None]) -> None:
        self.until = until
        self.here = Machine(folder / "here")
        self.servers = {
            name: Servers(Machine(folder / name), folder, free_address(), farm)
            for name, farm in (("a", "default"), ("b", "default"), ("p", "proxy"), ("q", "default"))
        }
        self.managers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start farms and proxy, and wait until everything may be asked."""
        proxy = self["p"]
        for name in "abq":
            self.managers[name] = self[name].start()
        self["a"].worker("wa", slots=2)
        self["b"].worker("wb", slots=2)
        for name in "abq":
            self.until(lambda name=name: self[name].machine.logs().count("farm 'default'"), "it", self.logs)
            self[name].let_in(proxy.machine)
        self.managers["q"].terminate()
        self.managers["q"].wait(20)
        listed = f"{self['a'].host},{self['b'].host}/weight=1"
        self.managers["p"] = proxy.start("--name", "proxy", "--upstream", listed, f"{self['q'].host}/tier=1")
        self.until(lambda: self.up("a", "b"), "two upstreams", self.logs)
        proxy.let_in(self.here)
        proxy.let_in(self["q"].machine)

    def __getitem__(self, name: str) -> Servers:
        return self.servers[name]

    def upstreams(self) -> dict[str, dict[str, Any]]:
        """Return what the proxy says of its upstreams, by their letter."""
        status = self["p"].status()
        return {name: status.get(self[name].host, {}) for name in "abq"}

    def up(self, *names: str) -> bool:
        """Return whether the proxy asks these."""
        upstreams = self.upstreams()
        return all(upstreams[name].get("state") == "up" for name in names)

    def client(self) -> Client:
        """Return a client that knows the proxy and nobody else."""
        home = Home.find(self.here.environ)
        return Client(self["p"].host, home=home, settings=load_settings({}, {}, home))

    def logs(self) -> str:
        """Return what all services have printed."""
        return "\n".join(each.logs() for each in self.servers.values())

    def stop(self) -> None:
        """End everything."""
        for each in self.servers.values():
            each.machine.stop()


@pytest.fixture(scope="module")
def proxied(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[Proxied]:
    made = Proxied(tmp_path_factory.mktemp("px"), wait_for)
    monkeypatch_module.syspath_prepend(str(made["a"].folder / "kernels"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def requests(count: int, ms: int, **more: object) -> list[dict[str, object]]:
    return [{"kernel": "test.sleep", "ms": ms, "n": n, "deadline_ms": 30_000, **more} for n in range(count)]


def right(answers: list[Answer]) -> bool:
    """Return whether every answer is there, once, and that of its own request."""
    return [(one.status, one.values.get("n")) for one in answers] == [("ok", n) for n in range(len(answers))]


def test_requests_are_balanced_on_the_upstreams_and_status_shows_them(proxied: Proxied) -> None:
    with proxied.client() as client:
        assert client.slots(5.0) >= 4, "what the upstreams grant"
        answers = list(client.map(requests(24, 40)))

    assert right(answers)
    asked = [one.worker for one in answers]
    a, b = (asked.count(f"{proxied[name].host}/w{name}") for name in "ab")
    assert a + b == 24
    assert max(a, b) <= 1.3 * min(a, b)
    upstreams = proxied.upstreams()
    assert all(one["upstream"] for one in upstreams.values())
    assert (upstreams["a"]["served"], upstreams["b"]["served"]) == (a, b)
    assert upstreams["q"]["state"] == "down"
    assert "nothing listens there" in upstreams["q"]["reason"]


def test_equal_requests_are_computed_once_and_deadlines_travel(proxied: Proxied) -> None:
    with proxied.client() as one, proxied.client() as other:
        same = {"kernel": "test.sleep", "ms": 300, "n": "same"}
        first, second = (client.submit(same) for client in (one, other))
        late = one.compute({"kernel": "test.sleep", "ms": 60_000, "n": "late", "deadline_ms": 700})

        assert first.result().merged
        assert first.result().values == second.result().values
    assert late.status == "deadline"
    proxied.until(
        lambda: not any(one["pending"] for name in "ab" for one in proxied[name].status().values()),
        "end of what nobody waits for",
        proxied.logs,
    )


def test_a_killed_upstream_costs_no_request_and_is_asked_again_when_it_is_back(proxied: Proxied) -> None:
    with proxied.client() as client:
        futures = [client.submit(request) for request in requests(60, 50)]
        futures[10].result()
        proxied.managers["a"].kill()
        answers = [future.result() for future in futures]

    assert right(answers)
    assert any(one.attempts == 2 for one in answers), "what the killed one had in hand"
    assert proxied.upstreams()["a"]["state"] == "down"

    proxied.managers["a"] = proxied["a"].start()
    proxied.until(lambda: proxied.up("a", "b"), "it again", proxied.logs)
    with proxied.client() as client:
        proxied.until(
            lambda: any(one.worker.endswith("wa") for one in client.map(requests(8, 20))),
            "answers of it",
            proxied.logs,
        )


def test_a_stopped_upstream_is_found_out_within_the_connect_timeout(proxied: Proxied) -> None:
    with proxied.client() as client:
        futures = [client.submit(request) for request in requests(40, 50)]
        futures[5].result()
        os.kill(proxied.managers["b"].pid, signal.SIGSTOP)
        try:
            answers = [future.result() for future in futures]
        finally:
            os.kill(proxied.managers["b"].pid, signal.SIGCONT)
    assert right(answers)
    assert max(one.queue_ms for one in answers) < 5000
    proxied.until(lambda: proxied.up("a", "b"), "it again", proxied.logs)


@pytest.mark.parametrize("way", ["proxy", "list"])
def test_a_server_whose_last_worker_is_killed_sends_its_requests_back(proxied: Proxied, way: str) -> None:
    both = f"{proxied['a'].host},{proxied['b'].host}"
    with proxied.client() if way == "proxy" else proxied["p"].client(both) as client:
        futures = [client.submit(request) for request in requests(40, 50)]
        futures[5].result()
        proxied["a"].workers["wa"].kill()
        answers = [future.result() for future in futures]
    assert right(answers), [one for one in answers if one.status != "ok"]

    proxied["a"].worker("wa", slots=2)
    proxied.until(lambda: proxied.up("a", "b"), "it again", proxied.logs)


def test_proxies_in_a_circle_do_not_ask_each_other(proxied: Proxied) -> None:
    proxied["q"].start("--upstream", proxied["p"].host)
    proxied.until(
        lambda: "to this TaskManager itself" in proxied.upstreams()["q"].get("reason", ""),
        "circle that is found",
        proxied.logs,
    )
    there = proxied["q"].status()[proxied["p"].host]
    assert there["state"] == "down"
    assert "to this TaskManager itself" in there["reason"]

    with proxied.client() as client:
        assert right(list(client.map(requests(12, 10))))


def test_an_upstream_that_was_not_joined_or_is_no_host_is_refused(machine: Any, tmp_path: Path) -> None:
    for given, code, words in (
        ("127.0.0.1:1", 6, "majordomo join"),
        ("a,,b", 3, "--upstream: '' is no server"),
        ("a/tier=x", 3, "--upstream: 'a/tier=x' is no server"),
    ):
        done = machine.call("cf-taskmanager", "start", "--upstream", given, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
