"""Scripts on any machine with Python: count the letters of each text, then add the counts up."""

from __future__ import annotations

from pathlib import Path

from computefarm import farm

TEXTS = sorted(Path().glob("*.txt"))


def task_count():
    for text in TEXTS:
        yield {
            "name": text.stem,
            **farm.action(
                "python>=3.8", "script", script="letters.py", args=[text, f"{text.stem}.json"],
                reads=[text], products=[f"{text.stem}.json"],
            ),
        }  # fmt: skip


def task_sum():
    counts = [f"{text.stem}.json" for text in TEXTS]
    return farm.action(
        "python>=3.8",
        "script",
        script="total.py",
        args=["total.json", *counts],
        reads=counts,
        products=["total.json"],
    )
