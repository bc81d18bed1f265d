"""Commands that begin something: `join` a farm, `init` a project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from computefarm.errors import UsageError
from computefarm.home import hostname

from .look import Look

DODO = '''\
"""A starter project: three tasks on the farm, one here. Run it with: majordomo run

Without a farm this machine is used. With one (`majordomo join LINE`) nothing in this file changes.
"""

from pathlib import Path

from computefarm import needs


def task_count():
    """Count the words of each text, each as a task of its own that may run on any machine."""
    for text in sorted(Path("texts").glob("*.txt")):
        count = f"build/{text.stem}.count"
        yield {
            "name": text.stem,
            # A command string runs in /bin/sh -e, in a folder of its own that holds exactly the inputs.
            "actions": [f"wc -w < {text} > {count}"],
            "file_dep": [text],
            # What comes back; a target that was not made is an error.
            "targets": [count],
            # What it needs: a capability, and if you like version, memory, time, more inputs …
            "meta": needs("shell", timeout="1m"),
        }


def task_report():
    """Put the counts together: no `needs`, so this runs here."""
    counts = [f"build/{text.stem}.count" for text in sorted(Path("texts").glob("*.txt"))]
    return {
        "actions": [f"head {' '.join(counts)} > report.txt", "cat report.txt"],
        "file_dep": counts,
        "targets": ["report.txt"],
        "verbosity": 2,
        "clean": True,
    }
'''

PYPROJECT = """\
# Settings of this project; see them all, and where each came from, with: majordomo config --show-origin
[tool.computefarm]
# farm = "NAME"                  # which farm, when this machine knows several; "local" is this machine alone
# default-capability = "shell"   # send command tasks out that name no capability
# wait-workers = "60s"           # how long to wait for a capability that was there and vanished
"""

FILES = {
    "dodo.py": DODO,
    "pyproject.toml": PYPROJECT,
    "texts/one.txt": "The quick brown fox\njumps over the lazy dog.\n",
    "texts/two.txt": "Many hands make light work.\n",
    ".gitignore": "build/\nreport.txt\n.majordomo.db*\n",
}


class InitCommand(Look):
    """`majordomo init`."""

    name = "init"
    doc_purpose = "write a commented starter project"
    doc_usage = "DIR"
    cmd_options = ()

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Write the files; refuse to touch one that is there."""
        if len(names) != 1:
            raise UsageError("name one folder", hint="majordomo init my-project")
        folder = Path(names[0])
        there = [name for name in FILES if (folder / name).exists()]
        if there:
            raise UsageError(f"{folder / there[0]} is there already; nothing was written")
        try:
            for name, text in FILES.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {error.filename}: {error.strerror}") from error
        print(f"{folder}: {len(FILES)} files written; next:\n  cd {folder} && majordomo run")
        return 0


class JoinCommand(Look):
    """`majordomo join`."""

    name = "join"
    doc_purpose = "let this machine use (or work for) a farm, with an invitation"
    doc_usage = "LINE"
    cmd_options = ()

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Enrol a key made here."""
        from computefarm.transport.invitation import join
        from computefarm.transport.keys import fingerprint

        if len(names) != 1:
            raise UsageError(
                "give the line that `cf-taskmanager invite --role client` printed on the manager's machine",
                hint="majordomo join LINE    # or `-` to read it from the input",
            )
        # In the arguments every user of the machine sees it while it is used.
        line = sys.stdin.readline() if names == ["-"] else names[0]
        access = join(line, self.home, name=hostname())
        roles = sorted(path.stem for path in (access.folder / "keys").glob("*.key"))
        print(f"joined farm {access.farm!r} at {access.address} as {', '.join(roles)}")
        print(f"  its key is {fingerprint(access.server_key)}; next:")
        if "client" in roles:
            print(f"  majordomo run --farm {access.farm}")
        if roles == ["viewer"]:
            print(f"  majordomo status --farm {access.farm}")
        if "worker" in roles:
            print(f"  cf-worker --capability NAME --farm {access.farm}")
        return 0
