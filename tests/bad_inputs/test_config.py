"""Configs and tables of the workflow that cannot be meant: refused before anything is planned, and by each command."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from paper.artefacts import read_artefacts
from paper.reading import names
from tests.bad_inputs.refusals import refused
from workflow import crate, holders, pin, unlock, write_report
from workflow.data import load_benchmarks
from workflow.load import load_settings
from workflow.plan import report
from workflow.plan.stages import read_timings
from workflow.requests import read_requests
from workflow.scales import read_config, read_config_file
from workflow.validation import check_config, read_table

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted(path.stem for path in (ROOT / "config").glob("*.tsv"))
Change = Callable[[bytes], bytes]

SPOILT: dict[str, Change] = {
    "M14 empty": lambda _: b"",
    "only its first line": lambda text: text.split(b"\n")[0] + b"\n",
    "cut in its last cell": lambda text: text[:-3],
    "cut in a row": lambda text: text[: text.rindex(b"\t")] + b"\n",
    "cut in its first line": lambda text: text[:4],
    "M13 not UTF-8": lambda text: text.replace(b"\n", b"\xff\n", 2),
    "binary": lambda _: bytes(range(256)) * 4,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "with a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "compressed": lambda _: b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "of other columns": lambda text: b"colour\t" + text,
    "of columns in another order": lambda text: b"\t".join(text.split(b"\n")[0].split(b"\t")[::-1]) + b"\na\n",
    "with commas": lambda text: text.replace(b"\t", b","),
    "of JSON": lambda _: b'{"models": []}\n',
    "with a control character": lambda text: text[:-1] + b"\x00\n",
    "with a line separator in a cell": lambda text: text[:-1] + "\u2028x\n".encode(),
    "with a row of one cell": lambda text: text + b"a\n",
    "with its last row twice": lambda text: text + text.split(b"\n")[-2] + b"\n",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_table_is_refused_by_its_name(case: str, table: str, tmp_path: Path) -> None:
    path = tmp_path / f"{table}.tsv"
    path.write_bytes(SPOILT[case]((ROOT / "config" / path.name).read_bytes()))
    with refused(path.name):
        read_table(path)


def test_a_table_as_another_system_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "models.tsv"
    path.write_bytes((ROOT / "config/models.tsv").read_bytes().replace(b"\n", b"\r\n"))
    assert read_table(path) == read_table(ROOT / "config/models.tsv")


def cell_of(tmp_path: Path, table: str, column: str, value: str) -> Path:
    """A table with `value` in a column of the last row that has a hub id, or of the last row."""
    head, *rows = (ROOT / "config" / f"{table}.tsv").read_text().rstrip("\n").split("\n")
    columns = head.split("\t")
    from_hub = [number for number, row in enumerate(rows) if "\thub\t" in row or table == "released"]
    number = from_hub[-1] if from_hub else len(rows) - 1
    cells = rows[number].split("\t")
    cells[columns.index(column)] = value
    path = tmp_path / f"{table}.tsv"
    path.write_text("\n".join([head, *rows[:number], "\t".join(cells), *rows[number + 1 :]]) + "\n")
    return path


CELLS = {
    "M9 a revision that is a command": ("models", "revision", "$(touch x)"),
    "a revision with a blank": ("training_sets", "revision", "main; touch x"),
    "a revision that is a flag": ("training_sets", "revision", "--force"),
    "a revision with two dots": ("released", "revision", "a/../b"),
    "a revision of the reference log": ("released", "revision", "main@{1}"),
    "no revision of fusers": ("released", "revision", ""),
    "M10 a hub id of the folders above": ("models", "hub_id", "../.."),
    "a hub id that is hidden": ("models", "hub_id", ".cache/model"),
    "a hub id that is a flag": ("models", "hub_id", "-h/model"),
    "a hub id whose name is a flag": ("models", "hub_id", "owner/--model"),
    "a hub id with the folder above": ("training_sets", "hub_id", "owner/.."),
    "a hub id of three parts": ("training_sets", "hub_id", "a/b/c"),
    "a hub id of one part": ("training_sets", "hub_id", "gsm8k"),
    "a hub id that is a command": ("released", "hub_id", "a/$(touch x)"),
    "no hub id of fusers": ("released", "hub_id", ""),
    "D10 a subfolder above": ("released", "subfolder", "../x"),
    "A22 an absolute subfolder": ("released", "subfolder", "/etc"),
    "a subset that adds a part of its source": ("training_sets", "subset", "a,limit=1"),
    "a split that is a command": ("training_sets", "split", "`touch x`"),
    "M12 an id with a folder above": ("models", "model", "a/../b"),
    "M11 a size that is NaN": ("models", "parameters_m", "nan"),
    "a size that is infinite": ("models", "parameters_m", "inf"),
    "a size beyond any": ("models", "parameters_m", "1e300"),
    "a size of no model": ("models", "parameters_m", "0"),
    "a number of layers beyond any": ("models", "layers", "1" * 19),
    "a number of five thousand digits": ("models", "layers", "1" * 5000),
    "a number with an underscore": ("models", "layers", "2_8"),
    "a number of other digits": ("models", "layers", "٢٨"),
    "a number with a blank": ("training_sets", "limit", " 5"),
    "a whole number with a fraction": ("sizes", "lines", "5.5"),
    "a partition that is a flag": ("resources", "partition", "--wrap=x"),
    "an account that is a command": ("resources", "account", "a;touch x"),
    "parts with a comma": ("training_sets", "parts", "a,b"),
    "pairs with a path": ("groups", "pairs", "a ../b"),
}


@pytest.mark.parametrize("case", CELLS)
def test_an_impossible_cell_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    table, column, value = CELLS[case]
    with refused(f"{table}.tsv, line", column):
        read_table(cell_of(tmp_path, table, column, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("revision", "main; touch x"),
        ("hub_id", "owner/.."),
        ("split", "`touch x`"),
        ("scorings", ["leter"]),
        ("source", 5),
    ],
)
def test_an_impossible_value_of_a_benchmark_is_refused_with_its_file(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "benchmarks/tasks/fruit/fruit.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({"metadata": {"source": "hub", "scorings": ["letter"], key: value}}))
    with refused("fruit", key):
        load_benchmarks(tmp_path)


@pytest.mark.parametrize("text", ["", "a: [", "metadata: 5\n", "metadata: {source: hub}\n", "- a\n"])
def test_a_spoilt_file_of_a_benchmark_is_refused_by_its_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "benchmarks/tasks/fruit/fruit.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with refused("fruit.yaml"):
        load_benchmarks(tmp_path)


def test_a_formula_in_a_description_is_text(tmp_path: Path) -> None:
    path = cell_of(tmp_path, "models", "description", "=HYPERLINK(1)")
    assert [row["description"] for row in read_table(path).values()].count("=HYPERLINK(1)") == 1


def smoke() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    update_config(config, yaml.safe_load((ROOT / "config/smoke.yaml").read_text()))
    return config


VALUES: dict[str, tuple[str, Any]] = {
    "M2 a scale with a newline": ("scale", "smoke\n"),
    "M3 a scale that is a command": ("scale", ";touch x"),
    "M1 a scale of the folders above": ("scale", "../../x"),
    "M4 steps beyond any": ("training.steps", 10**30),
    "steps with a fraction": ("training.steps", 250.0),
    "steps that are a truth": ("training.steps", True),
    "steps that are infinite": ("training.steps", math.inf),
    "M5 a weight decay that is NaN": ("training.weight_decay", math.nan),
    "M5 a gradient norm that is infinite": ("training.max_gradient_norm", math.inf),
    "F25 a gradient norm that is NaN": ("training.max_gradient_norm", math.nan),
    "M6 a learning rate that is NaN": ("training.learning_rate", math.nan),
    "F25 a learning rate that is infinite": ("training.learning_rate", math.inf),
    "a batch beyond any": ("training.batch_size", 10**12),
    "a micro batch beyond any": ("training.micro_batch_size", 2**63),
    "a length beyond any": ("training.max_length", 10**20),
    "a dropout that is NaN": ("fuser.dropout", math.nan),
    "A27 an infinite temperature": ("fuser.initial_temperature", math.inf),
    "a width beyond any": ("fuser.hidden_dim", 10**20),
    "layers without end": ("fuser.num_layers", 10**9),
    "M8 a seed beyond any": ("runs.0.seeds", [2**70]),
    "a seed beyond those of NumPy": ("runs.0.seeds", [2**32]),
    "a seed with a fraction": ("runs.0.seeds", [0.5]),
    "a seed of the world beyond any": ("world.seed", 2**70),
    "a seed of the teacher beyond any": ("teacher.seed", 2**64),
    "a seed of an analysis beyond any": ("analysis.partial.seed", 2**64),
    "M7 a model of the folders above": ("world.models", {"../../evil": {}}),
    "a model with a newline": ("world.models", {"gap\n": {}}),
    "a model without end": ("world.models.gap_sharer.layers", 10**9),
    "a rate of pretraining that is NaN": ("world.pretraining.embedding_rate", math.nan),
    "a decay of pretraining that is infinite": ("world.pretraining.weight_decay", math.inf),
    "a temperature of the teacher that is NaN": ("teacher.temperature", math.nan),
    "a share that is NaN": ("analysis.partial.shares", [0, math.nan]),
    "a perplexity that is infinite": ("analysis.tsne.perplexity", math.inf),
    "threads beyond any": ("latency.threads", 10**6),
    "a sample beyond any": ("sample", 10**13),
    "runs that are text": ("runs", "gap_a"),
    "runs that are null": ("runs", None),
    "a training that is a list": ("training", []),
    "an answer that is no truth": ("unpinned", "yes"),
}


@pytest.mark.parametrize("case", VALUES)
def test_an_impossible_value_is_refused_with_its_place(case: str) -> None:
    place, value = VALUES[case]
    config = smoke()
    *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    spot: Any = config
    for part in parents:
        spot = spot[part]
    spot[last] = value
    with refused(f"config.{place}"):
        check_config(config)


def test_a_config_that_holds_itself_is_refused() -> None:
    config = smoke()
    config["training"]["steps"] = config["training"]
    with refused("must be nested at most"):
        check_config(config)


def test_a_paper_that_could_not_be_cited_is_refused_before_the_run() -> None:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    with refused("must leave the paper out", "artefacts.paper"):
        load_settings({**config, "unpinned": True}, ROOT)


FILES: dict[str, bytes] = {
    "empty": b"",
    "binary": b"\xff\xfe\x00\x01",
    "with a byte order mark": b"\xef\xbb\xbfscale: x\n",
    "a list": b"- a\n",
    "a text": b"smoke\n",
    "no YAML": b"scale: [\n",
    "with a tab": b"training:\n\tsteps: 1\n",
    "A11 with a tag that runs": b"scale: !!python/object/apply:os.system [touch x]\n",
    "G3 with a function": b"scale: !function x.y\n",
    "a key twice": b"scale: mine\nscale: yours\n",
    "an alias bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in b"bcdefghi"),
    "one that holds itself": b"a: &a [*a]\n",
    "nested without end": b"a: " + b"[" * 5000 + b"]" * 5000 + b"\n",
}


@pytest.mark.parametrize("case", FILES)
def test_a_spoilt_config_file_is_refused_by_its_name(case: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(FILES[case])
    with refused("mine.yaml"):
        read_config("paper", [path], ROOT / "config")


def test_a_key_twice_in_a_config_of_json_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{\n\t"scale": "mine", "scale": "yours"}')
    with refused("mine.json", "'scale'"):
        read_config_file(path)


@pytest.mark.parametrize("file", ["names.yaml", "artefacts.yaml"])
def test_a_key_twice_in_a_file_that_users_extend_is_refused_by_its_name(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / file
    path.write_text("pairs: {}\ntables: {}\npairs: {}\n")
    monkeypatch.setattr(names, "PATH", path)
    names.read_names.cache_clear()
    try:
        with refused(path.name, "'pairs' in line 3"):
            names.title("pairs", "gap_a") if file == "names.yaml" else read_artefacts(path)
    finally:
        names.read_names.cache_clear()


HEAD = "scale,stage,jobs,minutes,memory_mb,output_mb\n"
TIMINGS = {
    "empty": b"",
    "binary": b"\xff\xfe",
    "of other columns": b"a,b\n",
    "text for a number": f"{HEAD}smoke,train_fuser,many,1,1,1\n".encode(),
    "a cell too few": f"{HEAD}smoke,train_fuser,1,1,1\n".encode(),
    "NaN minutes": f"{HEAD}smoke,train_fuser,1,nan,1,1\n".encode(),
    "infinite memory": f"{HEAD}smoke,train_fuser,1,1,inf,1\n".encode(),
    "negative memory": f"{HEAD}smoke,train_fuser,1,1,-1,1\n".encode(),
    "no jobs": f"{HEAD}smoke,train_fuser,0,1,1,1\n".encode(),
}


@pytest.mark.parametrize("case", TIMINGS)
def test_spoilt_timings_are_refused_by_their_name(case: str, tmp_path: Path) -> None:
    path = tmp_path / "timings.csv"
    path.write_bytes(TIMINGS[case])
    with refused("timings.csv"):
        read_timings(path)


def test_a_table_of_resources_that_is_not_there_is_refused() -> None:
    with refused("must exist", "/nowhere.tsv"):
        read_requests({"C2C_RESOURCES": "/nowhere.tsv"})


COMMANDS: dict[str, tuple[Any, list[str], str]] = {
    "a scale that is none": (report.main, ["--scale", "nope"], "Choose one of"),
    "a scale that is a path": (report.main, ["--scale", "../config/smoke"], "Choose one of"),
    "a config file that is not there": (report.main, ["--configfile", "nowhere.yaml"], "nowhere.yaml must be a file"),
    "a config file that is a folder": (report.main, ["--configfile", "config"], "must be a file"),
    "a config file that is binary": (report.main, ["--configfile", "binary"], "binary must be UTF-8"),
    "tables that are not there": (pin.main, ["--config", "nowhere"], "must exist"),
    "tables that are binary": (pin.main, ["--config", "spoilt"], "models.tsv must be UTF-8"),
    "a row that is none": (pin.main, ["--only", "nobody"], "must be a row of a table"),
    "results that record nothing": (pin.main, ["--results", "nowhere"], "must record what came from the hub"),
    "results whose manifest is binary": (pin.main, ["--results", "run"], "a.json must be UTF-8"),
    "a crate of no run": (
        crate.main,
        ["--results", "x", "--configfile", "binary", "--output", "c.zip"],
        "finished run",
    ),
    "a crate of a spoilt config": (
        crate.main,
        ["--results", "done", "--configfile", "binary", "--output", "c.zip"],
        "binary must be UTF-8",
    ),
    "a crate that is no archive": (
        crate.main,
        ["--results", "done", "--configfile", "config/config.yaml", "--output", "c.tar"],
        "must be written as an archive",
    ),
    "timings of no run": (report.main, ["--measure", "nowhere"], "must have timed jobs"),
    "timings of a spoilt file": (report.main, ["--measure", "timed"], "must hold the time and memory"),
    "a lock of nobody": (unlock.main, [], "must say whose it is"),
    "a report of inputs that are not there": (
        write_report.main,
        ["--configfile", "nowhere.yaml", "--output", "report.html"],
        "must",
    ),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with spoilt files, in which a command is called."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    files = {
        **{"binary": b"\xff\x00", "spoilt/models.tsv": b"\xff\x00", "run/models/a.json": b"\xff"},
        **{f"done/{name}": b"{}" for name in crate.NEEDED},
        "timed/benchmarks/train_fuser/a.tsv": b"s\n",
        f"{holders.HOLDERS}/a.json": json.dumps({"host": 1}).encode(),
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_ends_with_one_line_and_exit_code_2(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, arguments, message = COMMANDS[case]
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert main() == 2
    said = capsys.readouterr().err
    assert main is not report.main or said.startswith("c2c plan: ")
    assert message in said and len(said.strip().splitlines()) == 1 and "Traceback" not in said
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
