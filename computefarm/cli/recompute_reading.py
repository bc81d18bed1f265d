"""Files of requests, for every command of `cf-recompute` that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from computefarm.errors import UsageError
from computefarm.worker_api.lines import Line, read_lines

REFUSED = "line"
"""Key of what is no request: why."""


def lines_of(source: str) -> Iterator[Line]:
    """Yield the lines of a file, or of standard input (`-`); raises `UsageError` where it cannot be read."""
    try:
        if source == "-":
            # Not `sys.stdin`: Python waits for that at its end while another thread reads from it.
            yield from read_lines(open(0, "rb", closefd=False))  # noqa: SIM115
            return
        with Path(source).open("rb") as file:
            yield from read_lines(file)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error


def requests_of(source: str) -> Iterator[Mapping[str, object]]:
    """Yield a request per line; what is none becomes a request that is answered `bad_request`."""
    for line in lines_of(source):
        if line.trouble:
            yield {"kernel": "", REFUSED: f"line {line.number}: {line.trouble}"}
        else:
            yield line.raw
