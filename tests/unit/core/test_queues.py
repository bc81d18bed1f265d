from __future__ import annotations

from computefarm.core.queues import IDLE_QUEUES
from computefarm.messages import Cancel, Need, Run
from computefarm.testing.farm import Farm, failure, spec


def test_queues_of_needs_that_nobody_has_any_more_are_forgotten() -> None:
    farm = Farm().client().worker("w1", 1)
    for number in range(3 * IDLE_QUEUES):
        farm.submit(number, need=Need("shell", load=1.0 + number)).finish(farm.run())

    assert len(farm.manager._tables.queues._by_need) <= IDLE_QUEUES + 1


def test_a_heap_does_not_keep_what_was_cancelled() -> None:
    farm = Farm().client().submit(*range(1000))
    farm.say("c1", Cancel("s1", tuple(range(1, 1000))))

    (queue,) = farm.manager._tables.queues.busy.values()
    (group,) = queue.groups.values()
    assert group.waiting == 1
    assert len(group.heap) <= 64


def test_a_task_that_went_and_came_back_is_run_once() -> None:
    farm = Farm().client().worker("w1", 1).submit(spec(1, retries=1))
    run = farm.run()
    farm.finish(run, failure())
    second = farm.run()
    farm.finish(second)

    assert farm.told("w1", Run) == []
