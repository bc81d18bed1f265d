"""Which task comes after which, as doit says, in time that grows with the graph only."""

from __future__ import annotations

import pytest
from doit.control import TaskControl
from doit.exceptions import InvalidTask
from doit.task import Task

from computefarm.majordomo.dispatch import Control


def tasks() -> list[Task]:
    leaves = [Task(f"t{n}", [], targets=[f"o{n}"]) for n in range(30)]
    return [
        *leaves,
        Task("all", [], file_dep=[f"o{n}" for n in range(30)] + ["source.c"], task_dep=["t3"]),
        Task("some", [], file_dep=["o1", "o2"]),
    ]


def test_it_is_what_doit_says() -> None:
    ours, theirs = Control(tasks()), TaskControl(tasks())
    for name, task in theirs.tasks.items():
        assert sorted(ours.tasks[name].task_dep) == sorted(task.task_dep), name
    assert ours.targets == theirs.targets
    assert len(ours.tasks["all"].task_dep) == 30


def test_two_makers_of_one_file_are_refused_in_doit_s_words() -> None:
    said = []
    for control in (Control, TaskControl):
        with pytest.raises(InvalidTask) as caught:
            control([Task("a", [], targets=["x"]), Task("b", [], targets=["x"])])
        said.append(str(caught.value))
    assert said[0] == said[1]
