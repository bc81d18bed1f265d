"""What daemons of this process log goes into the run, and not to stderr."""

from __future__ import annotations

import logging
import threading

import pytest

from computefarm.majordomo.overhearing import Overheard, Overhearing


def test_warnings_and_errors_are_records(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[Overheard] = []
    worker = logging.getLogger("computefarm.worker")
    with Overhearing("r1", heard.append):
        worker.info("nothing of note")
        worker.error("disk full on %s", "vm")
        thread = threading.Thread(target=lambda: worker.warning("from a thread"))
        thread.start()
        thread.join()
    worker.error("after the run")

    assert [(each.record["level"], each.text) for each in heard] == [
        ("error", "worker: disk full on vm"),
        ("warning", "worker: from a thread"),
    ]
    record = heard[0].record
    assert record["name"].startswith("farm.r1.")
    assert record["name"].endswith(".worker")
    assert [each.record["seq"] for each in heard] == [0, 1]
    assert "disk full" not in capfd.readouterr().err


def test_a_traceback_comes_along() -> None:
    heard: list[Overheard] = []
    with Overhearing("r1", heard.append):
        try:
            raise ZeroDivisionError("no")
        except ZeroDivisionError:
            logging.getLogger("computefarm.journal").exception("the journal's thread has failed")
    assert "ZeroDivisionError: no" in heard[0].record["exc_text"]
