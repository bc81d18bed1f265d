"""`cf-recompute plot`: the proofs or qualities that a plot has for a challenge, as a prover tells them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from computefarm.errors import UsageError
from computefarm.worker_api.kernel import ANSWERED, BAD_REQUEST, NO_PROOF, OK, BadRequest, Result, find
from computefarm.worker_api.plot import PlotFile, open_plot

from .recompute_asking import Asked, add_options, client, nobody

Fields = dict[str, Any]


class _Found(msgspec.Struct):
    """One proof, as far as it was asked for and found."""

    proof: str = ""
    quality: str = ""
    trouble: str = ""
    answer: Fields = {}
    """What a server has said, as `cf-recompute run` shows it."""

    def fields(self, index: int) -> Fields:
        """Return what `--json` shows."""
        said: Fields = {"index": index, "status": "error" if self.trouble else OK, **self.answer}
        said |= {name: text for name in ("proof", "quality") if (text := getattr(self, name))}
        if self.trouble:
            said["reason"] = self.trouble
        return said


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    plot = commands.add_parser(
        "plot", help="the proofs that a plot file has for a challenge; what it lacks is recomputed"
    )
    plot.add_argument("--plot", required=True, metavar="FILE", help="of chiapos (v1) or bladebit (v2)")
    plot.add_argument("--challenge", required=True, metavar="HEX", help="32 bytes")
    plot.add_argument("--quality", action="store_true", help="only the qualities, which is much cheaper")
    plot.add_argument("--index", type=int, metavar="N", help="only this one of the proofs, counted from 0")
    plot.add_argument("--json", action="store_true", help="one object, for programs")
    add_options(plot, local=True)
    plot.set_defaults(call=run)


def run(arguments: argparse.Namespace) -> int:
    """Answer; return the exit code."""
    challenge = _challenge(arguments.challenge)
    try:
        with open_plot(Path(arguments.plot)) as plot:
            entries = list(enumerate(plot.entries(challenge)))
            chosen = _chosen(entries, arguments.index)
            found = _ask(arguments, plot, chosen, challenge) if chosen else []
            _print(arguments, plot, challenge, list(zip((n for n, _ in chosen), found, strict=True)))
    except BadRequest as error:
        raise UsageError(str(error)) from error
    for number, one in zip((n for n, _ in chosen), found, strict=True):
        if one.trouble:
            print(f"cf-recompute: proof {number} of {arguments.plot}: {one.trouble}", file=sys.stderr)
    return 1 if any(one.trouble for one in found) else 0


def _challenge(text: str) -> bytes:
    try:
        challenge = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise UsageError(f"--challenge {text[:80]!r}: hex digits were expected") from None
    if len(challenge) != 32:
        raise UsageError(f"--challenge has {len(challenge)} bytes: 32 were expected, that is 64 hex digits")
    return challenge


def _chosen(entries: list[tuple[int, int]], index: int | None) -> list[tuple[int, int]]:
    if index is None:
        return entries
    if not 0 <= index < len(entries):
        raise UsageError(f"--index {index}: the plot has {len(entries)} proofs for this challenge")
    return [entries[index]]


def _ask(
    arguments: argparse.Namespace, plot: PlotFile, chosen: list[tuple[int, int]], challenge: bytes
) -> list[_Found]:
    if not plot.level:
        return [_read(plot, entry, challenge, quality=arguments.quality) for _, entry in chosen]
    wanted = [_requests(plot, entry, challenge, quality=arguments.quality) for _, entry in chosen]
    most = sum(len(requests) for requests in wanted if not isinstance(requests, _Found))
    if not most:
        return [one for one in wanted if isinstance(one, _Found)]
    with client(arguments, most=most) as asked:
        return [one if isinstance(one, _Found) else _recompute(asked, one) for one in _begun(asked, wanted)]


def _read(plot: PlotFile, entry: int, challenge: bytes, *, quality: bool) -> _Found:
    """Return a proof or a quality that the plot holds."""
    try:
        if quality:
            return _Found(quality=plot.quality(entry, challenge).hex())
        proof = plot.proof(entry, challenge).hex()
        return _Found(proof=proof, quality=plot.quality(entry, challenge).hex())
    except BadRequest as error:
        return _Found(trouble=str(error))


# --- recomputing --------------------------------------------------------------------------------------


def _requests(
    plot: PlotFile, entry: int, challenge: bytes, *, quality: bool
) -> list[dict[str, Any]] | _Found:
    """Return what is to be asked for one proof, each a reading of the plot's numbers."""
    try:
        request = plot.quality_request(entry, challenge) if quality else None
        return [request] if request else plot.requests(entry, challenge)
    except BadRequest as error:
        return _Found(trouble=str(error))


class _Begun(msgspec.Struct):
    requests: list[dict[str, Any]]
    futures: list[Any]


def _begun(asked: Asked, wanted: list[list[dict[str, Any]] | _Found]) -> list[_Begun | _Found]:
    """Ask everything at once: these are few, and wait for each other nowhere."""
    return [
        one if isinstance(one, _Found) else _Begun(one, [asked.submit(request) for request in one])
        for one in wanted
    ]


def _recompute(asked: Asked, begun: _Begun) -> _Found:
    """Return the first reading's proof that there is; it is checked here once more."""
    failed: list[str] = []
    for request, future in zip(begun.requests, begun.futures, strict=True):
        answer = future.result()
        said: Fields = {k: v for k, v in json.loads(answer.as_json()).items() if k not in ("id", "reason")}
        if answer.status == OK and _right(request, answer.values):
            return _Found(said.get("proof", ""), said.get("quality", ""), answer=said)
        if answer.status == OK:
            failed.append(f"{answer.worker} has answered with what is no proof of this plot")
        elif answer.status == BAD_REQUEST:
            failed.append(f"the plot is damaged there: {answer.reason}")
        elif answer.status not in ANSWERED:
            failed.append(f"{answer.status}: {answer.reason}")
            if not answer.worker:
                _stop_if_nobody(asked)
    if failed:
        return _Found(trouble=failed[0], answer={"status": "error"})
    return _Found(
        trouble="nothing can be recomputed from what the plot keeps: it is damaged there",
        answer={"status": NO_PROOF},
    )


def _right(request: dict[str, Any], values: Any) -> bool:
    kernel = find(request["kernel"])
    return kernel.verify(kernel.parse(request), Result(OK, values))


def _stop_if_nobody(asked: Asked) -> None:
    error = asked.unusable()
    if error is not None:
        raise error
    if not asked.slots(0.0):
        raise nobody()


# --- printing -----------------------------------------------------------------------------------------


def _print(
    arguments: argparse.Namespace, plot: PlotFile, challenge: bytes, found: list[tuple[int, _Found]]
) -> None:
    if not arguments.json:
        for _, one in found:
            if not one.trouble:
                print(one.quality if arguments.quality else one.proof)
        return
    said = {
        "plot": arguments.plot,
        "plot_id": plot.plot_id.hex(),
        "k": plot.k,
        "level": f"C{plot.level}",
        "challenge": challenge.hex(),
        "qualities" if arguments.quality else "proofs": [one.fields(index) for index, one in found],
    }
    print(json.dumps(said, indent=2))
