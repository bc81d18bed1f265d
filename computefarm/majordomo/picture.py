"""The task graph as Graphviz takes it, and as text."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping

import msgspec
from doit.task import Task

COLOURS = {
    "up-to-date": "#d5f0d5",
    "run": "#fff3c4",
    "error": "#f8d0d0",
    "ignore": "#e4e4e4",
    "": "#ffffff",
}
"""Fill colours, pale enough for black text on paper."""

WORDS = {"up-to-date": "up to date", "run": "to run", "error": "cannot run", "ignore": "ignored"}


class Node(msgspec.Struct):
    """One box: a task, or all tasks of one name."""

    name: str
    capability: str = ""
    states: Counter[str] = msgspec.field(default_factory=Counter)
    """How many of its tasks are in which state."""
    group: bool = False
    """Stands for others and does nothing itself."""
    needs: dict[str, None] = msgspec.field(default_factory=dict)
    """Names of the boxes that come before it, in order."""

    @property
    def count(self) -> int:
        """Return how many tasks it stands for."""
        return sum(self.states.values())

    @property
    def state(self) -> str:
        """Return the state that most needs to be seen."""
        return next((state for state in ("error", "run", "ignore", "up-to-date") if self.states[state]), "")

    def told(self) -> str:
        """Return its states in words."""
        if self.group or not self.count:
            return ""
        if self.count == 1:
            return WORDS.get(self.state, self.state)
        return ", ".join(f"{n} {WORDS.get(state, state)}" for state, n in sorted(self.states.items()))


def nodes(
    tasks: Mapping[str, Task],
    names: Iterable[str],
    states: Mapping[str, str],
    capabilities: Mapping[str, str],
    *,
    each: bool,
) -> dict[str, Node]:
    """Return the boxes for the tasks `names` and all that they need; with `each`, one for every subtask."""
    found: dict[str, Node] = {}
    todo, seen = deque(names), set(names)
    while todo:
        task = tasks.get(todo.popleft())
        if task is None:
            continue
        box = _box(task, each)
        node = found.setdefault(box, Node(box))
        before = [*task.task_dep, *task.setup_tasks, *task.calc_dep]
        for name in before:
            other = tasks.get(name)
            if other is not None and (target := _box(other, each)) != box:
                node.needs.setdefault(target)
            if name not in seen:
                seen.add(name)
                todo.append(name)
        if task._actions:
            node.states[states.get(task.name, "run")] += 1
            node.capability = node.capability or capabilities.get(task.name, "")
        elif task.name == box and not task.has_subtask:
            node.group = True
    # doit keeps files in sets: what follows from them comes in any order. As defined, it is always the same.
    place = {_box(task, each): number for number, task in reversed(list(enumerate(tasks.values())))}
    for node in found.values():
        node.needs = dict.fromkeys(sorted(node.needs, key=lambda name: place.get(name, 0)))
    return found


def _box(task: Task, each: bool) -> str:
    return str(task.name if each else task.subtask_of or task.name)


def dot(boxes: Mapping[str, Node], title: str) -> str:
    """Return a Graphviz digraph, what comes first on the left."""
    lines = [
        f"digraph {_quoted(title)} {{",
        "  rankdir=LR; bgcolor=white;",
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, margin="0.15,0.08"];',
        '  edge [color="#777777", arrowsize=0.7];',
    ]
    for node in boxes.values():
        label = [f"{node.name} ({node.count})" if node.count > 1 else node.name]
        label += [text for text in (node.capability, node.told()) if text]
        shape = ', shape=ellipse, style="filled"' if node.group else ""
        text = r"\n".join(line.replace("\\", r"\\").replace('"', r"\"") for line in label)
        lines.append(f'  {_quoted(node.name)} [label="{text}", fillcolor="{COLOURS[node.state]}"{shape}];')
    for node in boxes.values():
        lines += [f"  {_quoted(before)} -> {_quoted(node.name)};" for before in node.needs if before in boxes]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def tree(boxes: Mapping[str, Node], roots: Iterable[str]) -> list[str]:
    """Return the graph as an indented tree; what was shown once is only named when it comes again."""
    lines: list[str] = []
    shown: set[str] = set()
    for root in roots:
        if root in boxes:
            _branch(boxes, root, "", "", lines, shown)
    return lines


def _branch(
    boxes: Mapping[str, Node], name: str, lead: str, below: str, lines: list[str], shown: set[str]
) -> None:
    node = boxes[name]
    title = f"{node.name} ({node.count})" if node.count > 1 else node.name
    again = name in shown and bool(node.needs)
    facts = " · ".join(text for text in (node.capability, node.told()) if text)
    lines.append("  ".join(filter(None, [f"{lead}{title}", facts, "(see above)" if again else ""])))
    if again:
        return
    shown.add(name)
    # Thousands of levels would be unreadable long before they are too deep for Python.
    if len(below) > 400:
        lines.append(f"{below}└─ …")
        return
    children = [before for before in node.needs if before in boxes]
    for index, child in enumerate(children):
        turn, on = ("└─ ", "   ") if index == len(children) - 1 else ("├─ ", "│  ")
        _branch(boxes, child, below + turn, below + on, lines, shown)


def roots(boxes: Mapping[str, Node]) -> list[str]:
    """Return the boxes that no other needs."""
    needed = {before for node in boxes.values() for before in node.needs}
    return [name for name in boxes if name not in needed]
