"""The schema of problem descriptions, as JSON Schema: what validates them, documents them and helps editors.

The subset used: type, properties, additionalProperties, required, items, minItems, enum, pattern, minimum,
exclusiveMinimum, minProperties, description. `x-expected` is how a message names what belongs there.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

NAME = "^[A-Za-z_][A-Za-z0-9_-]*$"


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _texts(description: str) -> Schema:
    items = {"type": ["string", "number"]}
    return {"type": ["array", "string"], "items": items, "description": description, "x-expected": "a list of texts"}


def _scalar(description: str) -> Schema:
    return {
        "type": ["string", "number", "boolean", "array"],
        "items": {"type": ["string", "number", "boolean"]},
        "description": description,
        "x-expected": "text, a number, true or false, or a list of these",
    }


def _given(kind: str, expected: str, description: str, **more: Any) -> Schema:
    """Return the schema of a value that may be written out or be a reference to a parameter."""
    return {
        "type": [kind, "string"], "pattern": r"^\{[^{}]+\}$", "description": description,
        "x-expected": expected, **more,
    }  # fmt: skip


NEEDS: dict[str, Schema] = {
    "inputs": _texts("Files and patterns the task may read besides its action's own, such as include/**/*.h."),
    "outputs": _texts("Files, folders and patterns that come back besides the action's own outputs."),
    "cpus": _given("integer", "a whole number", "Slots the task takes.", minimum=1),
    "memory": {"type": ["string", "integer"], "description": "Memory it needs, such as 512MiB.", "x-expected": "a size such as 512MiB"},
    "gpus": _given("integer", "a whole number", "GPUs it needs.", minimum=0),
    "exclusive": _given("boolean", "true or false", "Nothing else on the worker meanwhile."),
    "timeout": {"type": ["string", "number"], "description": "How long it may run, such as 10m.", "x-expected": "a duration such as 10m"},
    "priority": _given("number", "a number", "Higher first."),
    "retries": _given("integer", "a whole number", "More attempts after its command failed.", minimum=0),
    "load": _given("number", "a number", "Load it adds to its host, in cores.", minimum=0),
    "tags": {"type": "object", "additionalProperties": {"type": "string"}, "description": "What the worker's offer must be tagged with."},
    "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Environment variables; they enter the digest."},
    "pass_env": _texts("Variables taken from your own environment."),
    "host_files": _texts("Absolute paths that the worker is expected to have."),
    "cache": _given("boolean", "true or false", "false: the result never answers another run."),
    "sandbox": _given("boolean", "true or false", "Close everything but the task's directory to it."),
    "any_toolchain": _given("boolean", "true or false", "Any version that fits will do; results may then differ from host to host."),
}  # fmt: skip
"""The same words, with the same meaning, as the arguments of `needs(…)` in a dodo file."""

TASK: Schema = {
    "type": "object",
    "description": "One task, or one for every item of `foreach`. Other keys are the parameters of its action.",
    "required": ["capability"],
    "x-expected": "a mapping with capability, and action or run",
    "properties": {
        "capability": _text("What a worker must offer, with a version where it matters: gcc, gcc>=9."),
        "action": _text("One of the capability's named actions."),
        "run": {
            "type": ["array", "string"],
            "items": {"type": ["string", "number"]},
            "minItems": 1,
            "description": "A command instead of an action: a list is an argument vector, text is for the shell.",
            "x-expected": "a list with a program and its arguments, or a command line for the shell",
        },
        "foreach": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": ["string", "array"],
                "items": {"type": ["string", "number"]},
                "x-expected": "a pattern such as src/*.c, a list, or {task.output}",
            },
            "description": "Variables and what they stand for, one task for each: a pattern for files, a list, "
            "or the outputs of another task. Several variables make every combination.",
            "x-expected": "a mapping from variables to patterns or lists",
        },
        "exclude": _texts("Patterns for files that foreach leaves out."),
        "name": _text("The name of each task of a foreach; by default its values."),
        "platforms": _texts("One task for each, on workers of that platform: linux-x86_64, linux-aarch64. The variable is {platform}."),
        "after": _texts("Tasks that must have ended before, although no file says so."),
        "summary": _text("One line for `majordomo list`."),
        **NEEDS,
    },
    "additionalProperties": _scalar("A parameter of the action."),
}  # fmt: skip

PACKAGE: Schema = {
    "type": "object",
    "required": ["url", "sha256", "unpack"],
    "additionalProperties": False,
    "description": "An archive fetched once, verified, and unpacked before the tasks are planned.",
    "x-expected": "a mapping with url, sha256 and unpack",
    "properties": {
        "url": _text("https://…, file://…, or a path relative to this file."),
        "sha256": _text(
            "Digest of the archive.", pattern="^[0-9a-fA-F]{64}$", **{"x-expected": "64 hexadecimal digits"}
        ),
        "unpack": _text("Folder of the project that it is unpacked into; nothing else may be in there."),
        "strip": {"type": "integer", "minimum": 0, "description": "Leading folders to leave out (default 1)."},
    },
}

PROBLEM: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "ComputeFarm problem description",
    "type": "object",
    "required": ["problem", "tasks"],
    "additionalProperties": False,
    "x-expected": "a mapping with problem and tasks",
    "properties": {
        "problem": _text("The problem's name."),
        "summary": _text("One line about it."),
        "include": _texts("Other descriptions, relative to this file; what they say is added to this one."),
        "params": {
            "type": "object",
            "description": "Values used as {name}; `majordomo run problem.yaml -p name=value` overrides them.",
            "additionalProperties": _scalar("A parameter and its default."),
            "x-expected": "a mapping from names to values",
        },
        "packages": {
            "type": "object",
            "description": "Archives that the problem is built from.",
            "additionalProperties": PACKAGE,
            "x-expected": "a mapping from names to packages",
        },
        "tasks": {
            "type": "object",
            "minProperties": 1,
            "description": "What is to be done.",
            "additionalProperties": TASK,
            "x-expected": "a mapping from names to tasks",
        },
        "groups": {
            "type": "object",
            "description": "Names for several tasks at once.",
            "additionalProperties": _texts("Tasks and groups."),
            "x-expected": "a mapping from names to lists of tasks",
        },
        "default": _texts("What `majordomo run problem.yaml` does when nothing is named; all tasks by default."),
    },
}

INCLUDED: Schema = {**PROBLEM, "required": []}
"""A description that others include may be a part: parameters only, say."""
