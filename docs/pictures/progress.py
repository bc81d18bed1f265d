"""Draw docs/pictures/progress.svg: the live display in the middle of a real run, and what stays of it.

    make demo && .venv/bin/python docs/pictures/progress.py

Builds the demo's copy of Lua on the embedded farm again (its results are not asked for) and keeps the picture
of the moment when half of the files were compiled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from computefarm.majordomo.app import MajorDomo
from computefarm.majordomo.command_run import Context, Run
from computefarm.majordomo.live import LiveProgress
from computefarm.majordomo.progress import Facts
from computefarm.majordomo.reporting import RunWatcher, TaskRecord

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "build/demo"
HALF = 16
"""Compiled files at the moment of the picture."""
SLOTS = 4
WIDTH = 100


class Photographer(LiveProgress):
    """A live display that is not shown; keeps one picture of itself and the lines at the end."""

    def __init__(self, console: Console) -> None:
        self.lines = StringIO()
        super().__init__(self.lines, facts=Facts(verbosity=lambda name: 2))
        self.camera = console
        self.compiled = 0
        self.taken = False

    def task_ended(self, record: TaskRecord) -> None:
        """Count the compiled files."""
        super().task_ended(record)
        self.compiled += record.task.startswith("compile:")

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        """Take the picture when half is done and all slots are full."""
        super().task_placed(name, worker, hostname, attempt)
        if self.compiled >= HALF and len(self._running) == SLOTS and not self.taken:
            self.taken = True
            self.camera.print(self.picture())


class Studio(Context):
    """A run with the photographer instead of a display."""

    def __init__(self, display: Photographer) -> None:
        self.display = display

    def watchers(self, **options: Any) -> Sequence[RunWatcher]:
        """Return it alone."""
        return (self.display,)


def main() -> int:
    """Run, and write the picture."""
    os.chdir(DEMO)
    os.environ["CF_HOME"] = str(DEMO / "home")
    with open(os.devnull, "w") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        display = Photographer(console)
        Run.context = Studio(display)
        console.print(Text.assemble(("$ ", "bold green"), f"majordomo run -n {SLOTS}"))
        code = MajorDomo().run(["run", "-a", "--farm", "local", "-n", str(SLOTS)])
        console.print(Text("\n      … and when it has ended:\n", style="italic dim"))
        for line in display.lines.getvalue().splitlines():
            console.print(line, markup=False, highlight=False)
        console.save_svg(str(HERE / "progress.svg"), title="ComputeFarm", unique_id="progress")
    return code


if __name__ == "__main__":
    sys.exit(main())
