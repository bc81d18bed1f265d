"""`majordomo cancel`: end a run of one's own, or some of its tasks, from anywhere."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from computefarm.errors import UsageError
from computefarm.journal.history import RunRow
from computefarm.messages import SessionStatus

from .cancelling import RUN_CANCELLED
from .look import DIR, FARM, Look, Viewer, folder_of, nearest, option, run_state
from .presentation import moment
from .requests import Reply, Request, ask, somebody
from .summary import plural, some

PATIENCE_S = 10.0
"""How long a run may take to answer."""

RECENT = 50
"""How many of a folder's runs are looked at for one that is alive."""

SHOWN = 10


class CancelCommand(Look):
    """`majordomo cancel`."""

    name = "cancel"
    doc_purpose = "end a run, or some of its tasks"
    doc_usage = "[TASK ...]"
    doc_description = (
        "Without --run it is this folder's run that goes on now. A run of another machine is named by --run "
        "and cancelled through the farm, with the key it was submitted with."
    )
    cmd_options = (
        option("run", "", "a run's name [default: the one that goes on in this folder]"),
        FARM,
        DIR,
    )

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Cancel, and say what."""
        run = self._run_here(options)
        if run is not None and run_state(run) == "running":
            self._cancel_here(run, names)
            return 0
        wanted = run.run if run is not None else str(options["run"])
        with self.farm(options) as viewer:
            sessions = viewer.sessions() if viewer is not None else ()
            chosen = [one for one in sessions if wanted and one.session.startswith(wanted)]
            exact = [one for one in chosen if one.session == wanted] or chosen
            if viewer is None or len(exact) != 1:
                raise self._nothing(options, wanted, sessions)
            return self._cancel_there(viewer, exact[0], names)

    # --- on this machine ------------------------------------------------------------------------------

    def _run_here(self, options: Mapping[str, Any]) -> RunRow | None:
        """Return the run that is meant, if this machine knows it; one that is alive where none is named."""
        if options["run"]:
            return self.history().find(str(options["run"]))
        for run in self.history().recent(folder_of(options), RECENT):
            if run_state(run) == "running":
                return run
        return None

    def _cancel_here(self, run: RunRow, names: Sequence[str]) -> None:
        def hurry() -> None:
            # It is busy with an action of its own process: a signal ends that, and the run then reads why.
            if not names:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(run.pid, signal.SIGTERM)

        request = Request(run.run, tuple(names), somebody())
        reply = ask(
            self.home.state,
            request,
            going=lambda: run_state(run) == "running",
            patience_s=PATIENCE_S,
            late=hurry,
        )
        if reply is None:
            if run_state(run) != "running":
                raise UsageError(f"run {run.run} has just ended", hint="majordomo history")
            raise UsageError(
                f"run {run.run} (process {run.pid}) does not answer: it runs a task in its own process, "
                "or it is stopped",
                hint="majordomo cancel    # the whole run" if names else f"kill {run.pid}",
            )
        _tell(run.run, reply, names)

    # --- through the farm -----------------------------------------------------------------------------

    def _cancel_there(self, viewer: Viewer, session: SessionStatus, names: Sequence[str]) -> int:
        by = somebody()
        reason = f"cancelled by {by}" if names else f"{RUN_CANCELLED}{by}"
        count = viewer.cancel_run(session.session, tuple(names), reason)
        if not count:
            what = f"no unfinished task {some(list(names))}" if names else "nothing that has not ended"
            raise UsageError(
                f"run {session.session} has {what} on farm {viewer.name}", hint="majordomo status"
            )
        print(f"run {session.session} on farm {viewer.name}: {plural(count, 'task')} cancelled")
        return 0

    def _nothing(
        self, options: Mapping[str, Any], wanted: str, sessions: Sequence[SessionStatus]
    ) -> UsageError:
        """Say that there is no such run, and which there are."""
        going = [run for run in self.history().recent(count=RECENT) if run_state(run) == "running"]
        lines = [f"  run {run.run} in {run.folder}, since {moment(run.started)}" for run in going[:SHOWN]]
        here = {run.run for run in going}
        lines += [
            f"  run {one.session} of {one.hostname or 'a client that is away'}: "
            f"{one.running} running, {one.waiting} waiting"
            for one in sessions[:SHOWN]
            if one.session not in here
        ]
        what = f"no run {wanted!r} goes on" if wanted else f"no run goes on in {folder_of(options)}"
        near = nearest(wanted, [*here, *(one.session for one in sessions)]) if wanted else ""
        if not lines:
            hint = "majordomo history --list    # what has run here"
            return UsageError(f"{what}{near}; none does anywhere else", hint=hint)
        return UsageError(f"{what}{near}; these do:\n" + "\n".join(lines), hint="majordomo cancel --run RUN")


def _tell(run: str, reply: Reply, names: Sequence[str]) -> None:
    """Print what was cancelled; raise for what was not."""
    if not names:
        tasks = f": {some(reply.cancelled, SHOWN)}" if reply.cancelled else ""
        print(f"run {run} cancelled, {plural(len(reply.cancelled), 'unfinished task')}{tasks}")
        return
    if reply.cancelled:
        print(f"run {run}: cancelled {some(reply.cancelled, SHOWN)}")
    left = f"unfinished are: {some(reply.unfinished, SHOWN)}" if reply.unfinished else "none is unfinished"
    problems = []
    if reply.unknown:
        near = nearest(reply.unknown[0], list(reply.unfinished))
        problems.append(f"no unfinished task is called {some(reply.unknown)}{near}; {left}")
    if reply.refused:
        problems.append(
            f"{some(reply.refused)} runs in the run's own process, and ends only with the whole run"
        )
    if problems:
        sys.stdout.flush()
        raise UsageError(f"run {run}: " + "; ".join(problems), hint="majordomo cancel    # the whole run")
