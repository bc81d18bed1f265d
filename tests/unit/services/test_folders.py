from __future__ import annotations

import pytest

from computefarm.messages import Action
from computefarm.services.folders import outputs_to_prepare


def prepared(*commands: str | tuple[str, ...], outputs: tuple[str, ...]) -> tuple[str, ...]:
    return outputs_to_prepare(Action("shell", commands, outputs=outputs))


@pytest.mark.parametrize(
    ("command", "output", "expected"),
    [
        ("gcc -o build/a.o", "build/a.o", "build/a.o"),
        ("mkdir build && gcc -o build/a.o", "build/a.o", "build"),
        ("mkdir -m 755 ./build/; gcc -o build/a.o", "build/a.o", "build"),
        ("echo x\n  mkdir 'my build'", "my build/a.o", "my build"),
        ("/bin/mkdir build", "build/a.o", "build"),
        (("mkdir", "build"), "build/a.o", "build"),
        ("mkdir out out/lib", "out/lib/deep/a.so", "out"),
        ("mkdir out/lib", "out/lib/deep/a.so", "out/lib"),
        ("mkdir out/lib", "out/bin/a", "out/bin/a"),
        ("cd sub && mkdir build", "sub/build/a.o", "sub/build"),
        # What does not mind a folder that is there, and what only looks alike.
        ("mkdir -p build && gcc", "build/a.o", "build/a.o"),
        ("mkdir --parents build", "build/a.o", "build/a.o"),
        (("mkdir", "-pv", "build"), "build/a.o", "build/a.o"),
        ("echo mkdirs build", "build/a.o", "build/a.o"),
        ("mkdir build", "sub/build/a.o", "sub/build/a.o"),
        ("mkdir \"it's", "build/a.o", "build/a.o"),
    ],
)
def test_a_folder_that_the_command_makes_is_left_to_it(
    command: str | tuple[str, ...], output: str, expected: str
) -> None:
    assert prepared(command, outputs=(output,)) == (expected,)


def test_other_outputs_are_not_touched() -> None:
    assert prepared("mkdir a", "touch a/x b/y", outputs=("a/x", "b/y")) == ("a", "b/y")
