"""What long-lived commands do alike."""

from __future__ import annotations

from pathlib import Path

from computefarm.cli.process import _tail


def test_only_what_this_start_has_logged_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("an old line\n" * 100)
    before = log.stat().st_size
    assert _tail(log, before) == ""
    with log.open("a") as file:
        file.write("".join(f"new {n}\n" for n in range(9)))
    assert _tail(log, before) == "".join(f"new {n}\n" for n in range(4, 9))
    assert _tail(tmp_path / "absent", 0) == ""
