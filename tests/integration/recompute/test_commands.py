"""`cf-recompute plot`, `bench`, `estimate` and `batch` on this machine, with good input and bad."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.pos1_known import KNOWN

from computefarm.cli import recompute, recompute_bench
from computefarm.recompute import Answer
from computefarm.recompute.known import known

Command = Callable[..., tuple[int, str, str]]
CHALLENGE = KNOWN.challenge.hex()
ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that knows of no farm."""
    for name in list(os.environ):
        if name.startswith(("CF_", "CHIAPOS_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("CF_HOME", str(home))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.fixture
def warm(home: Path, kernel_cache: Path) -> Path:
    """The same, with its kernels compiled."""
    shutil.copytree(kernel_cache, home / "cache" / "kernels")
    return home


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return `cf-recompute`, in this process."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cf-recompute", *words])
        try:
            code = recompute.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


# --- plot ---------------------------------------------------------------------------------------------------


def test_a_plot_is_asked_as_a_prover_is(command: Command, chiapos: Any, plot: Path) -> None:
    prover = chiapos.DiskProver(str(plot))
    done = 0
    while done < 2:
        challenge = secrets.token_bytes(32)
        qualities = [quality.hex() for quality in prover.get_qualities_for_challenge(challenge)]
        proofs = [prover.get_full_proof(challenge, n).hex() for n in range(len(qualities))]
        if len(proofs) < 1 + done:
            continue
        done += 1
        asked = ("plot", "--plot", str(plot), "--challenge", challenge.hex())

        assert command(*asked) == (0, "".join(f"{proof}\n" for proof in proofs), "")
        assert command(*asked, "--quality") == (0, "".join(f"{quality}\n" for quality in qualities), "")
        assert command(*asked, "--index", str(len(proofs) - 1)) == (0, f"{proofs[-1]}\n", "")
        said = json.loads(command(*asked, "--json")[1])
        assert said["plot_id"] == prover.get_id().hex()
        assert (said["k"], said["level"]) == (prover.get_size(), "C0")
        shown = [(one["index"], one["status"], one["proof"], one["quality"]) for one in said["proofs"]]
        assert shown == [(n, "ok", *both) for n, both in enumerate(zip(proofs, qualities, strict=True))]


def test_a_challenge_without_proofs_is_answered_with_nothing(
    command: Command, chiapos: Any, plot: Path
) -> None:
    prover = chiapos.DiskProver(str(plot))
    challenge = next(
        c for c in iter(lambda: secrets.token_bytes(32), b"") if not prover.get_qualities_for_challenge(c)
    )

    assert command("plot", "--plot", str(plot), "--challenge", challenge.hex()) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--plot", "absent.plot", "--challenge", CHALLENGE), "absent.plot: No such file"),
        (("--plot", "text", "--challenge", CHALLENGE), "text: it is no plot"),
        (("--plot", ".", "--challenge", CHALLENGE), "no file"),
        (("--plot", "giga", "--challenge", CHALLENGE), "Gigahorse"),
        (("--plot", "text", "--challenge", CHALLENGE[2:]), "31 bytes: 32 were expected"),
        (("--plot", "text", "--challenge", "xy"), "hex digits"),
        (("--plot", "text", "--challenge", ""), "0 bytes"),
        (("--challenge", CHALLENGE), "--plot"),
        (("--plot", "text"), "--challenge"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_3(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "text").write_text("this is a text")
    (tmp_path / "giga").write_bytes(b"Proof of Space Plot" + bytes(32) + b"\x20\0\x04v2.4" + bytes(200))
    monkeypatch.chdir(tmp_path)

    code, out, err = command("plot", *words)

    assert (code, out) == (3, "")
    assert told in err
    assert len(err.splitlines()) <= 2


def test_a_compressed_plot_is_recomputed_here_where_there_is_no_farm(
    warm: Path, command: Command, tmp_path: Path, chiapos: Any
) -> None:
    from . import compressed_plots

    kept = [x >> 17 for x in plain.plot_order(KNOWN.xs())]
    inner = [plain.line_point(kept[n], kept[n + 1]) for n in range(0, 64, 2)]
    entries = [plain.line_point(inner[n], inner[n + 1]) for n in range(0, 32, 2)]
    path = tmp_path / "c2.plot"
    compressed_plots.write_one_proof(path, KNOWN, 2, entries, random.Random(1))
    asked = ("plot", "--plot", str(path), "--challenge", CHALLENGE)

    code, out, err = command(*asked, "--deadline-ms", "60000")
    assert (code, out) == (0, f"{KNOWN.proof.hex()}\n"), err
    assert "computing here, on one core" in err

    compressed_plots.write_one_proof(
        path, KNOWN, 2, [*entries[:5], entries[5] - 3, *entries[6:]], random.Random(1)
    )
    code, out, err = command(*asked, "--local", "--json", "--deadline-ms", "60000")
    (one,) = json.loads(out)["proofs"]
    assert code == 1
    assert one["status"] in ("no_proof", "error")
    assert "proof" not in one
    assert "damaged" in err

    # A server that was not joined is never asked, and nothing else instead of it.
    code, out, err = command(*asked, "--hosts", "127.0.0.1:1")
    assert (code, out) == (6, "")
    assert "majordomo join" in err


# --- bench and estimate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("bench", "--seconds", "0"), "--seconds 0"),
        (("bench", "--seconds", "nan"), "--seconds nan"),
        (("bench", "--level", "C10"), "C10"),
        (("bench", "--difficulty", "-1"), "--difficulty -1"),
        (("estimate", "--difficulty", "nan"), "--difficulty nan"),
        (("bench", "absent.jsonl"), "absent.jsonl: No such file"),
        (("bench", "empty.jsonl"), "no requests"),
        (("bench", "--max-cores", "0"), "--max-cores 0"),
        (("bench", "--deadline-ms", "-5"), "--deadline-ms -5"),
        (("bench", "--hosts", "a,,b"), "''"),
        (("bench", "--hosts", "a", "--local"), "--local"),
        (("run", "absent.jsonl"), "absent.jsonl: No such file"),
        (("run", "some.jsonl"), "no recompute server is configured"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_measured(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "some.jsonl").write_text('{"kernel": "mc.sum"}\n')
    monkeypatch.chdir(tmp_path)

    code, out, err = command(*words)

    assert (code, out) == (3, "")
    assert told in err


def test_this_machine_is_measured_where_there_is_no_farm(warm: Path, command: Command) -> None:
    code, out, err = command("bench", "--level", "C1", "--seconds", "0.2", "--max-cores", "1", "--json")
    said = json.loads(out)

    assert code == 0, err
    assert (said["where"], said["slots"]) == ("local", 1)
    (level,) = said["levels"]
    assert level["proof"]["count"] >= 2
    assert level["proof"]["p95_ms"] >= level["proof"]["p50_ms"] > level["quality"]["p50_ms"] > 0
    assert level["plots"]["512"] > level["plots"]["128"] > 0

    code, out, err = command("estimate", "--local", "--max-cores", "1")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[3:]] == [f"C{n}" for n in range(1, 10)]


class Wrong:
    """A server that answers the second of all requests wrongly, and does not answer the third."""

    def __init__(self) -> None:
        self.asked = 0

    def submit(self, request: Mapping[str, object]) -> Future[Answer]:
        self.asked += 1
        right = next(one for one in known() if one.challenge == request["challenge"])
        values: dict[str, object] = {"proof": bytes(256) if self.asked == 2 else bytes.fromhex(right.proof)}
        status = "deadline" if self.asked == 3 else "ok"
        future: Future[Answer] = Future()
        future.set_result(
            Answer(id=b"", status=status, reason="late", values=values, worker="w", wall_ms=2.0)
        )
        return future


def test_a_wrong_answer_is_no_answer_and_is_said() -> None:
    measured = recompute_bench._measure(Wrong(), "C1", "proof", 1e-9, 2)  # type: ignore[arg-type]

    assert measured.count == 2
    assert measured.troubles == {"w has answered with a wrong proof": 1, "deadline: late": 1}


# --- batch --------------------------------------------------------------------------------------------------


def test_a_batch_says_where_it_is_wrong_and_loses_nothing(warm: Path, tmp_path: Path) -> None:
    requests, results = tmp_path / "r.jsonl", tmp_path / "out.jsonl"
    good = {"kernel": "hash.search", "prefix": "c0ffee", "start": 0, "count": 400, "bits": 4}
    lines = [json.dumps({**good, "id": "first"}), "nonsense", json.dumps({"kernel": "hash.serch", "id": 7})]
    requests.write_text("\n".join([*lines, json.dumps({**good, "start": 400, "id": "last"}), ""]))

    done = subprocess.run(
        ["cf-recompute", "batch", str(requests), str(results)], capture_output=True, text=True, check=False
    )

    said = [json.loads(line) for line in results.read_text().splitlines()]
    assert done.returncode == 1
    assert [(one["id"], one["status"]) for one in said] == [
        ("first", "ok"), ("", "bad_request"), (7, "bad_request"), ("last", "ok"),
    ]  # fmt: skip
    assert f"{requests}:2: error: it is not JSON" in done.stderr
    assert f"{requests}:3: error: bad_request: no kernel 'hash.serch'" in done.stderr
    assert "2 of 4" in done.stderr
    # A task that fails brings no files back, but it has a log.
    assert [json.loads(line) for line in done.stdout.splitlines()] == said

    again = subprocess.run(
        ["cf-recompute", "batch", str(requests), str(requests)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 3
    assert requests.read_text().startswith('{"kernel"'), "the requests are still there"


def test_the_example_recomputes_a_plot_s_proofs_on_the_farm(warm: Path, tmp_path: Path, chiapos: Any) -> None:
    folder = tmp_path / "example"
    shutil.copytree(ROOT / "examples" / "recompute", folder, ignore=shutil.ignore_patterns("build", ".*"))
    compiled = sorted(path for path in (warm / "cache" / "kernels").rglob("*") if path.is_file())

    done = subprocess.run(
        ["majordomo", "run"],
        cwd=folder,
        env={**os.environ, "CI": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "proofs came back whole" in done.stdout
    assert compiled == sorted(path for path in (warm / "cache" / "kernels").rglob("*") if path.is_file()), (
        "the task has used what the worker had compiled"
    )
