"""How artefacts are cited: ids and captions, entries in the files, and nothing that a second run would change."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from c2c.errors import RefusedError
from paper.artefacts import read_artefacts
from paper.compare import compare
from paper.figures import accuracy, style
from paper.reading.volatile import read_rules, steady_hash
from paper.writing import citation
from paper.writing.output import SUFFIXES, stamped, write_table
from tests.paper.builder import make_latency

ROOT = Path(citation.__file__).parents[2]


def listed() -> list[tuple[str, str]]:
    """Every table and figure of the registry."""
    return [(each.kind, each.name) for each in read_artefacts()]


@pytest.mark.parametrize(("kind", "name"), [*listed(), ("paper", "paper")])
def test_every_artefact_has_an_id_a_caption_and_an_entry(kind, name):
    cited = citation.cite(kind, name, "smoke")
    assert cited is not None and not cited.title.endswith(".")
    assert cited.caption.endswith(".") and len(cited.caption) > 40
    assert re.fullmatch(r"@misc\{c2c-smoke-[a-z0-9_-]+,\n(  [a-z]+ += \{.+\},\n)+\}", cited.bibtex())
    assert cited.bibtex().count("{") == cited.bibtex().count("}")


def test_ids_differ_between_artefacts_and_scales():
    found = [citation.cite(kind, name, scale) for kind, name in listed() for scale in ("smoke", "paper")]
    assert len({each.id for each in found if each}) == len(listed()) * 2


def test_an_artefact_is_cited_by_the_title_and_caption_of_the_registry():
    for each in read_artefacts():
        cited = citation.cite(each.kind, each.name, "smoke")
        assert cited is not None and (cited.title, cited.caption) == (each.title, each.caption)


def test_the_paper_is_cited_by_the_caption_that_the_report_shows():
    cited = citation.cite("paper", "paper", "smoke")
    text = " ".join((ROOT / "workflow/report/paper.rst").read_text().split())
    assert cited is not None and f"**{cited.title}.** {cited.caption}" in text


@pytest.fixture
def figures(results):
    """Draws the figure of accuracies as its command does."""

    def draw() -> Path:
        table = results / "tables/main.csv"
        stem = results / "figures/accuracy"
        with stamped(style.outputs(stem), [table]):
            accuracy.draw(pd.read_csv(table, keep_default_na=False, na_values=[""]), stem)
        return stem

    return draw


def test_a_figure_says_in_both_forms_what_it_is_and_how_to_cite_it(figures):
    stem = figures()
    cited = json.loads(Path(f"{stem}.png.provenance.json").read_text())["citation"]
    with Image.open(f"{stem}.png") as picture:
        told = picture.info
    assert (told["Source"], told["Title"], told["BibTeX"]) == (cited["id"], cited["title"], cited["bibtex"])
    assert cited["id"] == "c2c-smoke-figure-accuracy" and told[style.INPUTS] in cited["bibtex"]
    content = Path(f"{stem}.pdf").read_bytes()
    for text in (f"/Title ({cited['title']})", f"/Creator ({cited['id']})", told[style.INPUTS]):
        assert text.encode() in content
    assert b"CreationDate" not in content and b"ModDate" not in content


def test_other_times_leave_a_figure_s_bytes_and_another_value_changes_its_inputs(figures, results):
    stem, table = figures(), results / "tables/main.csv"
    before = [Path(f"{stem}{suffix}").read_bytes() for suffix in style.SUFFIXES]
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    frame.assign(time_ms=frame["time_ms"].where(frame["time_ms"] == "", "77.0")).to_csv(table, index=False)
    figures()
    assert [Path(f"{stem}{suffix}").read_bytes() for suffix in style.SUFFIXES] == before
    frame.loc[0, "value"] = "12.3456"
    frame.to_csv(table, index=False)
    figures()
    with Image.open(f"{stem}.png") as picture:
        assert picture.info[style.INPUTS].encode() not in before[1]


def test_the_hash_of_records_leaves_out_times_and_the_cut_of_the_file_and_holds_every_digit(tmp_path):
    frame = pd.DataFrame({"id": ["a", "b"], "scores": [[0.1234567890123456, 1.0], None], "time_s": [1.0, 2.0]})
    path = tmp_path / "records.parquet"

    def hash_of(frame: pd.DataFrame, **cut: int) -> str:
        frame.to_parquet(path, **cut)
        return steady_hash([path])

    first = hash_of(frame)
    assert hash_of(frame.assign(time_s=3.0)) == first
    assert hash_of(frame, row_group_size=1) == first
    assert hash_of(frame.assign(scores=[[0.1234567890123457, 1.0], None])) != first
    assert hash_of(frame.iloc[::-1]) != first


def test_the_inputs_of_an_artefact_are_hashed_once_for_all_of_its_files(results, monkeypatch):
    calls = []
    monkeypatch.setattr(citation, "steady_hash", lambda paths: calls.append(paths) or "0" * 64)
    with stamped([results / f"tables/main{suffix}" for suffix in SUFFIXES], [results / "tables/gains.csv"]):
        pass
    assert len(calls) == 1


def test_two_runs_with_other_times_have_the_same_notes(results, tmp_path, records):
    from paper.recompute import recompute

    other = tmp_path / "again" / "smoke"
    slower = make_latency()
    slower["total_s"] *= 2
    recompute(records, slower, other)
    verdicts = {
        name: verdict for name, verdict, _ in compare(results, other, read_rules()) if name.startswith("tables")
    }
    assert set(verdicts.values()) == {"same", "volatile"}
    timed = [f"tables/{table}{form}" for table in ("main", "combinations") for form in (".csv", ".md", ".tex")]
    assert {verdicts[name] for name in timed} == {"volatile"}, "also where the time is the last of LaTeX's columns"


def test_a_table_carries_its_entry_as_a_comment_and_the_rest_stays_what_it_was(results):
    cited = citation.cite("table", "gains", "smoke")
    markdown, tex = ((results / f"tables/gains{suffix}").read_text() for suffix in (".md", ".tex"))
    assert markdown.endswith(f"<!-- Cite as:\n{cited.bibtex()}\n-->\n")
    comments = [line for line in tex.splitlines() if line.startswith("%")]
    assert "\n".join(line[2:] for line in comments[1:]) == cited.bibtex()
    assert tex.splitlines()[len(comments)].startswith(r"\begin{tabular}")


def test_a_table_without_a_caption_has_no_entry(tmp_path):
    frame = pd.DataFrame({"scale": ["smoke"], "value": [1.0]})
    write_table(frame, frame, tmp_path / "nothing")
    assert all("Cite" not in (tmp_path / f"nothing{suffix}").read_text() for suffix in SUFFIXES)


def test_a_caption_without_its_sentence_in_bold_is_refused(tmp_path, monkeypatch):
    (tmp_path / "paper.rst").write_text("The paper.\n\nText.\n")
    monkeypatch.setattr(citation, "PAPER_CAPTION", tmp_path / "paper.rst")
    with pytest.raises(RefusedError, match="open with a sentence in bold"):
        citation.cite("paper", "paper", "smoke")


def test_several_authors_are_joined_as_bibtex_wants_them(monkeypatch):
    people = [{"given-names": "Ada", "family-names": "Byron"}, {"name": "The others"}]
    monkeypatch.setattr(citation, "software", lambda: {**yaml.safe_load(citation.CFF.read_text()), "authors": people})
    assert "= {Ada Byron and {The others}}," in citation.cite("table", "main", "smoke").bibtex()
    assert citation.authors() == "Ada Byron, The others"


def test_the_command_prints_the_entries_of_a_file_or_of_a_whole_scale(results):
    def run(*paths: Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "paper.citing", *map(str, paths)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert run(results / "tables/main.csv").stdout.strip() == citation.cite("table", "main", "smoke").bibtex()
    assert run(results).stdout.count("@misc{") == len(list((results / "tables").glob("*.csv")))
    wrong = run(results / "scores.csv")
    assert wrong.returncode == 2 and "What is cited must be a table, a figure or the paper" in wrong.stderr
