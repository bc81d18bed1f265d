from __future__ import annotations

import pytest

from computefarm.core.placement import choose, refusal
from computefarm.core.state import Host, Worker
from computefarm.messages import LoadReport, Need, Offer

GCC = Offer("gcc", "12.2.0", fingerprint="f12", tags=(("target", "x86_64"),))


def worker(
    name: str = "w1", load: float | None = None, *, max_load: float | None = None, **fields: object
) -> Worker:
    host = Host(f"host-{name}", name)
    if load is not None:
        host.report = LoadReport(host.host, name, load, 4, 8 << 30, 1 << 30, max_load=max_load)
        host.ledger.report(load, 0.0)
    made = Worker(name, name, "", name, host, slots=2, cpus=4, offers={"gcc": GCC}, platform="linux")
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    ("need", "kind", "reason"),
    [
        (Need("cuda"), "capability", "does not offer cuda"),
        (Need("gcc", ">=99"), "version", "gcc 12.2.0, needs >=99"),
        (Need("gcc", fingerprint="f13"), "fingerprint", "another gcc (12.2.0) than the run has chosen"),
        (Need("gcc", tags=(("target", "arm"),)), "tag", "target is x86_64, needs arm"),
        (Need("gcc", tags=(("libc", "musl"),)), "tag", "has no libc musl"),
        (Need("gcc", tags=(("platform", "macos"),)), "tag", "platform is linux, needs macos"),
        (Need("gcc", cpus=3), "size", "has 2 slots, needs 3"),
        (Need("gcc", gpus=1), "size", "has 0 GPUs, needs 1"),
    ],
)
def test_what_a_worker_is_may_not_suit(need: Need, kind: str, reason: str) -> None:
    said = refusal(need, worker(), 0.0)

    assert said is not None
    assert (said.kind, said.reason, said.place) == (kind, reason, "worker")


@pytest.mark.parametrize(
    ("fields", "need", "kind", "place"),
    [
        ({"draining": True}, Need("gcc"), "draining", "worker"),
        ({"peer": ""}, Need("gcc"), "silent", "worker"),
        ({"used": 2}, Need("gcc"), "busy", "worker"),
        ({"used": 1}, Need("gcc", cpus=2), "busy", "worker"),
        ({"gpus": 1, "gpus_used": 1}, Need("gcc", gpus=1), "gpus", "worker"),
        ({"memory": 1 << 30}, Need("gcc", memory=2 << 30), "size", "worker"),
        ({}, Need("gcc", memory=2 << 30), "memory", "host"),
    ],
)
def test_what_a_worker_is_doing_may_hinder(
    fields: dict[str, object], need: Need, kind: str, place: str
) -> None:
    said = refusal(need, worker("w1", 0.5, **fields), 0.0)

    assert said is not None
    assert (said.kind, said.place) == (kind, place)


def test_load_alone_never_refuses() -> None:
    assert refusal(Need("gcc"), worker("w1", 5.0), 0.0) is None


def test_a_strict_limit_holds_the_worker_or_the_whole_host() -> None:
    limited = worker("w1", 0.9)
    limited.max_load = 0.8

    assert refusal(Need("gcc"), limited, 0.0) == ("load", "load 0.90 is at its limit of 0.8", "worker")
    assert refusal(Need("gcc"), worker("w1", 0.9, max_load=0.5), 0.0) == (
        "load",
        "load 0.90 is at the owner's limit of 0.5",
        "host",
    )
    assert refusal(Need("gcc"), worker("w1", 0.4, max_load=0.5), 0.0) is None


def test_a_stale_host_is_not_refused_but_comes_last() -> None:
    stale, idle = worker("a", 0.9, max_load=0.5), worker("b", 0.95)
    assert stale.host.report is not None
    now = 3 * stale.host.report.interval_s + 1
    idle.host.reported_at = now

    assert refusal(Need("gcc"), stale, now) is None
    assert choose(Need("gcc"), [stale, idle], now) is idle
    assert choose(Need("gcc"), [stale], now) is stale


def test_the_less_loaded_host_goes_first() -> None:
    busy, idle = worker("a", 0.6), worker("b", 0.1)

    assert choose(Need("gcc"), [busy, idle], 0.0) is idle


def test_a_loaded_host_is_chosen_last_however_fast_it_is() -> None:
    loaded, slow = worker("a", 1.5, weight=10.0), worker("b", 0.1)

    assert choose(Need("gcc"), [loaded, slow], 0.0) is slow


def test_the_faster_worker_goes_first_when_none_is_loaded() -> None:
    fast, slow = worker("b", 0.5, weight=2.0), worker("a", 0.1)

    assert choose(Need("gcc"), [slow, fast], 0.0) is fast


def test_a_higher_tier_is_used_only_when_the_lower_ones_are_full() -> None:
    first, second = worker("a", 3.0), worker("b", 0.0, tier=1)

    assert choose(Need("gcc"), [second, first], 0.0) is first
    first.used = 2
    assert choose(Need("gcc"), [second, first], 0.0) is second


def test_nobody_is_chosen_when_all_refuse() -> None:
    assert choose(Need("gcc"), [worker(used=2)], 0.0) is None


def test_an_exclusive_task_waits_for_an_empty_worker() -> None:
    said = refusal(Need("gcc", exclusive=True), worker(running={1: None}, used=1), 0.0)

    assert said is not None
    assert said.kind == "busy"
