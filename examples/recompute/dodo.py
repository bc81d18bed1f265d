"""Make a small plot, forget most bits of its proofs, and have the farm compute them again.

    pip install 'computefarm[recompute]' chiapos
    majordomo run          # on this machine, or on the farm it has joined, where a worker offers recompute
"""

import contextlib
import json
import os
from pathlib import Path

from computefarm import needs

K, DROPPED, CHALLENGES = 18, 6, 20


@contextlib.contextmanager
def quiet(log):
    """Send what the plotter prints to a file: it prints past Python, and much."""
    shown = os.dup(1)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(shown, 1)
            os.close(shown)


def plot_and_ask(targets):
    """Plot, prove some challenges, and write each proof without its lowest bits as a request."""
    import chiapos

    plot, requests, proofs = map(Path, targets)
    plot.parent.mkdir(exist_ok=True)
    plot_id = os.urandom(32)
    folder = str(plot.parent)
    with quiet(plot.with_suffix(".log")):
        chiapos.DiskPlotter().create_plot_disk(
            folder, folder, folder, plot.name, K, b"memo", plot_id, 11, 0, 4000, 2, False
        )
    prover = chiapos.DiskProver(str(plot))
    asked, known = [], {}
    for _ in range(CHALLENGES):
        challenge = os.urandom(32)
        for index in range(len(prover.get_qualities_for_challenge(challenge))):
            proof = prover.get_full_proof(challenge, index)
            bits = int.from_bytes(proof, "big")
            xs = [bits >> (K * (63 - place)) & ((1 << K) - 1) for place in range(64)]
            name = f"{len(asked):04x}"
            known[name] = {"challenge": challenge.hex(), "proof": proof.hex(), "plot_id": plot_id.hex()}
            asked.append({
                "kernel": "chia.pos1", "id": name, "op": "proof", "plot_id": plot_id.hex(), "k": K,
                "d": DROPPED, "form": "trunc64", "data": [x >> DROPPED for x in xs],
                "challenge": challenge.hex(),
            })  # fmt: skip
    requests.write_text("".join(json.dumps(one) + "\n" for one in asked))
    proofs.write_text(json.dumps(known))


def verify(dependencies):
    """Compare what came back with the proofs, and have chiapos judge it."""
    import chiapos

    by_suffix = {"".join(Path(path).suffixes): Path(path) for path in dependencies}
    known = json.loads(by_suffix[".json"].read_text())
    answers = [json.loads(line) for line in by_suffix[".results.jsonl"].read_text().splitlines()]
    for answer in answers:
        right = known.pop(answer["id"])
        proof, challenge = bytes.fromhex(answer["proof"]), bytes.fromhex(right["challenge"])
        quality = chiapos.Verifier().validate_proof(bytes.fromhex(right["plot_id"]), K, challenge, proof)
        if answer["proof"] != right["proof"] or not quality:
            raise ValueError(f"{answer['id']}: a wrong proof came back")
    if known:
        raise ValueError(f"not answered: {', '.join(known)}")
    print(f"{len(answers)} proofs came back whole")


def task_plot():
    return {
        "actions": [plot_and_ask],
        "targets": ["build/small.plot", "build/proofs.recompute.jsonl", "build/proofs.json"],
        "uptodate": [True],
    }


def task_recompute():
    return {
        "actions": [["cf-recompute", "batch", "build/proofs.recompute.jsonl", "build/proofs.results.jsonl"]],
        "file_dep": ["build/proofs.recompute.jsonl"],
        "targets": ["build/proofs.results.jsonl"],
        "meta": needs("recompute"),
    }


def task_verify():
    return {
        "actions": [verify],
        "file_dep": ["build/proofs.results.jsonl", "build/proofs.json"],
        "verbosity": 2,
    }
