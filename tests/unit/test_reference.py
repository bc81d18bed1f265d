"""The generated parts of the reference are those of today's schemas."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

HERE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_reference_is_generated_from_the_schemas() -> None:
    spec = importlib.util.spec_from_file_location("generate_reference", HERE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.files().items():
        assert path.read_text(encoding="utf-8") == text, f"run: python {HERE / 'generate.py'}"


def test_the_schema_is_json_schema_that_editors_take() -> None:
    schema = json.loads((HERE / "problem.schema.json").read_text(encoding="utf-8"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["required"]) == {"problem", "tasks"}
