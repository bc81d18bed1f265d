from __future__ import annotations

from typing import Any

import pytest
from doit.exceptions import InvalidTask
from doit.loader import generate_tasks
from doit.task import Task, dict_to_task

from computefarm.majordomo.loading import plain_task, quick, with_tasks

PLAIN: list[dict[str, Any]] = [
    {"name": "a:b", "actions": ["x"]},
    {"name": "a:b", "actions": []},
    {"name": "a:b", "actions": ["x", ["y"]], "file_dep": ("f", "g"), "targets": ["t"], "meta": {"k": 1}},
    {"name": "a:b", "actions": ["x"], "task_dep": ["z"], "doc": "\n hello \nmore", "verbosity": 0},
]

OTHERS: list[dict[str, Any]] = [
    {"name": "a:b"},
    {"name": "a:b", "actions": "x"},
    {"name": "a:b", "actions": None},
    {"name": "a=b", "actions": ["x"]},
    {"name": "a:b", "actions": ["x"], "task_dep": ["z*"]},
    {"name": "a:b", "actions": ["x"], "file_dep": ["f", 3]},
    {"name": "a:b", "actions": ["x"], "targets": "t"},
    {"name": "a:b", "actions": ["x"], "verbosity": 7},
    {"name": "a:b", "actions": ["x"], "meta": 3},
    {"name": "a:b", "actions": ["x"], "doc": 3},
    {"name": "a:b", "actions": ["x"], "uptodate": [True]},
    {"name": "a:b", "actions": ["x"], "colour": "red"},
]


def state(task: Task) -> dict[str, Any]:
    return {key: (repr(value) if key == "io" else value) for key, value in vars(task).items()}


@pytest.mark.parametrize("item", PLAIN)
def test_a_plain_task_is_what_doit_makes(item: dict[str, Any]) -> None:
    mine = plain_task(item)

    assert mine is not None
    assert state(mine) == state(dict_to_task(dict(item)))
    assert {key: type(value) for key, value in vars(mine).items()} == {
        key: type(value) for key, value in vars(dict_to_task(dict(item))).items()
    }


def test_tasks_share_nothing_that_changes() -> None:
    first, second = plain_task(PLAIN[0]), plain_task(PLAIN[0])
    fresh = dict_to_task(dict(PLAIN[0]))
    for key, value in vars(fresh).items():
        if isinstance(value, list | set | dict):
            assert vars(first)[key] is not vars(second)[key], key


@pytest.mark.parametrize("item", OTHERS)
def test_anything_else_is_left_to_doit(item: dict[str, Any]) -> None:
    assert plain_task(item) is None


def made(creator: Any) -> list[tuple[str, Any]]:
    tasks = generate_tasks("part", creator(), creator.__doc__)
    return [(task.name, state(task)) for task in tasks]


def subtasks() -> Any:
    """Say something."""
    yield {"name": "1", "actions": ["x"]}
    yield {"name": "2", "actions": [print], "uptodate": [True], "clean": True}
    yield {"name": "3", "actions": ["x"], "file_dep": ["f"]}


def group_first() -> Any:
    yield {"name": None, "doc": "own words"}
    yield {"name": "1", "actions": ["x"]}


def other_basename() -> Any:
    yield {"name": "1", "actions": ["x"]}
    yield {"basename": "other", "name": "1", "actions": ["x"]}
    yield {"name": "2", "actions": ["x"]}
    yield {"basename": "alone", "actions": ["x"]}


def nested() -> Any:
    yield {"name": "1", "actions": ["x"]}
    yield (item for item in [{"name": "2", "actions": ["x"]}])


def nothing() -> Any:
    yield from ()


@pytest.mark.parametrize("creator", [subtasks, group_first, other_basename, nested, nothing])
def test_a_generator_makes_the_same_tasks_in_the_same_order(creator: Any) -> None:
    mine, theirs = made(with_tasks(creator, "part")), made(creator)

    assert [name for name, _ in mine] == [name for name, _ in theirs]
    for (name, left), (_, right) in zip(mine, theirs, strict=True):
        left.pop("uptodate"), right.pop("uptodate")
        assert {k: str(v) for k, v in left.items()} == {k: str(v) for k, v in right.items()}, name


def test_a_name_twice_is_refused() -> None:
    def twice() -> Any:
        yield {"name": "1", "actions": ["x"]}
        yield {"name": "1", "actions": ["y"]}

    with pytest.raises(InvalidTask, match="duplicated definition of 'part:1'"):
        made(with_tasks(twice, "part"))


def test_only_task_generators_are_wrapped() -> None:
    def task_one() -> dict[str, Any]:
        return {"actions": []}

    namespace = {"task_one": task_one, "task_number": 3, "helper": subtasks, "task_many": subtasks}
    changed = {name for name, value in quick(namespace).items() if value is not namespace[name]}

    assert changed == {"task_many"}
