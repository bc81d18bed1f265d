"""A worker that lends a GPU, with numba's simulator in its place: it says of itself everywhere that it is none."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from .conftest import Machine, wait_for

SIMULATOR = "cuda:0 CUDA simulator of numba (no GPU) simulated"

KERNEL = '''
import os
import time

from computefarm.worker_api.kernel import Cost, KernelError, Result, whole


class OnGpu:
    """Sleeps, on whatever device, and says where; its GPU can be broken."""

    name, version, devices = "test.gpu", 1, frozenset({"cpu", "cuda"})
    broken = False

    def parse(self, raw):
        return {"mib": whole(raw, "mib", 0, 1 << 20, default=0), "break": bool(raw.get("break")), "ms": raw.get("ms", 0)}

    def cost(self, request):
        return Cost(memory=0, cpu_s=1.0, gpu_s=0.001, vram=request["mib"] << 20)

    def split(self, request, parts):
        return [request]

    def run(self, request, context):
        began = time.monotonic()
        time.sleep(request["ms"] / 1000)
        if context.device == "cuda" and request["break"]:
            OnGpu.broken = True
            raise RuntimeError("[700] illegal memory access")
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
        return {"on": context.device, "sees": seen, "pid": os.getpid(), "began": began, "ended": time.monotonic()}

    def merge(self, request, partials):
        return Result("ok", partials[0])

    def verify(self, request, result):
        return True

    def warmup(self, context):
        pass

    def selftest(self, context):
        if context.device == "cuda" and self.broken:
            raise KernelError("broken")

    def tags(self):
        return {}
'''


DODO = """
from computefarm import needs

def task_search():
    return {
        "actions": [["cf-recompute", "batch", "tasks.jsonl", "results.jsonl"]],
        "file_dep": ["tasks.jsonl"],
        "targets": ["results.jsonl"],
        "meta": needs("recompute", tags={"variant": "gpu"}),
    }
"""


class Lender:
    """A server of three slots on a machine with a simulated GPU."""

    def __init__(self, folder: Path, kernel_cache: Path, kernels: str) -> None:
        self.folder = folder
        self.machine = Machine(folder / "home")
        plugins = folder / "kernels"
        about = plugins / "gpu_kernel-1.0.dist-info"
        about.mkdir(parents=True)
        (plugins / "gpu_kernel.py").write_text(KERNEL)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gpu-kernel\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[computefarm.kernels]\ntest.gpu = gpu_kernel:OnGpu\n")
        shutil.copytree(kernel_cache, self.machine.home / "cache" / "kernels")
        self.machine.environ |= {"PYTHONPATH": str(plugins), "CF_RECOMPUTE_KERNELS": kernels}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def start(self, **environ: str) -> None:
        """Start the server, and wait until it can be asked."""
        self.machine.environ |= environ
        words = ("cf-worker", "--capability", "recompute", "--slots", "3", "--name", "lender")
        self.machine.start(*words, "--no-monitor", "--nice", "0", "--serve", self.address)
        wait_for(lambda: self.offered(1), "a warm worker", self.machine.logs, 90)

    def offered(self, times: int) -> bool:
        """Return whether the worker has told so often what its processes can do."""
        return str(self.machine.logs()).count("offering recompute: ") == times

    def status(self) -> dict[str, Any]:
        done = self.machine.call("majordomo", "status", "--json", cwd=self.folder)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def tags(self) -> dict[str, str]:
        """Return what the worker says of its capability; nothing before it is warm."""
        workers = self.status().get("workers", [])
        offered = workers[0]["capabilities"].get("recompute", {}) if workers else {}
        return dict(offered.get("tags", {}))

    def run(self, *requests: dict[str, object]) -> list[dict[str, Any]]:
        """Ask, and return the answers."""
        path = self.folder / "requests.jsonl"
        lines = [
            {"kernel": "test.gpu", "deadline_ms": 60_000, "n": n, **raw} for n, raw in enumerate(requests)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = self.machine.call("cf-recompute", "run", str(path), "--hosts", self.address, cwd=self.folder)
        assert not done.stderr, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def lender(tmp_path: Path, kernel_cache: Path) -> Iterator[Lender]:
    made = Lender(tmp_path, kernel_cache, "hash.search,test.gpu")
    yield made
    made.machine.stop()


def test_a_gpu_is_lent_named_shared_by_memory_and_withdrawn_when_it_fails(
    lender: Lender, until: Callable[..., None]
) -> None:
    lender.start(NUMBA_ENABLE_CUDASIM="1", CF_RECOMPUTE_SIMULATOR="1")

    # What is offered.
    tags = lender.tags()
    assert tags["variant"] == "gpu"
    assert tags["devices"] == "cpu cuda"
    assert tags["units"] == SIMULATOR
    log = lender.machine.logs()
    assert f"slot 2 computes on {SIMULATOR}" in log
    assert "slot 3 computes on the CPU" in log

    # An answer of the GPU is that of the CPU, and says where it is from; nobody gets a simulator unasked.
    search = {"kernel": "hash.search", "prefix": "aa", "count": 8, "bits": 1}
    on_gpu, on_cpu, any_ = lender.run(
        {**search, "device": "gpu"}, {**search, "device": "cpu"}, {**search, "n": 0}
    )
    assert on_gpu["status"] == on_cpu["status"] == "ok"
    assert (on_gpu["numbers"], on_gpu["hashes"]) == (on_cpu["numbers"], on_cpu["hashes"])
    assert (on_gpu["device"], on_cpu["device"], any_["device"]) == (SIMULATOR, "cpu", "cpu")
    assert f"hash.search took {on_gpu['wall_ms']:.1f} ms on {SIMULATOR} of lender" in lender.machine.logs()

    # Each process sees its own GPU alone; the one for the CPU sees none.
    asked = [{"device": device, "ms": 300} for device in ("gpu", "gpu", "cpu")]
    first, second, third = lender.run(*asked)
    assert len({first["pid"], second["pid"], third["pid"]}) == 3
    assert (first["on"], first["sees"]) == (second["on"], second["sees"]) == ("cuda", "0")
    assert (third["on"], third["sees"]) == ("cpu", "")

    # Of what needs two thirds of its memory there is one at a time.
    large = lender.run(*[{"device": "gpu", "ms": 100, "mib": 2000}] * 3)
    spans = sorted((reply["began"], reply["ended"]) for reply in large)
    assert all(one[1] <= next_[0] for one, next_ in pairwise(spans)), spans
    (too_large,) = lender.run({"device": "gpu", "mib": 5000})
    assert too_large["status"] == "error"
    assert "has 2.8 GiB on its GPU, the request needs 4.9 GiB" in too_large["reason"]

    # A task that asks for the variant computes there too.
    (lender.folder / "dodo.py").write_text(DODO)
    (lender.folder / "tasks.jsonl").write_text(json.dumps({**search, "device": "gpu"}) + "\n")
    lender.machine.majordomo("run", cwd=lender.folder)
    in_task = json.loads((lender.folder / "results.jsonl").read_text())
    assert (in_task["numbers"], in_task["device"]) == (on_gpu["numbers"], SIMULATOR)

    # Every device has its figures.
    (server,) = lender.status()["requests"]["servers"]
    cpu, gpu = server["devices"]
    assert (cpu["device"], gpu["device"]) == ("cpu", SIMULATOR)
    assert (gpu["served"], gpu["failed"], gpu["running"]) == (6, 0, 0)
    assert cpu["served"] == 3
    assert gpu["p99_ms"] >= gpu["p50_ms"] >= 100

    # A GPU that fails is not used any more, by the slot that saw it; when none is left, nothing of it is offered.
    for _ in range(2):
        (failed,) = lender.run({"device": "gpu", "break": True, "ms": 100})
        assert (failed["status"], failed["device"]) == ("error", SIMULATOR)
        assert "illegal memory access" in failed["reason"]
    until(lambda: lender.offered(2), "withdrawal of the GPU", lender.machine.logs)
    until(lambda: lender.tags()["devices"] == "cpu", "what is offered instead", lender.machine.logs)
    assert (after := lender.tags())["variant"] == "cpu"
    assert not {"units", "vram", "gpu"} & after.keys()
    assert (
        f"{SIMULATOR} is not used any more by slot 1: test.gpu on the GPU: RuntimeError: [700]"
        in lender.machine.logs()
    )
    refused, answered = lender.run({"device": "gpu"}, {"device": "any"})
    assert refused["status"] == "error"
    assert "no worker can do this: lender computes on cpu, not on gpu" in refused["reason"]
    assert (answered["status"], answered["device"]) == ("ok", "cpu")


def test_a_real_gpu_answers_as_a_core_does_and_sooner(tmp_path: Path, kernel_cache: Path) -> None:
    lender = Lender(tmp_path, kernel_cache, "hash.search,mc.sum")
    found = lender.machine.call("cf-recompute", "devices", "--brief", cwd=tmp_path)
    if found.returncode != 0:
        pytest.skip(f"NOT TESTED on a GPU: {found.stderr.strip()}")
    try:
        lender.start()
        large = (
            {"kernel": "hash.search", "count": 1 << 24, "bits": 20},
            {"kernel": "mc.sum", "seed": 7, "blocks": 1 << 24},
        )
        for raw in large:
            on_gpu, on_cpu = (lender.run({**raw, "device": device})[0] for device in ("gpu", "cpu"))
            assert on_gpu["device"].startswith("cuda:"), on_gpu
            facts = ("device", "cpu_ms", "wall_ms", "queue_ms", "worker", "attempts")
            assert {**on_gpu, **{name: on_cpu[name] for name in facts}} == on_cpu
            print(
                f"{raw['kernel']}: {on_cpu['wall_ms'] / on_gpu['wall_ms']:.0f} times one core of this machine"
            )
            assert on_gpu["wall_ms"] < on_cpu["wall_ms"]
    finally:
        lender.machine.stop()


def test_without_a_gpu_the_same_is_offered_on_the_cpu_and_said_in_one_line(
    machine: Any, tmp_path: Path
) -> None:
    for environ, words in (
        ({"CUDA_VISIBLE_DEVICES": ""}, "no GPU: CUDA_VISIBLE_DEVICES='' hides every GPU"),
        ({"NUMBA_ENABLE_CUDASIM": "1"}, "is of use for tests only"),
    ):
        machine.environ |= environ
        done = machine.call("cf-worker", "--probe", "--capability", "recompute", cwd=tmp_path)
        assert "variant=cpu" in done.stdout
        assert len([line for line in done.stdout.splitlines() if words in line]) == 1, done.stdout
        done = machine.call("cf-recompute", "devices", cwd=tmp_path)
        assert (done.returncode, words in done.stderr) == (5, True)
        for name in environ:
            del machine.environ[name]
