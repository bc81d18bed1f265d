"""Putting the program on a host, and what to type when that fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from computefarm.errors import FarmError, UsageError
from computefarm.remote.farside import Facts, FarError, FarSide
from computefarm.remote.inventory import Host
from computefarm.remote.wheel import Wheel, pip_zip

INSTALL_S = 1800.0
NEEDS = "'doit<0.39' 'pyzmq>=26' msgspec psutil pyyaml platformdirs rich"
Again = Callable[..., str]
"""Return the command line that was typed, with more options."""


def install(far: FarSide, facts: Facts, host: Host, wheel: Wheel, wheels: list[Path], again: Again) -> str:
    """Install the running version there, unless it is there already; return what was done."""
    files = [(wheel.name, wheel.data), *((path.name, path.read_bytes()) for path in wheels)]
    pip = None if has_ensurepip(far, facts) else pip_zip()
    files += [("pip.zip", pip)] if pip is not None else []
    began = time.monotonic()
    try:
        done = far.ask(
            "install",
            [data for _, data in files],
            timeout_s=INSTALL_S,
            venv=host.venv,
            python=facts.python,
            digest=wheel.digest,
            files=[(name, len(data)) for name, data in files],
        )
    except FarError as error:
        raise install_error(error, facts, host, again) from error
    if done["kept"]:
        return f"computefarm {wheel.version} is there already, in {host.venv}"
    return f"computefarm {wheel.version} installed in {host.venv} in {time.monotonic() - began:.0f} s"


def has_ensurepip(far: FarSide, facts: Facts) -> bool:
    """Tell whether Python there can put pip into a virtual environment; Debian's may not."""
    return not far.call(facts.python, "-c", "import ensurepip", environ={})["code"]


def install_error(error: FarError, facts: Facts, host: Host, again: Again) -> FarmError:
    """Return what to tell of an installation that failed there."""
    where, said = host.name, str(error)
    short = ".".join(facts.version.split(".")[:2])
    match error.kind:
        case "disk":
            return FarmError(f"no room on {where}: {said}", hint=host.target.typed("ssh", "df -h ~"))
        case "permission":
            return FarmError(
                f"{where} does not let {facts.user} write there: {said}",
                hint=f"{again('--home', 'DIR')}    # a folder there where {facts.user} may write",
            )
        case "venv":
            return UsageError(
                f"{where} cannot make virtual environments: {said}",
                hint=f"sudo apt install python{short}-venv    # there (Debian and Ubuntu)",
            )
        case "index":
            platform = f" --platform manylinux2014_{facts.processor}" if facts.system == "Linux" else ""
            options = f"--only-binary :all: --python-version {short}{platform}"
            return FarmError(
                f"pip on {where} cannot get what computefarm needs:\n{indented(said)}",
                hint=f"pip download -d wheels {options} {NEEDS}    # here, then carry them there:\n"
                f"  {again('--wheels', 'wheels')}",
            )
        case _:
            return FarmError(f"the installation on {where} failed:\n{indented(said)}", hint=again())


def carried(folder: str) -> list[Path]:
    """Return the wheels in a folder, for a host without a package index."""
    if not folder:
        return []
    found = sorted(Path(folder).expanduser().glob("*.whl"))
    if not found:
        raise UsageError(
            f"--wheels {folder}: there is no wheel in it",
            hint=f"pip download -d {folder} --only-binary :all: {NEEDS}",
        )
    return [path for path in found if not re.match(r"computefarm-", path.name)]


def indented(text: str) -> str:
    """Return lines moved to the right, for another program's words."""
    return "\n".join(f"    {line}" for line in text.splitlines())
