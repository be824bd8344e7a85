"""What the command line costs before it does anything: processor time, and the modules that it imports."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from c2c.cli.commands import Command, Group, Table
from c2c.cli.main import COMMANDS, main, parse_command
from c2c.errors import REFUSED

ROOT = Path(__file__).resolve().parents[1]

WATCH = """
import atexit, json, resource, sys
def report():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    heavy = [name for name in ("torch", "transformers", "pandas", "scipy") if name in sys.modules]
    print(json.dumps([usage.ru_utime + usage.ru_stime, heavy]), file=sys.stderr)
atexit.register(report)
from c2c.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
FACTOR = 2.0
"""How much slower the machine of a test may be than a free core of a laptop, for which the bounds are."""


def cost(*arguments: str) -> tuple[float, list[str]]:
    """Seconds of processor time of ``c2c``, its children included, and the large packages that it imported."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    modules = json.loads(done.stderr.splitlines()[-1])[1]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, modules


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_help_of_the_command_line_imports_nothing_large_and_takes_half_a_second(flag: str) -> None:
    seconds, modules = cost(flag)
    assert modules == []
    assert seconds < 0.5 * FACTOR


@pytest.mark.parametrize("item", ["table4", "c2c_above_receiver"])
def test_claims_are_shown_within_a_second_and_a_half_without_torch(item: str) -> None:
    seconds, modules = cost("claims", "show", item)
    assert not {"torch", "transformers"} & set(modules)
    assert seconds < 1.5 * FACTOR


def rows(table: Table, *words: str) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Each command with the words that name it."""
    for name, entry in table.items():
        if isinstance(entry, Group):
            yield from rows(entry.commands, *words, name)
        else:
            yield (*words, name), entry


LINES = {" ".join(words): command for words, command in rows(COMMANDS)}


def test_the_flags_of_no_command_need_torch() -> None:
    homes = sorted({command.home.partition(":")[0] for command in LINES.values()})
    report = "print([name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules])"
    program = f"import importlib, sys; [importlib.import_module(name) for name in {homes}]; {report}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("line", LINES)
def test_the_help_of_each_command_explains_every_flag_and_has_an_example(line, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main([*line.split(), "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and f"c2c {line}" in text.partition("Example:")[2]
    assert not re.search(r"--[\w-]+( \S+)? +\((required|default: [^)]*)\)", text), "a flag without a word of help"


@pytest.mark.parametrize("line", LINES)
def test_the_example_of_each_command_is_one_that_the_command_takes(line) -> None:
    words = shlex.split(LINES[line].example)
    assert words[0] == "c2c"
    name, command = parse_command(words[1:])
    assert name == f"c2c {line}" and isinstance(command, LINES[line].load())


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["analyse", "tsn"], "Did you mean 'tsne'?"),
        ([], "must be followed by a command"),
        (["score", "--records", "--output", "o.csv"], "--records must be followed by at least one value"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused_in_one_line(words, rule, capsys) -> None:
    assert main(words) == REFUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert rule in line


def test_an_unknown_flag_is_named_with_the_one_that_is_near_and_exit_code_2(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["score", "--record", "a.parquet", "--output", "o.csv"])
    text = capsys.readouterr().err
    assert end.value.code == REFUSED and "--record " in text and "--records" in text


@pytest.mark.parametrize(
    "command",
    [
        "c2c --help",
        "c2c score --help",
        "c2c claims list",
        "c2c plan --scale smoke",
        "python -m paper.claims --help",
        "python -m paper.tables.main --help",
        "python -m paper.build --help",
        "python -m paper.compare --help",
        "python -m paper.training_cost --help",
        "python -m workflow.write_report --help",
    ],
)
def test_commands_without_a_model_import_nothing_that_runs_one(command: str) -> None:
    program, *words = command.split()
    run = "from c2c.cli.main import main; main()" if program == "c2c" else MODULE
    names = ("torch", "transformers", "datasets", "accelerate", "lm_eval", "tokenizers")
    report = f"lambda: print([name for name in {names} if name in sys.modules], file=sys.stderr)"
    watch = f"import atexit, sys; atexit.register({report}); {run}"
    words = words if program == "c2c" else words[1:]
    done = subprocess.run([sys.executable, "-c", watch, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "[]", done.stderr[-2000:]


def test_a_run_that_is_refused_imports_neither_lm_eval_nor_datasets(tmp_path) -> None:
    models = ["--receiver", "r", "--sharer", "s", "--methods", "c2c", "--tasks", "t", "--benchmarks", "b=x"]
    flags = ["--scale", "s", "--pair", "p", *models, "--output"]
    report = "lambda: print([name for name in ('lm_eval', 'datasets') if name in sys.modules], file=sys.stderr)"
    watch = f"import atexit, sys; atexit.register({report}); from c2c.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", watch, "generate", *flags, str(tmp_path / "records.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "must be run with trained Fusers" in done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


MODULE = "import runpy; name = sys.argv.pop(1); runpy.run_module(name, run_name='__main__', alter_sys=True)"
"""Runs the module that the first argument names."""


def test_the_completion_of_bash_knows_commands_kinds_and_flags(capsys) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("train-together", "effective-rank", "--micro-batch-tokens"))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
