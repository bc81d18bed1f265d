"""Headers that a compiler has read become dependencies: exactly those."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .running import majordomo

PROBLEM = """\
problem: headers
tasks:
  compile:
    capability: gcc
    action: compile
    foreach: {source: 'src/*.c'}
    object: 'build/{source.stem}.o'
    flags: [-Iinclude]
    inputs: ['include/*.h']
  link: {capability: gcc, action: link, objects: '{compile.object}', output: prog}
"""

DODO = """\
from pathlib import Path
from computefarm import farm

def task_compile():
    for source in sorted(Path("src").glob("*.c")):
        yield {"name": source.stem, **farm.action("gcc", "compile", source=source, object=f"build/{source.stem}.o",
               flags=["-Iinclude"], inputs=["include/*.h"])}

def task_link():
    return farm.action("gcc", "link", objects=[f"build/{s.stem}.o" for s in sorted(Path("src").glob("*.c"))], output="prog")
"""


@pytest.mark.parametrize("file", ["problem.yaml", "dodo.py"])
def test_a_header_rebuilds_exactly_its_dependants(tmp_path: Path, file: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed (Debian: sudo apt install gcc)")
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "include").mkdir()
    (project / file).write_text(PROBLEM if file.endswith("yaml") else DODO)
    (project / "include" / "a.h").write_text("#define A 1\n")
    (project / "include" / "b.h").write_text('#include "a.h"\n#define B A\n')
    (project / "include" / "unused.h").write_text("\n")
    (project / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (project / "src" / "one.c").write_text('#include "a.h"\nint one = A;\n')
    (project / "src" / "two.c").write_text('#include "b.h"\nint two = B;\n')

    def ran() -> set[str]:
        out = majordomo(project, "run", file)
        return {line.split()[1] for line in out.splitlines() if line.startswith((".  ", "=  "))}

    assert ran() == {"compile:main", "compile:one", "compile:two", "link"}
    assert ran() == set()
    (project / "include" / "unused.h").write_text("/* changed */\n")
    assert ran() == set(), "nobody reads it"
    (project / "include" / "new.h").write_text("\n")
    assert ran() == set(), "nobody reads it yet"
    (project / "include" / "b.h").write_text('#include "a.h"\n#define B (A + 1)\n')
    assert ran() == {"compile:two", "link"}
    (project / "include" / "a.h").write_text("#define A 2\n")
    assert ran() == {"compile:one", "compile:two", "link"}
    assert "include/a.h changed" in majordomo(project, "why", "compile:one")
    (project / "src" / "main.c").write_text('#include "new.h"\nint main(void) { return 0; }\n')
    assert "compile:main" in ran()
    (project / "include" / "new.h").write_text("#define NEW\n")
    assert "compile:main" in ran(), "it is read now"
    (project / "include" / "b.h").unlink()
    out = majordomo(project, "run", file, code=1)
    assert "b.h" in out
