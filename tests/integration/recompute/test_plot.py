"""The reader of plots against chiapos' prover, and on files that are no plots."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import pytest
from computefarm.workers.recompute.plot.header import PlotError

from computefarm.worker_api.kernel import BadRequest
from computefarm.worker_api.plot import open_plot


def test_the_proofs_of_a_fresh_plot(plot: Path, chiapos: Any) -> None:
    prover = chiapos.DiskProver(str(plot))
    found = 0
    with open_plot(plot) as reader:
        while found < 12:
            challenge = secrets.token_bytes(32)
            qualities = prover.get_qualities_for_challenge(challenge)
            proofs = [prover.get_full_proof(challenge, n) for n in range(len(qualities))]
            entries = reader.entries(challenge)
            assert [reader.quality(entry, challenge) for entry in entries] == qualities
            assert [reader.proof(entry, challenge) for entry in entries] == proofs
            found += len(proofs)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no plot"),
        (b"hello world, this is a text", "no plot"),
        (b"PLOT", "ends within its header"),
        (b"PLOT\x03\0\0\0" + bytes(200), "Gigahorse"),
        (b"Proof of Space Plot" + bytes(32) + b"\x20\0\x04v2.0" + bytes(200), "Gigahorse"),
        (b"PLOT\x02\0\0\0" + bytes(32) + b"\x20\0\0\x01\0\0\0\x15" + bytes(200), "C21"),
        (b"PLOT\x02\0\0\0" + bytes(32) + b"\x63\0\0\0\0\0\0" + bytes(200), "k is 99"),
    ],
)
def test_what_is_no_readable_plot_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "x.plot"
    path.write_bytes(content)

    with pytest.raises(BadRequest, match=word):
        open_plot(path)


def test_a_plot_that_is_cut_off(plot: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "half.plot", plot.read_bytes()
    path.write_bytes(whole[:1_000_000])
    with pytest.raises(BadRequest, match=r"damaged or cut off.*being written or copied"):
        open_plot(path)

    # The end of the last park of C3 is padding: cut into what comes before it.
    park = len(whole) - (10000 if whole[51] < 20 else 3000)
    length = int.from_bytes(whole[park : park + 2], "big")
    path.write_bytes(whole[: park + length // 2])
    with open_plot(path) as reader, pytest.raises(BadRequest, match="damaged"):
        reader.entries(b"\xff" * 32)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for name, words in (("absent.plot", "No such file"), ("pipe", "no file"), (".", "no file")):
        with pytest.raises(BadRequest, match=words):
            open_plot(tmp_path / name)


def test_a_plot_whose_tables_are_not_all_written_yet(plot: Path, tmp_path: Path) -> None:
    content = bytearray(plot.read_bytes())
    pointers = 52 + 2 + 4 + 2 + 4
    content[pointers + 6 * 8 : pointers + 80] = bytes(32)
    path = tmp_path / "x.plot.2.tmp"
    path.write_bytes(content)

    with pytest.raises(BadRequest, match=r"no table 7: is it still being written"):
        open_plot(path)


def test_a_plot_whose_parks_are_garbage(plot: Path, tmp_path: Path) -> None:
    content = bytearray(plot.read_bytes())
    content[1000:-1000] = secrets.token_bytes(len(content) - 2000)
    path = tmp_path / "garbage.plot"
    path.write_bytes(content)

    with open_plot(path) as reader:
        for _ in range(20):
            with contextlib.suppress(PlotError):
                challenge = secrets.token_bytes(32)
                assert [reader.proof(entry, challenge) for entry in reader.entries(challenge)] == []
