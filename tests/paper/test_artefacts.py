"""The registry of artefacts: every entry has its module and its target, and a bad entry is refused."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from c2c.errors import RefusedError
from paper import artefacts, modules
from paper.artefacts import by_target, of_kind, read_artefacts
from paper.recompute import follows_from_records

ROOT = Path(artefacts.PATH).parent.parent


@pytest.mark.parametrize("artefact", read_artefacts(), ids=lambda artefact: artefact.stem)
def test_the_command_of_each_artefact_has_the_flags_of_its_sources(artefact):
    source = Path(import_module(artefact.module).__file__).read_text(encoding="utf-8")
    for flag in artefact.reads:
        assert re.search(rf"--{flag}\b|\b{flag}=", source), f"{artefact.module} has no flag --{flag}"


def test_every_module_of_a_table_or_figure_is_listed():
    listed = {artefact.module for artefact in read_artefacts()}
    for kind in artefacts.SUFFIXES:
        made = {path.stem for path in (ROOT / f"paper/{kind}s").glob("*.py")} - {"__init__", "style"}
        assert {f"paper.{kind}s.{name}" for name in made} <= listed


def test_a_place_of_the_paper_is_a_target_beside_the_name():
    targets = by_target(read_artefacts())
    assert [artefact.stem for artefact in targets["table8"]] == ["tables/ablation"]
    assert {artefact.stem for artefact in targets["gains"]} == {"tables/gains", "figures/gains"}


def test_places_are_written_as_the_printed_values_name_them():
    printed = {line.split(",")[1] for line in (ROOT / "paper/reference_values.csv").read_text().splitlines()}
    for artefact in read_artefacts():
        assert set(artefact.places) <= printed | {"Figure 3"}, artefact.stem


def test_what_the_text_needs_is_made_at_every_scale():
    required, optional = set(artefacts.required_files()), set(artefacts.optional_files())
    assert {"tables/main.csv", "figures/gains.pdf"} <= required
    assert "tables/ablation.csv" in optional and not required & optional


def test_tables_that_need_only_records_are_recomputed():
    tables = of_kind("table")
    assert follows_from_records(tables["main"]) and follows_from_records(tables["latency"])
    assert not follows_from_records(of_kind("figure")["gates"])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"titel": "x"}, "key"),
        ({"reads": None}, "title, caption and reads"),
        ({"text": "generic"}, "in artefacts.yaml, whose text is generic, must have the key section"),
        ({"text": "somewhere"}, "text"),
        ({"places": ["Table 99"]}, "A place of the table x in artefacts.yaml .*'Table 99'.*Table 4"),
        ({"places": ["Table 4", "Table 4"]}, "Each place of the table x in artefacts.yaml must be named once"),
        ({"reads": {"records": "recrods"}}, "The source records of the table x .*'recrods'.*mean 'records'"),
        ({"reads": {"table": "tables/y.csv"}}, "The source table of the table x .*tables/x.csv"),
    ],
)
def test_a_bad_entry_is_refused(change, rule, tmp_path):
    entry = {"title": "A", "caption": "B", "reads": {"records": "records"}, "text": "own"} | change
    entry = {name: value for name, value in entry.items() if value is not None}
    (tmp_path / "artefacts.yaml").write_text(yaml.safe_dump({"tables": {"x": entry}, "figures": {}}))
    with pytest.raises(RefusedError, match=rule):
        read_artefacts(tmp_path / "artefacts.yaml")


def test_an_entry_that_is_there_twice_is_refused(tmp_path):
    entry = "  x: {title: A, caption: B, reads: {records: records}, text: own}\n"
    (tmp_path / "artefacts.yaml").write_text(f"tables:\n{entry}{entry}figures: {{}}\n")
    with pytest.raises(
        RefusedError, match=r"Each key in artefacts.yaml must be there once; received .*'x'.* in line 3"
    ):
        read_artefacts(tmp_path / "artefacts.yaml")


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        (None, "must exist; received 'own_table'"),
        ("def write(:", "must be Python; received .*line 1"),
        ("from paper.row import percent\ndef write(): ...", "must import names that exist; .*line 1: paper.row'"),
        ("from paper.rows import per_cent\ndef write(): ...", "must import .*line 1: per_cent of paper.rows'"),
        ("import paper.rows.percent", "must import .*paper.rows.percent"),
        ("def build(): ...", "must have a function `write`"),
    ],
)
def test_a_module_that_cannot_be_run_is_refused_before_it_is(code, rule, tmp_path, monkeypatch):
    if code:
        (tmp_path / "own_table.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    artefact = artefacts.Artefact("table", "own", "A", "B", {"records": "records"}, module="own_table")
    with pytest.raises(RefusedError, match="The module of the table own in artefacts.yaml " + rule):
        modules.check_module(artefact)
    with pytest.raises(RefusedError, match=rule):
        modules.writer(artefact)


def test_an_import_that_fails_as_the_module_runs_is_refused_with_its_fault(tmp_path, monkeypatch):
    (tmp_path / "late_table.py").write_text("import no_such_package\ndef write(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    artefact = artefacts.Artefact("table", "late", "A", "B", {"records": "records"}, module="late_table")
    with pytest.raises(RefusedError, match="late_table: No module named 'no_such_package'"):
        modules.writer(artefact)


def test_the_modules_of_the_registry_can_be_run():
    for artefact in read_artefacts():
        modules.check_module(artefact)


def test_the_command_that_is_shown_has_patterns_in_the_place_of_many_files():
    shown = of_kind("figure")["gates"].command("r")
    assert shown == "python -m paper.figures.gates --fusers r/fusers/*/*/*/seed* --output-stem r/figures/gates"
