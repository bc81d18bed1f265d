"""The commands of a host and their systemd units."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from computefarm.remote.units import crontab_line, label, quote, services, unit_text

UNIT = """\
[Unit]
Description=ComputeFarm worker

[Service]
ExecStart=/opt/cf/bin/cf-worker --capability gcc>=9 "--name=my $$5"
Environment=CF_HOME=/data/cf
Environment="PATH=/opt/my tools:/bin"
Restart=on-failure
RestartSec=10
RestartPreventExitStatus=3
SuccessExitStatus=143
KillMode=mixed
TimeoutStopSec=30
Nice=10
StandardOutput=append:@LOG@
StandardError=append:@LOG@

[Install]
WantedBy=default.target
"""


def test_a_unit_is_written_as_systemd_reads_it() -> None:
    argv = ["/opt/cf/bin/cf-worker", "--capability", "gcc>=9", "--name=my $5"]
    text = unit_text("ComputeFarm worker", argv, {"PATH": "/opt/my tools:/bin", "CF_HOME": "/data/cf"})

    assert text.replace('"gcc>=9"', "gcc>=9") == UNIT


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("50%", "50%%"),
        ("$HOME", "$$HOME"),
        ("", '""'),
    ],
)
def test_words_are_quoted(word: str, written: str) -> None:
    assert quote(word) == written


def test_environment_keeps_its_dollars() -> None:
    assert quote("A=$x 100%", command=False) == '"A=$x 100%%"'


def test_a_host_runs_a_worker_and_a_monitor() -> None:
    worker, monitor = services(
        farm="lab",
        bin_folder="/v/bin",
        folder="/c/farms/lab",
        capabilities=["gcc>=9", "shell"],
        slots=3,
        worker_options=["--max-load", "0.5"],
        environ={},
    )

    assert worker["argv"] == [
        "/v/bin/cf-worker", "--capability", "gcc>=9", "--capability", "shell", "--slots", "3",
        "--farm", "/c/farms/lab/access.json", "--no-monitor", "--max-load", "0.5",
    ]  # fmt: skip
    assert monitor["argv"] == ["/v/bin/cf-monitor", "--farm", "/c/farms/lab/access.json"]
    assert (worker["name"], monitor["name"]) == ("computefarm-lab-worker", "computefarm-lab-monitor")
    assert (worker["drains"], monitor["drains"]) == (True, False)
    assert label("lab") == "computefarm-lab"


def test_systemd_itself_finds_no_fault(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT TESTED: systemd-analyze is not installed")
    unit = tmp_path / "computefarm-x-worker.service"
    log = str(tmp_path / "log")
    unit.write_text(
        unit_text("ComputeFarm: 100 %", ["/bin/true", "a b", "$x"], {"A": "b c"}).replace("@LOG@", log)
    )

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", unit], capture_output=True, text=True,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip

    if "Failed to" in done.stderr and unit.name not in done.stderr:
        pytest.skip(f"NOT TESTED: systemd-analyze does not work here: {done.stderr.strip()}")
    assert unit.name not in done.stderr, done.stderr


def test_a_crontab_line_survives_shell_and_cron() -> None:
    line = crontab_line("/v/bin/python -m x '/a b/100%.json' >> /log 2>&1")

    assert line.endswith(" | crontab -")
    told = subprocess.run(
        ["sh", "-c", line.replace("| crontab -", "| tail -1").replace("crontab -l 2>/dev/null; ", "")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == "@reboot /v/bin/python -m x '/a b/100\\%.json' >> /log 2>&1\n"
