"""Build Lua 5.4 on the farm: fetch the sources, compile each file as one task, link, run a script.

majordomo run                    builds everything and runs primes.lua with the new Lua
majordomo run compile:lvm        one file
majordomo clean -a               removes what was built
doit -n 2                        works too, on this machine alone

Sources land in lua54/, everything built in build/.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from doit import create_after

from computefarm import needs

DOIT_CONFIG = {"default_tasks": ["primes"]}

LUPA = "lupa==2.6"  # its source distribution carries the sources of Lua 5.4
SOURCES = Path("lua54")
BUILD = Path("build")
BUILD.mkdir(exist_ok=True)  # for plain doit; on the farm a task finds the folders of its targets made

GCC = "gcc -std=gnu99 -O2 -Wall -DLUA_USE_POSIX"
NOT_PARTS = {"ltests.c", "onelua.c"}  # Lua's own tests, and all sources in one


def task_fetch():
    """Download and unpack the sources, once, on this machine."""
    return {
        "actions": [fetch],
        "targets": [f"{SOURCES}/lua.c"],
        "uptodate": [True],  # as long as the target is there
    }


# Which files there are is known only after the download, so the next tasks are created after it.
@create_after(executed="fetch")
def task_includes():
    """Find the headers that each file includes."""
    for file in sorted(SOURCES.glob("*.[ch]")):
        yield {"name": file.name, "actions": [(includes, [file])], "file_dep": [file]}


@create_after(executed="includes")
def task_compile():
    """Compile each source, on any machine with gcc."""
    for source in sources():
        obj = f"{BUILD}/{source.stem}.o"
        yield {
            "name": source.stem,
            "actions": [f"{GCC} -c {source} -o {obj}"],
            "file_dep": [source],
            "calc_dep": [f"includes:{source.name}"],  # adds the headers: only they travel, only they count
            "targets": [obj],
            "clean": True,
            "meta": needs("gcc", timeout="5m"),
        }


@create_after(executed="compile")
def task_archive():
    """Put all objects but the main program into a library."""
    objects = [f"{BUILD}/{source.stem}.o" for source in sources() if source.name != "lua.c"]
    return {
        "actions": [f"ar rcs {BUILD}/liblua.a {' '.join(objects)}"],
        "file_dep": objects,
        "targets": [f"{BUILD}/liblua.a"],
        "clean": True,
        "meta": needs("gcc"),
    }


def task_link():
    """Link the interpreter."""
    return {
        "actions": [f"gcc -o {BUILD}/lua {BUILD}/lua.o {BUILD}/liblua.a -lm"],
        "file_dep": [f"{BUILD}/lua.o", f"{BUILD}/liblua.a"],
        "task_dep": ["archive"],
        "targets": [f"{BUILD}/lua"],
        "clean": True,
        "meta": needs("gcc"),
    }


def task_primes():
    """Run a script with the Lua just built: no `needs`, so it runs here."""
    return {
        "actions": [f"{BUILD}/lua primes.lua"],
        "file_dep": ["primes.lua", f"{BUILD}/lua"],
        "verbosity": 2,
    }


def sources():
    """Return the files to compile."""
    return sorted(file for file in SOURCES.glob("*.c") if file.name not in NOT_PARTS)


def includes(file):
    """Say which files of this folder `file` includes, and ask the same of each of them.

    doit adds what is returned here to the task that named this one in its `calc_dep`.
    A changed header is scanned again alone, and only the sources that reach it are compiled again.
    """
    names = re.findall(r'^[ \t]*#[ \t]*include[ \t]*"(.+?)"', file.read_text(), re.MULTILINE)
    found = sorted({name for name in names if (SOURCES / name).is_file()} - {file.name})
    return {
        "file_dep": [f"{SOURCES}/{name}" for name in found],
        "calc_dep": [f"includes:{name}" for name in found],
    }


def fetch():
    """Download lupa's source distribution with this Python's pip and unpack Lua out of it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--no-binary", ":all:"]
    if all(importlib.util.find_spec(name) for name in ("setuptools", "wheel")):
        pip.append("--no-build-isolation")  # 2 s instead of 2 minutes
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "--dest", folder, LUPA], check=True)
        [sdist] = Path(folder).glob("*.tar.gz")
        SOURCES.mkdir(exist_ok=True)
        with tarfile.open(sdist) as archive:
            for member in archive:
                if member.isfile() and re.search(r"/third-party/lua54/\w+\.[ch]$", member.name):
                    (SOURCES / Path(member.name).name).write_bytes(archive.extractfile(member).read())
