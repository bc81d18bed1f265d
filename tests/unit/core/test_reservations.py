from __future__ import annotations

from computefarm.messages import Cancel, Need, Run, Waiting
from computefarm.testing.farm import Farm, spec
from computefarm.testing.invariants import check

WIDE = Need("shell", cpus=4)
GIB = 1 << 30


def streamed(farm: Farm, seconds: int, worker: str = "w1") -> list[str]:
    """Let narrow tasks end one after the other, never all at once; return the names of what began."""
    begun = []
    running: list[Run] = farm.told(worker, Run)
    for second in range(seconds):
        farm.alive("c1", *farm.manager._tables.workers).at(farm.now + 1)
        running += farm.told(worker, Run)
        if running and second % 2:
            run = running.pop(0)
            farm.finish(run, worker=worker)
            fresh = farm.told(worker, Run)
            begun += [each.name for each in fresh]
            running += fresh
        check(farm.manager)
    return begun


def test_a_wide_task_does_not_starve_among_narrow_ones() -> None:
    farm = Farm().client().worker(slots=4).submit(*range(1, 100)).submit(spec(100), need=WIDE)

    begun = streamed(farm, 40)

    assert "t100" in begun
    after = begun[begun.index("t100") :]
    assert after[1:], "and the worker is anybody's again"


def test_it_is_said_for_whom_a_worker_is_kept_free() -> None:
    farm = Farm().client().worker(slots=4).submit(*range(1, 20)).submit(spec(100), need=WIDE)
    for second in range(1, 12):
        farm.alive("c1", "w1").at(float(second))

    (status,) = farm.manager.status(farm.now).workers
    assert (status.state, status.reason) == ("reserved", "kept free for t100")
    told = farm.manager.explain("s1", "t19").obstacles
    assert "kept free for t100" in told[0].reason
    assert "0 of 4 slots free" in farm.manager.explain("s1", "t100").obstacles[0].reason


def test_only_one_worker_is_reserved_and_the_emptiest() -> None:
    farm = Farm().client().worker("w1", 4).worker("w2", 4).submit(*range(1, 9))
    farm.finish(next(run for run in farm.told("w2", Run)), worker="w2")
    farm.submit(spec(100), spec(101), need=WIDE)
    for second in range(1, 12):
        farm.alive("c1", "w1", "w2").at(float(second))

    states = [worker.state for worker in farm.manager.status(farm.now).workers]
    assert states == ["busy", "reserved"]


def test_a_reservation_for_nothing_ends() -> None:
    farm = Farm().client().worker(slots=4).submit(*range(1, 20)).submit(spec(100), need=WIDE)
    for second in range(1, 12):
        farm.alive("c1", "w1").at(float(second))
    farm.say("c1", Cancel("s1", (100,)))
    farm.alive("c1", "w1").at(13.0)

    (run, *_) = farm.told("w1", Run)
    farm.finish(run)
    assert len(farm.told("w1", Run)) == 1
    assert farm.manager._tables.workers["w1"].reserved is None


def test_a_task_with_much_memory_gets_its_turn() -> None:
    farm = Farm().client().worker(slots=4, memory=8 * GIB)
    farm.submit(*range(1, 30), need=Need("shell", memory=2 * GIB))
    farm.submit(spec(100), need=Need("shell", memory=8 * GIB))

    assert "t100" in streamed(farm, 40)


def test_an_exclusive_task_gets_its_turn() -> None:
    farm = Farm().client().worker(slots=2).submit(*range(1, 30))
    farm.submit(spec(100), need=Need("shell", exclusive=True))

    assert "t100" in streamed(farm, 40)


def test_a_host_that_is_short_of_memory_is_not_kept_idle() -> None:
    farm = Farm().client().worker(slots=4, host="h1", memory=8 * GIB).submit(*range(1, 20))
    farm.load("h1", 0.0, memory_available=GIB)
    farm.submit(spec(100), need=Need("shell", memory=4 * GIB))
    for second in range(1, 14):
        farm.load("h1", 0.0, memory_available=GIB).alive("c1", "w1").at(float(second))

    assert farm.manager._tables.workers["w1"].reserved is None


def test_what_is_too_wide_for_every_worker_is_said_with_the_largest() -> None:
    farm = Farm().client().worker("w1", 1).worker("w2", 3).submit(1, need=Need("shell", cpus=8))
    farm.at(2.0)

    (waiting,) = farm.told("c1", Waiting)
    assert not waiting.offered
    assert (waiting.obstacles[0].name, waiting.obstacles[0].reason) == ("w2", "has 3 slots, needs 8")
