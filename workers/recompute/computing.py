"""The kernels of one process, on its CPU and on the GPU that it was started for, if any.

A GPU is used as long as it gives right answers. An answer that fails its verification, an error of CUDA, or a
self-test that does: the process says why, computes on its CPU from then on, and the request at hand as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from computefarm.worker_api.kernel import (
    ERROR,
    Context,
    Kernel,
    KernelError,
    Result,
    TooLarge,
    answer,
    find,
)

from .devices import Device
from .kernels.loading import cuda_module

Tags = tuple[tuple[str, str], ...]

OUT_OF_MEMORY = ("out_of_memory", "out of memory")
"""In what CUDA says when somebody else has filled the GPU: it is not broken."""


class GpuError(KernelError):
    """A GPU that cannot be used for a request; `lost` when it cannot be used for any."""

    def __init__(self, text: str, *, lost: bool = True) -> None:
        super().__init__(text)
        self.lost = lost


class Computed(msgspec.Struct, frozen=True):
    """A result, and what it was computed on."""

    result: Result
    device: str


class Computing:
    """Answers requests. Its contexts' `check` is to be set by whoever owns it."""

    def __init__(
        self,
        cpu: Context,
        gpu: Context | None = None,
        device: Device | None = None,
        *,
        release: Callable[[], None] = lambda: cuda_module("cuda_jit").release(),
    ) -> None:
        """`device` is the GPU of the context `gpu`; `release` gives back what was taken of its memory."""
        self.contexts = {"cpu": cpu} if gpu is None else {"cpu": cpu, "cuda": gpu}
        self._device = device
        self._release = release
        self._kernels: dict[str, Kernel[Any, Any]] = {}
        self._works: dict[str, frozenset[str]] = {}
        """Kernel to the devices that it gave known answers on."""
        self.lost = ""
        """Why the GPU is not used; empty while it is, or when there is none."""
        self._gone = False
        """It has failed at work."""

    # --- warming up -----------------------------------------------------------------------------------

    def load(self, wanted: Sequence[str], *, trusting: bool = False) -> list[str]:
        """Warm kernels up and test them; return what does not work here, and why.

        `trusting`: those for the CPU are not tested, as somebody else has done so a moment ago.
        """
        lacking: list[str] = []
        for name in wanted:
            works: set[str] = set()
            for device, context in self.contexts.items():
                if device == "cuda" and self._gone:
                    continue
                reason = self._load(name, device, context, test=device == "cuda" or not trusting)
                if reason:
                    lacking.append(f"{name}{' on the GPU' if device == 'cuda' else ''}: {reason}")
                elif name in self._kernels and device in self._kernels[name].devices:
                    works.add(device)
            if works:
                self._works[name] = frozenset(works)
        if "cuda" in self.contexts and not self._gone:
            used = any("cuda" in works for works in self._works.values())
            failed = next((text for text in lacking if " on the GPU: " in text), "no kernel is for GPUs")
            self.lost = "" if used else failed
        return lacking

    def _load(self, name: str, device: str, context: Context, *, test: bool) -> str:
        """Return why a kernel does not work on a device; nothing when it does, or is not made for it."""
        try:
            kernel = self._kernels.get(name) or find(name)
            if device in kernel.devices:
                kernel.warmup(context)
                if test:
                    kernel.selftest(context)
            self._kernels[name] = kernel
        except KernelError as error:
            return str(error)
        except Exception as error:  # whatever a kernel does wrong must not cost the others
            return f"{type(error).__name__}: {error}"
        return ""

    def works(self, name: str) -> bool:
        """Say whether a kernel works on any device here."""
        return name in self._works

    def preferred(self, name: str, raw: Mapping[str, object], device: str) -> str:
        """Return where to answer a request that may run on `device`; raises `KernelError`."""
        if device != "any" or "cuda" not in self._works.get(name, ()) or self.contexts["cuda"].simulated:
            return "cpu" if device == "any" else device
        kernel = self._kernels[name]
        cost = kernel.cost(kernel.parse(raw))
        return "any" if 0 < cost.gpu_s < cost.cpu_s else "cpu"

    def tags(self) -> Tags:
        """Return what a worker with this process announces."""
        every = frozenset().union(*self._works.values()) if self._works else frozenset({"cpu"})
        tags = {"devices": " ".join(sorted(every))}
        for name, works in self._works.items():
            kernel = self._kernels[name]
            tags.update(kernel.tags())
            tags[f"kernel:{name}"] = str(kernel.version)
            if works != every:
                tags[f"devices:{name}"] = " ".join(sorted(works))
        return tuple(sorted(tags.items()))

    # --- requests -------------------------------------------------------------------------------------

    def compute(
        self, name: str, version: int, raw: Mapping[str, object], device: str = "any", vram: int = 0
    ) -> Computed:
        """Answer a request on `cpu`, `gpu` or `any`; `vram` bytes of the GPU's memory are kept for it."""
        kernel = self._kernels.get(name)
        if kernel is None or name not in self._works or kernel.version < version:
            text = f"there is no kernel {name} for requests of version {version} here"
            return Computed(Result(ERROR, reason=text), "cpu")
        if device != "cpu" and "cuda" in self._works[name]:
            try:
                return Computed(self._on_gpu(kernel, raw, vram), self._label("cuda"))
            except GpuError as error:
                if device == "gpu" or "cpu" not in self._works[name]:
                    self._give_up(error)
                    return Computed(Result(error.status, reason=str(error)), self._label("cuda"))
                result = answer(kernel, raw, self.contexts["cpu"])
                # What the CPU cannot answer either was not the GPU's fault.
                if result.status != ERROR:
                    self._give_up(error)
                return Computed(result, self._label("cpu"))
        elif device == "gpu":
            text = self.lost or f"{name} does not compute on a GPU here"
            return Computed(Result(ERROR, reason=text), "cpu")
        return Computed(answer(kernel, raw, self.contexts["cpu"]), self._label("cpu"))

    def _on_gpu(self, kernel: Kernel[Any, Any], raw: Mapping[str, object], vram: int) -> Result:
        """Compute on the GPU; raises `GpuError` unless it is an answer, or the request's own fault."""
        context = self.contexts["cuda"]
        try:
            need = kernel.cost(kernel.parse(raw)).vram
            if need > vram:
                mib = -(-need // 2**20)
                raise TooLarge(f"it needs {mib} MiB of the GPU's memory, and {vram >> 20} are kept for it")
            context.vram = vram
            result = answer(kernel, raw, context)
        except KernelError as error:
            return Result(error.status, reason=str(error))
        except Exception as error:  # CUDA's errors have no common ancestor over its versions
            raise self._error(kernel, error) from error
        finally:
            # Others compute there as well. A GPU that has failed fails here once more.
            with contextlib.suppress(Exception):
                self._release()
        if result.status == ERROR:
            raise GpuError(result.reason)
        return result

    def _error(self, kernel: Kernel[Any, Any], error: Exception) -> GpuError:
        """Return what an exception means: a broken GPU is one that does not pass the self-test either."""
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
        if isinstance(error, MemoryError) or any(words in text.lower() for words in OUT_OF_MEMORY):
            return GpuError(f"the GPU's memory is full: {text}", lost=False)
        context = msgspec.structs.replace(self.contexts["cuda"], check=lambda: None, scratch={})
        try:
            kernel.selftest(context)
        except Exception:  # what it says is of less interest than how it began
            return GpuError(f"{kernel.name} on the GPU: {text}")
        return GpuError(f"{kernel.name} on the GPU: {text}", lost=False)

    def _give_up(self, error: GpuError) -> None:
        if not error.lost or self._gone:
            return
        self._gone, self.lost = True, str(error)
        self._works = {name: works - {"cuda"} for name, works in self._works.items() if works - {"cuda"}}

    def _label(self, device: str) -> str:
        if device == "cuda" and self._device is not None:
            return self._device.label
        return str(self.contexts[device].scratch.get("device") or device)
