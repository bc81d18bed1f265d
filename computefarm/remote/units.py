"""The commands that run on a host, and their systemd units."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

NICE = 10
Json = dict[str, Any]


def label(farm: str) -> str:
    """Return the name under which a farm's services go on a host."""
    return f"computefarm-{farm}"


def services(
    *,
    farm: str,
    bin_folder: str,
    folder: str,
    capabilities: Sequence[str],
    slots: int,
    worker_options: Sequence[str],
    environ: Mapping[str, str],
) -> list[Json]:
    """Return the worker and the monitor of `farm`, for `Services.start`.

    `folder` is the farm's folder there: a path, because the same name may mean another farm there too.
    """
    worker = [f"{bin_folder}/cf-worker"]
    for name in capabilities:
        worker += ["--capability", name]
    if slots:
        worker += ["--slots", str(slots)]
    worker += ["--farm", f"{folder}/access.json", "--no-monitor", *worker_options]
    monitor = [f"{bin_folder}/cf-monitor", "--farm", f"{folder}/access.json"]
    told: list[Json] = []
    for kind, argv, about in (
        ("worker", worker, f"Runs tasks for the farm {farm}"),
        ("monitor", monitor, f"Tells the farm {farm} how busy this machine is"),
    ):
        unit = unit_text(f"ComputeFarm {kind}: {about}", argv, environ)
        told.append({"name": f"{label(farm)}-{kind}", "argv": argv, "unit": unit, "drains": kind == "worker"})
    return told


def unit_text(about: str, argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return a systemd user unit; `@LOG@` stands for the path of the log."""
    lines = [
        "[Unit]",
        f"Description={_plain(about)}",
        "",
        "[Service]",
        f"ExecStart={' '.join(map(quote, argv))}",
        *(f"Environment={quote(f'{key}={value}', command=False)}" for key, value in sorted(environ.items())),
        "Restart=on-failure",
        "RestartSec=10",
        # A wrong command line stays wrong.
        "RestartPreventExitStatus=3",
        "SuccessExitStatus=143",
        # The worker first, so that it can give its tasks back; then whatever it left.
        "KillMode=mixed",
        "TimeoutStopSec=30",
        f"Nice={NICE}",
        "StandardOutput=append:@LOG@",
        "StandardError=append:@LOG@",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def quote(word: str, *, command: bool = True) -> str:
    """Return a word as systemd's unit files want it."""
    text = word.replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9@%+=:,./_$~-]+", text):
        return text
    inner = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{inner}"'


def _plain(text: str) -> str:
    return text.replace("%", "%%").replace("\n", " ")


def crontab_line(command: str) -> str:
    """Return what to type there so that `command` is started after a reboot."""
    # A bare percent sign would end the command there.
    entry = f"@reboot {command}".replace("%", "\\%")
    return f"(crontab -l 2>/dev/null; echo {shlex.quote(entry)}) | crontab -"
