"""`majordomo status`: the farm now, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from computefarm.errors import UsageError

from .displays import wants_display
from .look import FARM, JSON, Look, Viewer, folder_of, option, put, put_json, refuse
from .presentation import Offering, offering_text, status_json, status_text

if TYPE_CHECKING:
    from rich.console import ConsoleRenderable

SHORTEST_S, LONGEST_S = 0.1, 86_400.0


class StatusCommand(Look):
    """`majordomo status`."""

    name = "status"
    doc_purpose = "show the farm: hosts, workers, what waits and runs"
    doc_usage = ""
    doc_description = "Without a configured farm it shows what the embedded one would have: this machine."
    cmd_options = (JSON, FARM, option("interval", "i", "repeat every SECONDS until interrupted", float, 0.0))

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Print the status, once or until interrupted."""
        refuse(names)
        every_s = self._interval(options)
        with self.farm(options) as viewer:
            if not every_s:
                self._print(viewer, options)
            elif not options["json"] and wants_display(sys.stdout, self.environ):
                watch(sys.stdout, lambda: self._lines(viewer, options), every_s)
            else:
                while True:
                    self._print(viewer, options)
                    if not options["json"]:
                        print(flush=True)
                    time.sleep(every_s)
        return 0

    @staticmethod
    def _interval(options: Mapping[str, Any]) -> float:
        given = float(options["interval"])
        # 0 is the default, and means once; written out it would mean as fast as possible.
        asked = "interval" in getattr(options, "_non_default_keys", ())
        if asked and not SHORTEST_S <= given <= LONGEST_S:
            text = f"-i {given:g}: expected seconds, from {SHORTEST_S:g} to {LONGEST_S:g}"
            raise UsageError(text, hint="majordomo status -i 2")
        return given

    def _print(self, viewer: Viewer | None, options: Mapping[str, Any]) -> None:
        if not options["json"]:
            put(self._lines(viewer, options))
        elif viewer is not None:
            put_json(status_json(viewer.status(), self.address(options)))
        else:
            from .this_machine import status_here

            put_json(status_json(status_here(self.home), ""))

    def _lines(self, viewer: Viewer | None, options: Mapping[str, Any]) -> list[str]:
        if viewer is not None:
            return status_text(viewer.status(), self.address(options))
        from .this_machine import status_here

        return [*status_text(status_here(self.home), ""), "", *offering_text(self._offered_here(options))]

    def _offered_here(self, options: Mapping[str, Any]) -> Offering:
        from .this_machine import offering_here

        return offering_here(self.home, folder_of(options), self.environ)


def watch(stream: TextIO, lines: Callable[[], list[str]], every_s: float) -> None:
    """Show `lines()` in place on a terminal, anew after each `every_s`, until interrupted."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def picture() -> ConsoleRenderable:
        head = f"every {every_s:g} s, {time.strftime('%H:%M:%S')}; Ctrl-C ends it"
        return Text("\n".join([head, "", *lines()]), no_wrap=True, overflow="ellipsis")

    first = picture()
    with Live(first, console=Console(file=stream), auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            time.sleep(every_s)
            live.update(picture(), refresh=True)
