"""Properties of the PDF and of the report's captions."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import jinja2
import pandas as pd
import pytest
from docutils.core import publish_parts

from c2c.errors import RefusedError
from paper import build
from paper.artefacts import GENERIC, read_artefacts
from paper.figures import (
    accuracy,
    accuracy_latency,
    gains,
    gates,
    scaling,
    style,
    subject_gains,
    subjects,
    training,
    venn,
)
from paper.reading.fusers import read_tables
from paper.reading.reference import Reference
from paper.recompute import recompute
from tests.paper.builder import SMOKE, Bench, Run, make_latency, make_records, write_fuser
from workflow.load import load_settings
from workflow.scales import read_config
from workflow.write_report import TRAININGS, trainings_in_words

ROOT = Path(build.__file__).parent.parent
SETTINGS = load_settings(read_config("smoke"))
OF_ARTEFACTS = ROOT / "workflow/report/artefact.rst"
CAPTIONS = sorted(set((ROOT / "workflow/report").glob("*.rst")) - {OF_ARTEFACTS})


def add_figures(folder: Path, runs: list[Run]) -> None:
    table = pd.read_csv(folder / "tables/main.csv", keep_default_na=False, na_values=[""])
    fusers = [write_fuser(run, folder / "fusers") for run in runs if run.recipe]
    accuracy.draw(table, folder / "figures/accuracy")
    style.save(gains.draw(folder / "tables/gains.csv"), folder / "figures/gains")
    if table["time_ms"].notna().any():
        accuracy_latency.draw(table, folder / "figures/accuracy_latency")
    gates.draw(read_tables(fusers, gates.FILE), folder / "figures/gates")
    training.draw(read_tables(fusers, training.FILE), folder / "figures/training")
    for module, name in ((scaling, "scaling"), (venn, "venn"), (subjects, "subjects"), (subject_gains, "subjects")):
        frame = pd.read_csv(folder / f"tables/{name}.csv", keep_default_na=False, na_values=[""])
        module.draw(frame, folder / "figures" / module.__name__.rpartition(".")[2])


def add_world(folder: Path) -> None:
    splits = {"known": 4, "train": 7, "validation": 1, "test": 4}
    entities = [{"name": f"{split}{n}", "split": split} for split, count in splits.items() for n in range(count)]
    world = {"seed": 0, "attributes": {"color": ["red", "teal"]}, "entities": entities}
    (folder / "world").mkdir()
    (folder / "world/world.json").write_text(json.dumps(world), encoding="utf-8")


def test_the_same_results_give_the_same_paper(results):
    add_figures(results, list(SMOKE))
    add_world(results)
    build.build(results, results / "paper/one.pdf")
    build.build(results, results / "paper/two.pdf")
    content = (results / "paper/one.pdf").read_bytes()
    assert content.startswith(b"%PDF") and content == (results / "paper/two.pdf").read_bytes()


def test_a_scale_without_a_world_and_with_one_pair_has_a_paper(tmp_path):
    runs = [Run("gap_a"), Run("gap_a", "c2c", "span", 0)]
    records = make_records(runs, Bench(["openbookqa"])).assign(scale="trial")
    recompute(records, make_latency(runs), tmp_path)
    add_figures(tmp_path, runs)
    build.build(tmp_path, tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")


def test_a_scale_with_many_benchmarks_and_no_times_has_a_paper(tmp_path):
    runs = [Run("gap_a"), Run("gap_a", "c2c", "span", 0), Run("gap_a", "fuse", "span", 0), Run("gap_b")]
    runs += [Run("gap_b", "identical", "span", 0)]
    bench = Bench(
        [f"{name}_{scoring}" for name in ("arc_easy", "openbookqa") for scoring in ("letter", "text", "logits")]
    )
    recompute(make_records(runs, bench).assign(scale="laptop"), None, tmp_path)
    add_figures(tmp_path, runs)
    build.build(tmp_path, tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF") and not (tmp_path / "latency.csv").exists()


def test_a_scale_that_makes_no_more_than_the_text_needs_has_a_paper(results):
    add_figures(results, list(SMOKE))
    for path in [*results.glob("tables/*"), *results.glob("figures/*")]:
        if str(path.relative_to(results)) not in build.required_files():
            path.unlink()
    build.build(results, results / "paper.pdf")
    assert (results / "paper.pdf").read_bytes().startswith(b"%PDF")


def test_what_the_registry_gives_a_section_is_in_the_paper_and_nothing_else(results):
    add_figures(results, list(SMOKE))
    shutil.copy(results / "figures/gates.pdf", results / "figures/claims.pdf")
    printed = {entry["stem"] for section in build.describe(results)["sections"] for entry in section["artefacts"]}
    assert "tables/seeds" in printed and "figures/venn" in printed
    assert {each.stem for each in read_artefacts() if each.text != GENERIC}.isdisjoint(printed)
    assert "figures/claims.pdf" not in build.inputs(results)
    build.build(results, results / "whole.pdf")
    for name in ("tables/seeds.csv", "tables/seeds.md"):
        (results / name).unlink()
    build.build(results, results / "less.pdf")
    assert (results / "whole.pdf").stat().st_size > (results / "less.pdf").stat().st_size + 2000


def test_the_paper_says_in_its_metadata_how_it_is_cited(results):
    add_figures(results, list(SMOKE))
    found = build.cite(results)
    assert found["id"] == "c2c-smoke-paper" and found["table"]["main"]["id"] == "c2c-smoke-table-main"
    assert set(found["figure"]) == {Path(name).stem for name in build.inputs(results) if name.startswith("figures/")}
    build.build(results, results / "paper.pdf")
    content = (results / "paper.pdf").read_bytes()
    assert b"c2c-smoke-paper" in content and b"/CreationDate" not in content


def test_contradictions_in_words_have_the_papers_numbers():
    reference = Reference()
    entries = {entry["where"]: entry["numbers"] for entry in build.in_words(reference)}
    assert [round(each["value"], 2) for each in entries["Table 9, Figures 7 and 11"]] == [62.78, 61.86, 57.60]
    assert [each["value"] for each in entries["Tables 4 and 7 and Figure 6"]] == [42.92, 46.50, 47.19]
    routing, receivers, sharers = (each["value"] for each in entries["Section 4.2"])
    assert abs(routing - (receivers + sharers) / 2) < 1.5


def test_a_scale_whose_pairs_are_asked_different_benchmarks_has_a_paper(tmp_path):
    folder = tmp_path / "laptop"
    runs = [Run("gap_a"), Run("gap_a", "c2c", "span", 0), Run("gap_a", "adapter", "span", 0)]
    others = [Run("gap_b"), Run("gap_b", "c2c", "span", 0)]
    records = [
        make_records(runs, Bench(["arc_easy_text", "openbookqa_text"])),
        make_records(others, Bench(["mmlu_redux_letter", "openbookqa_text"])),
    ]
    recompute(pd.concat(records, ignore_index=True).assign(scale="laptop"), None, folder)
    add_figures(folder, [*runs, *others])
    build.build(folder, folder / "paper.pdf")
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")


def test_a_paper_without_its_tables_is_refused(results):
    with pytest.raises(RefusedError, match="figures"):
        build.build(results, results / "paper.pdf")


def test_the_world_is_described_by_its_file(results):
    add_world(results)
    assert build.describe(results)["world"]["splits"]["test"] == 4


def test_commands_write_their_artefact_and_its_provenance(made_results, tmp_path):
    stem = tmp_path / "gains"
    records = sorted(map(str, (made_results / "records").rglob("*.parquet")))
    command = [sys.executable, "-m", "paper.tables.gains", "--records", *records, "--output-stem", str(stem)]
    subprocess.run(command, cwd=ROOT, check=True)
    for suffix in (".csv", ".tex", ".md"):
        stamp = json.loads(Path(f"{stem}{suffix}.provenance.json").read_text(encoding="utf-8"))
        assert set(records) <= set(stamp["inputs"])
        assert (tmp_path / f"gains{suffix}").read_bytes() == (made_results / f"tables/gains{suffix}").read_bytes()


class Job:
    config: ClassVar = {**SETTINGS.config, TRAININGS: trainings_in_words(SETTINGS)}
    input = ("a", "b")
    params: SimpleNamespace


def rendered(caption: Path, job: Job) -> str:
    return jinja2.Template(caption.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined).render(snakemake=job)


@pytest.mark.parametrize("caption", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_is_sound_and_says_from_what_and_by_which_command(caption):
    text = rendered(caption, Job())
    publish_parts(text, writer="html", settings_overrides={"halt_level": 2})
    if caption.stem == "workflow":
        assert "This is the smoke scale" in text and "* Pair A: Single (the Receiver fine-tuned), 1 seed" in text
        assert "* A latent space of Pair A from the Sharers of both halves" in text
    else:
        assert "*From:*" in text and "*By:*" in text and "results/smoke" in text


@pytest.mark.parametrize("artefact", read_artefacts(), ids=lambda artefact: artefact.stem)
def test_the_caption_of_each_artefact_is_sound_and_says_by_which_command(artefact):
    job = Job()
    said = {"title": artefact.title, "caption": artefact.caption, "places": ", ".join(artefact.places)}
    job.params = SimpleNamespace(**said, shown=artefact.command("results/smoke"))
    text = rendered(OF_ARTEFACTS, job)
    publish_parts(text, writer="html", settings_overrides={"halt_level": 2})
    assert artefact.title in text and artefact.caption in text
    assert f"python -m {artefact.module} --" in text and f"results/smoke/{artefact.stem}" in text
