"""Read a capability file: check its text against the schema.

It reads no other files, runs nothing and evaluates nothing.
"""

from __future__ import annotations

from computefarm.errors import CapabilityError
from computefarm.located import Located, read_yaml

from .action_schema import read_actions
from .description import (
    FIELDS,
    NAME,
    Capability,
    Command,
    Probe,
    Resources,
    Variant,
    VersionProbe,
    variants_of,
)
from .values import env_of, pattern_of, size_of


def parse(text: str, source: str) -> Capability:
    """Return the capability that `text` describes.

    Raises `CapabilityError` naming `source`, line, field and what was expected.
    """
    top = read_yaml(text, source, CapabilityError)
    fields = top.mapping(FIELDS, required=("capability",))
    extend = fields["extend"].flag() if "extend" in fields else False
    if not extend:
        top.mapping(FIELDS, required=("summary", "worker"))
    variants = _variants(fields["variants"]) if "variants" in fields else ()
    return Capability(
        capability=_name(fields["capability"]),
        summary=fields["summary"].text() if "summary" in fields else "",
        worker=_name(fields["worker"]) if "worker" in fields else "",
        source=source,
        probe=_probe(fields["probe"]) if "probe" in fields else Probe(),
        fingerprint=_fingerprint(fields["fingerprint"]) if "fingerprint" in fields else (),
        resources=_resources(fields["resources"]) if "resources" in fields else Resources(),
        env=env_of(fields["env"]) if "env" in fields else (),
        logs=_name(fields["logs"]) if "logs" in fields else "",
        sandbox=fields["sandbox"].flag() if "sandbox" in fields else False,
        actions=read_actions(fields["actions"], variants_of(variants)) if "actions" in fields else {},
        requires=fields["requires"].texts() if "requires" in fields else (),
        variants=variants,
        extend=extend,
    )


def _name(value: Located) -> str:
    text = value.text()
    if not NAME.fullmatch(text):
        raise value.wrong("a name: a letter, then letters, digits and _ . + -")
    return text


def _command(value: Located) -> Command:
    if not isinstance(value.value, list) or not value.value:
        raise value.wrong("a list with a program and its arguments, such as [gcc, -dumpmachine]")
    return value.texts()


def _run_and_match(value: Located) -> VersionProbe:
    fields = value.mapping(("run", "match"), required=("run",))
    return VersionProbe(
        run=_command(fields["run"]), match=pattern_of(fields["match"]) if "match" in fields else ""
    )


def _probe(value: Located) -> Probe:
    fields = value.mapping(("version", "tags"))
    tags: list[tuple[str, VersionProbe | str]] = []
    if "tags" in fields:
        for name, tag in sorted(fields["tags"].mapping().items()):
            if not NAME.fullmatch(name):
                raise tag.error("a tag's name is a letter, then letters, digits and _ . + -")
            tags.append((name, tag.text() if isinstance(tag.value, str) else _tag(tag)))
    return Probe(
        version=_run_and_match(fields["version"]) if "version" in fields else None,
        tags=tuple(tags),
    )


def _tag(value: Located) -> VersionProbe:
    if not isinstance(value.value, dict):
        raise value.wrong("text, or {run: [program, argument…], match: regular expression}")
    return _run_and_match(value)


def _fingerprint(value: Located) -> tuple[str | VersionProbe, ...]:
    if value.value == "version":
        return ()
    expected = "a list of programs, such as [gcc, {run: [gcc, -print-prog-name=cc1]}], or the word version"
    if not isinstance(value.value, list) or not value.value:
        raise value.wrong(expected)
    programs: list[str | VersionProbe] = []
    for item in value.items():
        if isinstance(item.value, dict):
            programs.append(_run_and_match(item))
        elif isinstance(item.value, str):
            programs.append(item.text())
        else:
            raise item.wrong("a program's name, or {run: [command that prints its path]}")
    return tuple(programs)


def _resources(value: Located) -> Resources:
    fields = value.mapping(("cpus", "memory", "gpus"))
    return Resources(
        cpus=fields["cpus"].whole(least=1) if "cpus" in fields else 1,
        memory=size_of(fields["memory"]) if "memory" in fields else 0,
        gpus=fields["gpus"].whole() if "gpus" in fields else 0,
    )


def _variants(value: Located) -> tuple[Variant, ...]:
    variants = []
    for name, variant in value.mapping().items():
        if not NAME.fullmatch(name):
            raise variant.error("a variant's name is a letter, then letters, digits and _ . + -")
        fields = variant.mapping(("requires", "probe", "fingerprint", "resources", "env", "logs"))
        variants.append(
            Variant(
                name=name,
                requires=fields["requires"].texts() if "requires" in fields else (),
                probe=_probe(fields["probe"]) if "probe" in fields else Probe(),
                fingerprint=_fingerprint(fields["fingerprint"]) if "fingerprint" in fields else (),
                resources=_resources(fields["resources"]) if "resources" in fields else None,
                env=env_of(fields["env"]) if "env" in fields else (),
                logs=_name(fields["logs"]) if "logs" in fields else "",
            )
        )
    if not variants:
        raise value.wrong("at least one variant")
    return tuple(variants)
