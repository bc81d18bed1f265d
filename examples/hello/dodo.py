"""The smallest farm build: one task that may run anywhere, one that runs here.

majordomo run          builds it (a second time: nothing to do)
majordomo why shout    says why a task ran, and where
doit                   works too: `needs` means nothing to plain doit
"""

from __future__ import annotations

from computefarm import needs


def task_shout():
    """Write the greeting in capitals, on any machine that offers a shell."""
    return {
        # Runs in a folder of its own that holds exactly what file_dep names, so it can run anywhere.
        "actions": ["tr a-z A-Z < greeting.txt > shout.txt"],
        "file_dep": ["greeting.txt"],
        # What comes back. A target that was not made is an error.
        "targets": ["shout.txt"],
        # The one line that makes it a farm task.
        "meta": needs("shell"),
    }


def task_show():
    """Print the result: no `needs`, so this runs here, as under plain doit."""
    return {"actions": ["cat shout.txt"], "file_dep": ["shout.txt"], "verbosity": 2}
