"""Load compiled code when it is first needed, and say what is missing where it cannot be."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from computefarm.worker_api.kernel import KernelError


def compiled_module(name: str) -> Any:
    """Return a module of this package that needs numba; raises `KernelError` where there is none."""
    for needed in ("numpy", "numba"):
        if importlib.util.find_spec(needed) is None:
            raise KernelError(f"recompute kernels need {needed}", hint="pip install 'computefarm[recompute]'")
    return importlib.import_module(f"{__package__}.{name}")


def cuda_module(name: str) -> Any:
    """Return a module of this package that computes with CUDA; raises `KernelError` where there is none."""
    try:
        return compiled_module(name)
    except ImportError as error:
        hint = "pip install 'computefarm[gpu]'"
        raise KernelError(f"numba without CUDA support: {error}", hint=hint) from error
