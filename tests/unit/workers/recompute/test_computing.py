"""A process with a GPU that fails in every way gives right answers, and says why it does without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from computefarm.workers.recompute import computing
from computefarm.workers.recompute.computing import Computing
from computefarm.workers.recompute.devices import Device

from computefarm.worker_api.kernel import Context, Cost, DeadlinePassed, KernelError, Result

GPU = Device(1, "NVIDIA Test", "GPU-1", 8 << 30, 8 << 30, "GPU-1")
NEED = 1 << 20


class Doubler:
    """Doubles a number; what goes wrong on the GPU is set from outside."""

    name: ClassVar[str] = "double"
    version: ClassVar[int] = 1
    devices: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    error: Exception | None = None
    broken = False
    wrong = 0

    def parse(self, raw: Mapping[str, object]) -> int:
        return int(str(raw["n"]))

    def cost(self, request: int) -> Cost:
        return Cost(memory=0, cpu_s=1.0, gpu_s=0.1, vram=NEED)

    def split(self, request: int, parts: int) -> list[int]:
        return [request]

    def run(self, part: int, context: Context) -> int:
        context.check()
        if context.device == "cuda":
            if self.error is not None:
                raise self.error
            return 2 * part + self.wrong
        return 2 * part

    def merge(self, request: int, partials: list[int]) -> Result:
        return Result("ok", {"twice": partials[0]})

    def verify(self, request: int, result: Result) -> bool:
        return bool(result.values["twice"] == 2 * request)

    def warmup(self, context: Context) -> None:
        pass

    def selftest(self, context: Context) -> None:
        if context.device == "cuda" and self.broken:
            raise KernelError("it computes 5 for twice 2")

    def tags(self) -> dict[str, str]:
        return {}


class Plain(Doubler):
    name = "plain"
    devices = frozenset({"cpu"})


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Doubler:
    found: dict[str, Any] = {"double": Doubler(), "plain": Plain()}
    monkeypatch.setattr(computing, "find", found.__getitem__)
    return found["double"]  # type: ignore[no-any-return]


def loaded(*names: str) -> Computing:
    made = Computing(Context(scratch={}), Context(device="cuda", scratch={}), GPU, release=lambda: None)
    made.load(names or ("double",))
    return made


def twice(made: Computing, device: str = "any", *, vram: int = NEED) -> tuple[str, Any, str]:
    done = made.compute("double", 1, {"n": 21}, device, vram)
    return done.result.status, done.result.values.get("twice", done.result.reason), done.device


def test_it_computes_where_it_is_told_to_and_names_the_gpu(kernel: Doubler) -> None:
    made = loaded("double", "plain")

    assert twice(made) == twice(made, "gpu") == ("ok", 42, "cuda:1 NVIDIA Test GPU-1")
    assert twice(made, "cpu") == ("ok", 42, "cpu")
    assert dict(made.tags())["devices"] == "cpu cuda"
    assert dict(made.tags())["devices:plain"] == "cpu"
    assert made.compute("plain", 1, {"n": 1}, "gpu").result.status == "error"
    assert made.compute("plain", 1, {"n": 1}, "any").device == "cpu"


def test_a_gpu_that_fails_its_self_test_is_not_used(kernel: Doubler) -> None:
    kernel.broken = True
    made = Computing(Context(), Context(device="cuda"), GPU, release=lambda: None)

    assert made.load(["double"]) == ["double on the GPU: it computes 5 for twice 2"]
    assert made.lost == "double on the GPU: it computes 5 for twice 2"
    assert dict(made.tags())["devices"] == "cpu"
    assert twice(made) == ("ok", 42, "cpu")


def test_a_wrong_answer_is_never_given_and_ends_the_use_of_the_gpu(kernel: Doubler) -> None:
    made = loaded()
    kernel.wrong = 1

    assert twice(made) == ("ok", 42, "cpu")
    assert "wrong" in made.lost
    assert dict(made.tags())["devices"] == "cpu"
    kernel.wrong = 0
    assert twice(made) == ("ok", 42, "cpu")


def test_an_error_of_cuda_ends_the_use_of_the_gpu_when_the_self_test_fails_too(kernel: Doubler) -> None:
    made = loaded()
    kernel.error, kernel.broken = RuntimeError("[700] Call to cuMemcpyDtoH results in\nillegal address"), True

    assert twice(made) == ("ok", 42, "cpu")
    assert made.lost == (
        "double on the GPU: RuntimeError: [700] Call to cuMemcpyDtoH results in illegal address"
    )


def test_one_error_of_a_gpu_that_works_is_passed_over(kernel: Doubler) -> None:
    made = loaded()
    kernel.error = RuntimeError("once")

    assert twice(made) == ("ok", 42, "cpu")
    kernel.error = None
    assert twice(made) == ("ok", 42, "cuda:1 NVIDIA Test GPU-1")
    assert made.lost == ""


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[2] CUDA_ERROR_OUT_OF_MEMORY")])
def test_a_gpu_that_others_have_filled_is_used_again_later(kernel: Doubler, error: Exception) -> None:
    made = loaded()
    kernel.error, kernel.broken = error, True

    assert twice(made) == ("ok", 42, "cpu")
    assert made.lost == ""


def test_who_demands_the_gpu_is_told_of_its_failure_so_that_others_are_asked(kernel: Doubler) -> None:
    made = loaded()
    kernel.wrong = 1

    status, reason, device = twice(made, "gpu")

    assert (status, device) == ("error", GPU.label)
    assert "wrong" in reason
    assert twice(made, "gpu")[0] == "error"
    assert twice(made, "any") == ("ok", 42, "cpu")


def test_a_deadline_is_no_fault_of_the_gpu(kernel: Doubler) -> None:
    made = loaded()
    kernel.error = DeadlinePassed("late")

    assert twice(made)[0] == "deadline"
    assert made.lost == ""


def test_no_more_of_the_gpus_memory_is_taken_than_was_kept(kernel: Doubler) -> None:
    assert twice(loaded(), "gpu", vram=NEED - 1)[0] == "too_large"


def test_what_a_request_took_of_the_gpu_is_given_back_however_it_ends(kernel: Doubler) -> None:
    released: list[str] = []
    made = Computing(Context(), Context(device="cuda"), GPU, release=lambda: released.append("x"))
    made.load(["double"])
    twice(made)
    kernel.error = RuntimeError("no")
    twice(made)

    assert len(released) == 2
