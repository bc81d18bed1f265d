"""C++ with Clang, by named actions: compile two files, link them with clang++."""

from __future__ import annotations

from pathlib import Path

from computefarm import farm

Path("build").mkdir(exist_ok=True)  # for plain doit; on the farm a task finds the folders of its targets made


def task_compile():
    for source in sorted(Path().glob("*.cpp")):
        yield {
            "name": source.stem,
            **farm.action(
                "clang", "compile", source=source, object=f"build/{source.stem}.o",
                flags=["-std=c++17", "-O2", "-Wall"], inputs=["*.hpp"],
            ),
        }  # fmt: skip


def task_link():
    objects = [f"build/{source.stem}.o" for source in sorted(Path().glob("*.cpp"))]
    return farm.action("clang", "link", objects=objects, output="build/primes", driver="clang++")
