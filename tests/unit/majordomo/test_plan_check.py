"""What is missing is found, and where it nearly fits."""

from __future__ import annotations

from typing import Any

from doit.task import Task

from computefarm.backends.base import Offered
from computefarm.majordomo.farm_tasks import FarmTasks
from computefarm.majordomo.patience import next_step
from computefarm.majordomo.plan_check import Want, certain, unmet
from computefarm.messages import Need, Obstacle, Offer, Pool
from computefarm.needs import needs


def task(name: str, capability: str = "", **more: Any) -> Task:
    return Task(name, ["true"], meta=needs(capability, **more) if capability else None)


def wants(*tasks: Task, recorded: frozenset[str] = frozenset()) -> list[Want]:
    by_name = {each.name: each for each in tasks}
    return certain(by_name, by_name, FarmTasks("/p"), lambda name: name not in recorded)


def pool(worker: str, capability: str, version: str, platform: str = "linux-x86_64", **tags: str) -> Pool:
    return Pool(Offer(capability, version, "f", tuple(tags.items())), platform, 1, (worker,))


def missing(want: list[Want], *pools: Pool, gone: tuple[Pool, ...] = ()) -> list[Any]:
    def offered(capability: str) -> Offered:
        return Offered(tuple(each for each in pools if each.offer.capability == capability), True, gone=gone)

    return unmet(want, offered, pools)


def test_only_tasks_that_are_certain_to_run_are_looked_at() -> None:
    tasks = (task("a", "gcc"), task("b", "gcc"), task("c", "gcc>=13"), task("local"), task("done", "latex"))
    found = wants(*tasks, recorded=frozenset({"done"}))
    assert [(want.asked.version, [each.name for each in want.tasks]) for want in found] == [
        ("", ["a", "b"]),
        (">=13", ["c"]),
    ]


def test_where_it_nearly_fits_is_said_first() -> None:
    [lacking] = missing(
        wants(task("c", "gcc>=13")),
        pool("nn01", "latex", "2022"),
        pool("nn02", "gcc", "12.2"),
        pool("nn02", "shell", "1"),
    )
    assert lacking.text == ("no worker offers gcc>=13 (nn02: gcc 12.2, needs >=13; nn01: does not offer gcc)")
    assert not lacking.vanished


def test_a_platform_is_needed_by_its_tag() -> None:
    want = wants(task("c", "gcc", tags={"platform": "linux-aarch64"}))
    [lacking] = missing(want, pool("nn02", "gcc", "12.2"))
    assert "nn02: platform is linux-x86_64, needs linux-aarch64" in lacking.text
    assert missing(want, pool("pi", "gcc", "12.2", platform="linux-aarch64")) == []


def test_what_vanished_may_come_back() -> None:
    want = wants(task("c", "gcc>=13"))
    assert missing(want, gone=(pool("w", "gcc", "13.1"),))[0].vanished
    assert not missing(want, gone=(pool("w", "gcc", "12"),))[0].vanished
    assert "no worker is connected" in missing(want)[0].text


def test_the_tasks_are_named_but_not_all() -> None:
    [want] = wants(*(task(f"t{n}", "gcc") for n in range(5)))
    assert want.names == "t0, t1, t2 and 2 more"


def test_the_next_step_depends_on_what_is_there() -> None:
    need = Need("gcc")
    assert "cf-worker --probe" in next_step(need, (), local=True)
    assert "cf-worker --capability gcc" in next_step(need, (), local=False)
    lent = (Obstacle("worker", "w", "runs named actions only (compile)"),)
    assert "farm.action('gcc', …)" in next_step(need, lent, local=False)
