"""Dodo files that together use every feature of doit; each says what it shows by its name.

`log(...)` appends to the file `order`, so that the order of execution can be compared.
`META` is empty for tasks that stay here, and `needs("shell")` in the round that sends command tasks out.
"""

from __future__ import annotations

HEAD = """
import os, sys
from pathlib import Path
from doit import create_after, get_var, task_params
from doit.action import CmdAction
from doit.tools import (check_timestamp_unchanged, config_changed, create_folder, result_dep, run_once,
                        timeout, Interactive, LongRunning, title_with_actions)
META = {META}

def log(text):
    with open("order", "a") as file:
        file.write(text + "\\n")
"""

LOCAL: dict[str, str] = {
    "file_dep_and_targets": """
def task_second():
    return {"actions": ["echo second >> order; cat mid in.txt > out"], "file_dep": ["mid", "in.txt"], "targets": ["out"]}
def task_first():
    return {"actions": ["echo first >> order; tr a-z A-Z < in.txt > mid"], "file_dep": ["in.txt"], "targets": ["mid"]}
def task_other():
    return {"actions": [(log, ["other"])]}
""",
    "several_actions_in_order": """
def task_many():
    return {"actions": ["echo 1 >> order", (log, ["2"]), ["sh", "-c", "echo 3 >> order"], "echo 4 >> order"],
            "file_dep": ["in.txt"]}
""",
    "diamond_order": """
def task_top():
    return {"actions": [(log, ["top"])], "task_dep": ["left", "right"]}
def task_left():
    return {"actions": [(log, ["left"])], "task_dep": ["base"]}
def task_right():
    return {"actions": [(log, ["right"])], "task_dep": ["base", "left"]}
def task_base():
    return {"actions": [(log, ["base"])]}
def task_last():
    return {"actions": [(log, ["last"])]}
""",
    "getargs_and_save_out": """
def task_use():
    return {"actions": [(lambda word, number: log(f"use {word.strip()} {number}"),), "echo %(word)s > used"],
            "getargs": {"word": ("say", "said"), "number": ("count", "n")}, "targets": ["used"]}
def task_say():
    return {"actions": [CmdAction("echo hello", save_out="said")]}
def task_count():
    return {"actions": [lambda: {"n": 42}]}
""",
    "getargs_of_a_group": """
def task_part():
    for i in range(3):
        yield {"name": str(i), "actions": [(lambda i: {"n": i * 10}, [i])]}
def task_sum():
    return {"actions": [lambda parts: log("sum %s" % sum(parts.values()))], "getargs": {"parts": ("part", "n")}}
""",
    "result_dep": """
def task_version():
    return {"actions": [CmdAction("cat in.txt")]}
def task_send():
    return {"actions": [(log, ["send"])], "uptodate": [result_dep("version")]}
""",
    "setup_and_teardown": """
def task_use():
    for name in "ab":
        yield {"name": name, "actions": [(log, ["use " + name])], "setup": ["server"], "teardown": [(log, ["down " + name])],
               "file_dep": ["in.txt"], "task_dep": ["use:a"] if name == "b" else []}
def task_server():
    return {"actions": [(log, ["up"])], "teardown": [(log, ["server down"])]}
""",
    "setup_of_an_up_to_date_task": """
def task_use():
    return {"actions": [(log, ["use"])], "setup": ["prepare"], "file_dep": ["in.txt"]}
def task_prepare():
    return {"actions": [(log, ["prepare"])]}
""",
    "calc_dep": """
def task_build():
    return {"actions": ["echo build >> order; cat a b > out"], "calc_dep": ["find"], "targets": ["out"]}
def task_find():
    return {"actions": [lambda: {"file_dep": ["a", "b"], "task_dep": ["extra"]}], "file_dep": ["in.txt"]}
def task_extra():
    return {"actions": [(log, ["extra"])]}
def task_make():
    for name in "ab":
        yield {"name": name, "actions": [f"echo make {name} >> order; echo {name} > {name}"], "targets": [name],
               "uptodate": [run_once]}
""",
    "create_after": """
def task_generate():
    return {"actions": ["echo generate >> order; mkdir -p gen; touch gen/x.c gen/y.c"], "targets": ["gen/x.c", "gen/y.c"],
            "file_dep": ["in.txt"]}
@create_after(executed="generate", target_regex=r".*\\.o")
def task_compile():
    for path in sorted(Path("gen").glob("*.c")):
        yield {"name": path.stem, "actions": [f"echo compile {path.stem} >> order; cp {path} {path.stem}.o"],
               "file_dep": [str(path)], "targets": [f"{path.stem}.o"]}
def task_after():
    return {"actions": [(log, ["after"])], "task_dep": ["compile"]}
""",
    "create_after_one_subtask_and_target": """
DOIT_CONFIG = {"default_tasks": ["x.o"]}
def task_generate():
    return {"actions": ["echo generate >> order; touch x.c y.c"], "targets": ["x.c", "y.c"], "file_dep": ["in.txt"]}
@create_after(executed="generate", target_regex=r".*\\.o")
def task_compile():
    for name in "xy":
        yield {"name": name, "actions": [f"echo compile {name} >> order; cp {name}.c {name}.o"],
               "file_dep": [f"{name}.c"], "targets": [f"{name}.o"]}
""",
    "groups_and_wildcards": """
def task_all():
    return {"actions": None, "task_dep": ["one:*", "two"]}
def task_one():
    yield {"name": None, "doc": "a group"}
    for i in range(3):
        yield {"name": str(i), "actions": [(log, [f"one {i}"])]}
def task_two():
    return {"actions": [(log, ["two"])]}
""",
    "params": """
DOIT_CONFIG = {"default_tasks": ["greet", "--who", "you", "made"]}
def task_greet():
    return {"actions": ["echo greet %(who)s %(times)s >> order"],
            "params": [{"name": "who", "long": "who", "default": "world"},
                       {"name": "times", "short": "t", "type": int, "default": 1}]}
@task_params([{"name": "what", "default": "cake", "long": "what"}])
def task_made(what):
    return {"actions": [(log, [f"made {what}"])]}
""",
    "uptodate_tools": """
def task_once():
    return {"actions": [(log, ["once"])], "uptodate": [run_once]}
def task_config():
    return {"actions": [(log, ["config"])], "uptodate": [config_changed({"a": 1})]}
def task_limit():
    return {"actions": [(log, ["limit"])], "uptodate": [timeout(3600)]}
def task_stamp():
    return {"actions": [(log, ["stamp"])], "uptodate": [check_timestamp_unchanged("in.txt")]}
def task_never():
    return {"actions": [(log, ["never"])], "uptodate": [False], "file_dep": ["in.txt"]}
def task_none():
    return {"actions": [(log, ["none"])], "uptodate": [None]}
def task_command():
    return {"actions": [(log, ["command"])], "uptodate": ["test -e in.txt"]}
def task_function():
    return {"actions": [(log, ["function"])], "uptodate": [(lambda task, values, extra: extra == 7, [7])]}
""",
    "changed_and_dependencies": """
def task_show():
    return {"actions": [lambda dependencies, changed, targets: log("show %s %s %s" % (sorted(dependencies), sorted(changed), targets)),
                        "echo %(changed)s %(targets)s > out"], "file_dep": ["in.txt"], "targets": ["out"]}
""",
    "new_style_formatting": """
DOIT_CONFIG = {"action_string_formatting": "new"}
def task_show():
    return {"actions": ["echo {dependencies} {targets} >> order; touch {targets}"], "file_dep": ["in.txt"], "targets": ["out"]}
""",
    "command_from_a_function": """
def task_show():
    return {"actions": [CmdAction(lambda targets: f"echo function >> order; touch {targets[0]}")], "targets": ["out"],
            "file_dep": ["in.txt"]}
""",
    "environment_and_folder_of_a_command": """
Path("sub").mkdir(exist_ok=True)
def task_show():
    return {"actions": [CmdAction("echo $WORD > made", env={**os.environ, "WORD": "word"}, cwd="sub")],
            "targets": ["sub/made"], "file_dep": ["in.txt"]}
""",
    "python_failure": """
def task_bad():
    return {"actions": [(log, ["bad"]), lambda: False]}
def task_next():
    return {"actions": [(log, ["next"])]}
def task_blocked():
    return {"actions": [(log, ["blocked"])], "task_dep": ["bad"]}
""",
    "command_failure": """
def task_bad():
    return {"actions": ["echo bad >> order; exit 3"], "targets": ["made"], "file_dep": ["in.txt"]}
def task_next():
    return {"actions": ["echo next >> order"], "file_dep": ["in.txt"]}
""",
    "command_error": """
def task_bad():
    return {"actions": ["echo bad >> order; exit 127"]}
""",
    "python_exception": """
def task_bad():
    return {"actions": [(log, ["bad"]), lambda: 1 / 0]}
def task_fine():
    return {"actions": [(log, ["fine"])]}
""",
    "missing_file_dep": """
def task_bad():
    return {"actions": [(log, ["bad"])], "file_dep": ["absent.txt"]}
def task_fine():
    return {"actions": [(log, ["fine"])]}
""",
    "bad_expansion": """
def task_bad():
    return {"actions": ["echo %(nothing)s"]}
""",
    "cycle": """
def task_a():
    return {"actions": [(log, ["a"])], "task_dep": ["b"]}
def task_b():
    return {"actions": [(log, ["b"])], "task_dep": ["a"]}
""",
    "unknown_task_field": """
def task_a():
    return {"actions": None, "colour": "red"}
""",
    "unknown_dependency": """
def task_a():
    return {"actions": None, "task_dep": ["nothing"]}
""",
    "two_tasks_one_target": """
def task_a():
    return {"actions": None, "targets": ["t"]}
def task_b():
    return {"actions": None, "targets": ["t"]}
""",
    "dodo_syntax_error": "def task_a(:\n",
    "dodo_exception": "def task_a():\n    raise ValueError('boo')\n",
    "title_io_and_verbosity": """
DOIT_CONFIG = {"verbosity": 2}
def task_titled():
    return {"actions": ["echo titled >> order; echo shown"], "title": title_with_actions, "verbosity": 2}
def task_bare():
    return {"actions": ["echo bare >> order; echo not captured"], "io": {"capture": False}}
def task_quiet():
    return {"actions": ["echo quiet >> order; echo never shown"], "verbosity": 0}
def task__hidden():
    return {"actions": [(log, ["hidden"])]}
""",
    "interactive_actions": """
def task_ask():
    return {"actions": [Interactive("echo ask >> order")]}
def task_serve():
    return {"actions": [LongRunning("echo serve >> order; exit 5")]}
""",
    "target_that_is_a_folder": """
def task_folder():
    return {"actions": [(create_folder, ["made"]), (log, ["folder"])], "targets": ["made"], "file_dep": ["in.txt"]}
""",
    "timestamp_checker": """
DOIT_CONFIG = {"check_file_uptodate": "timestamp"}
def task_show():
    return {"actions": ["echo show >> order; touch out"], "file_dep": ["in.txt"], "targets": ["out"]}
""",
    "own_checker": """
from doit.dependency import FileChangedChecker
class SizeChecker(FileChangedChecker):
    def check_modified(self, file_path, file_stat, state):
        return file_stat.st_size != state
    def get_state(self, dep, current_state):
        return os.stat(dep).st_size
DOIT_CONFIG = {"check_file_uptodate": SizeChecker}
def task_show():
    return {"actions": ["echo show >> order; touch out"], "file_dep": ["in.txt"], "targets": ["out"]}
""",
    "result_of_python_and_values": """
def task_text():
    return {"actions": [lambda: "a text"]}
def task_table():
    return {"actions": [lambda: {"k": [1, {"deep": None}]}]}
def task_watch():
    return {"actions": [(log, ["watch"])], "uptodate": [result_dep("text"), result_dep("table")]}
""",
    "doit_variables": """
def task_show():
    return {"actions": [(log, ["show %s" % get_var("word", "nothing")])]}
""",
    "a_task_that_changes_its_own_file_dep": """
def task_format():
    return {"actions": ["echo format >> order; echo formatted > in.txt"], "file_dep": ["in.txt"]}
""",
    "undeclared_order": """
def task_a():
    return {"actions": ["echo a >> order; echo 1 > shared"]}
def task_b():
    return {"actions": ["echo b >> order; cat shared > copy"], "file_dep": ["in.txt"]}
def task_c():
    return {"actions": ["echo c >> order"], "file_dep": ["copy"]}
""",
}

FAILING = (
    "python_failure", "command_failure", "command_error", "python_exception", "missing_file_dep", "bad_expansion",
    "first_failing_action_ends_the_task",
)  # fmt: skip
"""Worth a round with `-c` too."""

SEVERAL = ("file_dep_and_targets", "uptodate_tools", "setup_of_an_up_to_date_task", "calc_dep")
"""Worth a round with `-a` too."""

FARM: dict[str, str] = {
    "file_dep_and_targets": """
def task_second():
    return {"actions": ["cat mid in.txt > out"], "file_dep": ["mid", "in.txt"], "targets": ["out"], "meta": META}
def task_first():
    return {"actions": ["tr a-z A-Z < in.txt > mid"], "file_dep": ["in.txt"], "targets": ["mid"], "meta": META}
""",
    "several_actions_in_order": """
def task_many():
    return {"actions": ["echo 1 > out", ["sh", "-c", "echo 2 >> out"], "echo 3 >> out"], "file_dep": ["in.txt"],
            "targets": ["out"], "meta": META}
""",
    "first_failing_action_ends_the_task": """
def task_many():
    return {"actions": ["echo 1 > out", "exit 4", "echo 3 > never"], "file_dep": ["in.txt"], "meta": META}
""",
    "substitution": """
def task_show():
    return {"actions": ["cat %(dependencies)s > %(targets)s; echo %(changed)s %(word)s >> %(targets)s"],
            "params": [{"name": "word", "default": "w"}], "file_dep": ["in.txt"], "targets": ["out"], "meta": META}
""",
    "getargs_and_save_out": """
def task_use():
    return {"actions": ["echo %(word)s > out"], "getargs": {"word": ("say", "said")}, "targets": ["out"], "meta": META}
def task_say():
    return {"actions": [CmdAction("echo one", save_out="first"), CmdAction("echo two", save_out="said")], "meta": META}
def task_check():
    return {"actions": [lambda first, said: log(f"{first.strip()} {said.strip()}")],
            "getargs": {"first": ("say", "first"), "said": ("say", "said")}}
""",
    "result_dep": """
def task_version():
    return {"actions": ["cat in.txt"], "file_dep": ["in.txt"], "meta": META}
def task_send():
    return {"actions": ["echo sent > out"], "targets": ["out"], "uptodate": [result_dep("version")], "meta": META}
""",
    "setup_and_teardown": """
def task_use():
    return {"actions": ["cat state > out"], "file_dep": ["state"], "targets": ["out"], "setup": ["prepare"],
            "teardown": [(log, ["down"])], "meta": META}
def task_prepare():
    return {"actions": ["echo ready > ready"], "targets": ["ready"], "meta": META, "teardown": ["echo prepare down >> order"]}
def task_state():
    return {"actions": ["echo state > state"], "targets": ["state"], "file_dep": ["in.txt"], "meta": META}
""",
    "calc_dep": """
def task_build():
    return {"actions": ["cat a b > out"], "calc_dep": ["find"], "targets": ["out"], "meta": META}
def task_find():
    return {"actions": [lambda: {"file_dep": ["a", "b"]}], "file_dep": ["in.txt"]}
def task_make():
    for name in "ab":
        yield {"name": name, "actions": [f"echo {name} > {name}"], "targets": [name], "uptodate": [run_once], "meta": META}
""",
    "create_after": """
def task_generate():
    return {"actions": ["mkdir -p gen; touch gen/x.c gen/y.c"], "targets": ["gen/x.c", "gen/y.c"],
            "file_dep": ["in.txt"], "meta": META}
@create_after(executed="generate", target_regex=r".*\\.o")
def task_compile():
    for path in sorted(Path("gen").glob("*.c")):
        yield {"name": path.stem, "actions": [f"cp {path} {path.stem}.o"],
               "file_dep": [str(path)], "targets": [f"{path.stem}.o"], "meta": META}
def task_after():
    return {"actions": [(log, ["after"])], "task_dep": ["compile"]}
""",
    "groups": """
def task_all():
    return {"actions": None, "task_dep": ["one"]}
def task_one():
    for i in range(5):
        yield {"name": str(i), "actions": [f"echo {i} > out{i}"], "targets": [f"out{i}"], "file_dep": ["in.txt"], "meta": META}
""",
    "uptodate_tools": """
def task_once():
    return {"actions": ["echo once"], "uptodate": [run_once], "meta": META}
def task_config():
    return {"actions": ["echo config > out"], "targets": ["out"], "uptodate": [config_changed("a")], "meta": META}
def task_never():
    return {"actions": ["echo never"], "file_dep": ["in.txt"], "uptodate": [False], "meta": META}
def task_nothing():
    return {"actions": ["echo nothing"], "meta": META}
""",
    "mixed_with_local": """
def task_local():
    return {"actions": [(log, ["local"]), "cp far near"], "file_dep": ["far"], "targets": ["near"]}
def task_far():
    return {"actions": ["cp in.txt far"], "file_dep": ["in.txt"], "targets": ["far"], "meta": META}
def task_back():
    return {"actions": ["cat near near > out"], "file_dep": ["near"], "targets": ["out"], "meta": META}
""",
    "command_failure": """
def task_bad():
    return {"actions": ["exit 3"], "targets": ["made"], "file_dep": ["in.txt"], "meta": META}
def task_blocked():
    return {"actions": ["touch never"], "file_dep": ["made"], "meta": META}
""",
    "command_error": """
def task_bad():
    return {"actions": ["exit 127"], "file_dep": ["in.txt"], "meta": META}
""",
    "missing_file_dep": """
def task_bad():
    return {"actions": ["true"], "file_dep": ["absent.txt"], "meta": META}
""",
    "bad_expansion": """
def task_bad():
    return {"actions": ["echo %(nothing)s"], "meta": META}
""",
    "cycle": """
def task_a():
    return {"actions": ["true"], "task_dep": ["b"], "meta": META}
def task_b():
    return {"actions": ["true"], "task_dep": ["a"], "meta": META}
""",
    "environment_and_folder_of_a_command": """
Path("sub").mkdir(exist_ok=True)
def task_show():
    return {"actions": [CmdAction("echo $WORD > made", env={**os.environ, "WORD": "word"}, cwd="sub"),
                        CmdAction(["sh", "-c", "echo list > list"], shell=False, cwd="sub")],
            "targets": ["sub/made", "sub/list"], "file_dep": ["in.txt"], "meta": META}
""",
    "command_from_a_function": """
def task_show():
    return {"actions": [CmdAction(lambda targets, dependencies: f"cat {' '.join(dependencies)} > {targets[0]}")],
            "targets": ["out"], "file_dep": ["in.txt", "two.txt"][:1], "meta": META}
""",
    "new_style_formatting": """
DOIT_CONFIG = {"action_string_formatting": "both"}
def task_show():
    return {"actions": ["cat {dependencies} > %(targets)s"], "file_dep": ["in.txt"], "targets": ["out"], "meta": META}
""",
    "io_and_verbosity": """
def task_bare():
    return {"actions": ["echo bare; echo error >&2"], "io": {"capture": False}, "file_dep": ["in.txt"], "meta": META}
def task_loud():
    return {"actions": ["echo loud"], "verbosity": 2, "file_dep": ["in.txt"], "meta": META}
""",
}
