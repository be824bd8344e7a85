"""Pinning revisions: commits of a hub that answers over HTTP, of mirrored folders, and nothing where one is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.catalogue import FOLDER, read_benchmarks
from c2c.errors import RefusedError
from c2c.models import hub
from paper.reading.commits import check_pinned
from workflow.pin import commit_of, pin, recorded
from workflow.validation import read_table

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("models", "released", "training_sets")
COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


def commit(hub_id: str, revision: str = "main", kind: str = "model") -> str:
    """A commit that differs by id, revision and kind."""
    return f"{hub_id}/{revision}/{kind}".encode().hex()[-40:].rjust(40, "0")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    for table in TABLES:
        text = (ROOT / "config" / f"{table}.tsv").read_text()
        (tmp_path / "config" / f"{table}.tsv").write_text(COMMIT.sub("main", text))
    for path in (ROOT / FOLDER).glob("*/*.yaml"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(COMMIT.sub("main", path.read_text()))
    return tmp_path / "config"


def revision_of(config: Path, benchmark: str) -> object:
    """The revision that the file of a benchmark names."""
    return read_benchmarks([config.parent / FOLDER])[benchmark]["revision"]


class FakeHub(BaseHTTPRequestHandler):
    """Answers /api/<models|datasets>/<owner>/<name>/revision/<revision> like the hub; knows no owner `gone`."""

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].split("/")
        if len(parts) != 7 or parts[3] == "gone":
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        _, _, kind, owner, name, _, revision = parts
        sha = commit(f"{owner}/{name}", revision, kind.removesuffix("s"))
        body = json.dumps({"id": f"{owner}/{name}", "sha": sha, "siblings": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake_hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(config: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "C2C_HUB_MIRROR": "", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "workflow.pin", "--config", str(config), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_every_row_with_a_hub_id_gets_the_commit_that_the_hub_names(config: Path, fake_hub: str) -> None:
    done = run(config, fake_hub)
    assert done.returncode == 0, done.stderr
    models = read_table(config / "models.tsv")
    assert models["qwen3_06b"]["revision"] == commit("Qwen/Qwen3-0.6B", kind="model")
    assert revision_of(config, "gsm8k") == commit("openai/gsm8k", kind="dataset")
    assert read_table(config / "released.tsv")["qwen3_4b"]["revision"] == commit("nics-efc/C2C_Fuser", kind="model")
    for table in TABLES:
        rows, before = read_table(config / f"{table}.tsv"), read_table(ROOT / "config" / f"{table}.tsv")
        assert [{**row, "revision": None} for row in rows.values()] == [
            {**row, "revision": None} for row in before.values()
        ]
        assert all((row["hub_id"] is None) == (row["revision"] is None) for row in rows.values())
    assert "Every revision is a commit already" in run(config, "http://127.0.0.1:9").stdout


def test_one_row_that_the_hub_does_not_know_leaves_every_table_as_it_was(config: Path, fake_hub: str) -> None:
    path = config / "training_sets.tsv"
    path.write_text(path.read_text().replace("GAIR/lima", "gone/lima"))
    before = {table: (config / f"{table}.tsv").read_bytes() for table in TABLES}
    done = run(config, fake_hub)
    assert done.returncode == 2 and "received 'gone/lima, revision main: RepositoryNotFoundError'" in done.stderr
    assert {table: (config / f"{table}.tsv").read_bytes() for table in TABLES} == before


def test_only_the_rows_that_are_named_are_pinned_and_commits_stay(config: Path) -> None:
    asked = []

    def resolve(hub_id: str, revision: str, kind: str) -> str:
        asked.append(hub_id)
        return "a" * 40

    assert len(pin(config, resolve, ["qwen3_06b", "gsm8k"])) == 2
    assert asked == ["Qwen/Qwen3-0.6B", "openai/gsm8k"]
    pin(config, resolve)
    assert "Qwen/Qwen3-0.6B" not in asked[2:] and "openai/gsm8k" in asked[2:]
    with pytest.raises(RefusedError, match=r"row of a table with hub ids, or a benchmark; received 'qwen3_6b'"):
        pin(config, resolve, ["qwen3_6b"])


def record(results: Path, place: str, content: dict[str, object]) -> None:
    (results / place).parent.mkdir(parents=True, exist_ok=True)
    (results / place).write_text(json.dumps(content))


MODEL = {"id": "Qwen/Qwen3-0.6B", "revision": "main", "source": "hub", "resolved": "a" * 40}
DATA = {"id": "openai/gsm8k", "revision": "main", "source": "mirror", "resolved": "b" * 40}
FUSERS = {"id": "nics-efc/C2C_Fuser", "revision": "main", "source": "hub", "resolved": "c" * 40}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What a run of the paper's scale records of what it fetched."""
    folder = tmp_path / "results" / "paper"
    record(folder, "models/qwen3_06b.json", MODEL)
    record(folder, "models/qwen3_06b.json.provenance.json", {"artefact": "qwen3_06b.json"})
    record(folder, "released/qwen3_4b.json", FUSERS)
    record(folder, "data/benchmarks/gsm8k.jsonl.provenance.json", {"data": DATA})
    record(folder, "data/training/mix/train.jsonl.provenance.json", {"data": [DATA, {**DATA, "source": "mirror"}]})
    record(folder, "models/gap.json", {"id": "gap", "revision": "0", "source": "knowledge_gap", "path": "x"})
    return folder


def test_rows_are_pinned_to_the_commits_that_a_run_got_without_any_network(config: Path, results: Path) -> None:
    done = run(config, "http://127.0.0.1:9", "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert read_table(config / "models.tsv")["qwen3_06b"]["revision"] == "a" * 40
    assert {row["revision"] for row in read_table(config / "released.tsv").values()} == {"c" * 40}
    assert read_table(config / "training_sets.tsv")["gsm8k_train"]["revision"] == "b" * 40
    assert read_table(config / "models.tsv")["qwen3_8b"]["revision"] == "main", "the run did not use it"
    assert "No row is of a revision" in run(config, "http://127.0.0.1:9", "--results", str(results)).stdout


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("models/other.json", {**MODEL, "resolved": "d" * 40}, "must have one commit of Qwen/Qwen3-0.6B"),
        ("models/other.json", {"source": "hub"}, "must name the id"),
        ("models/other.json", ["a"], "must be JSON and hold an object"),
        ("data/shots/x.jsonl.provenance.json", {"data": "x"}, "must name the id"),
    ],
)
def test_records_that_contradict_each_other_or_say_nothing_are_refused(
    config: Path, results: Path, place: str, content: Any, message: str
) -> None:
    before = {table: (config / f"{table}.tsv").read_bytes() for table in TABLES}
    record(results, place, content)
    done = run(config, "http://127.0.0.1:9", "--results", str(results))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert {table: (config / f"{table}.tsv").read_bytes() for table in TABLES} == before


def test_what_is_cited_at_the_papers_scale_rests_on_the_commits_that_the_tables_name(
    config: Path, results: Path
) -> None:
    with pytest.raises(RefusedError, match=r"must rest on commits.*Qwen/Qwen3-0.6B at aaaa.*workflow\.pin --results"):
        check_pinned(results, config)
    pin(config, recorded(results))
    check_pinned(results, config)
    record(results, "models/qwen3_06b.json", {**MODEL, "source": "mirror", "resolved": None})
    with pytest.raises(RefusedError, match=r"Qwen/Qwen3-0.6B at main"):
        check_pinned(results, config)
    check_pinned(other := results.rename(results.with_name("laptop")), config)
    # Another name with the paper's basis, as the command of its verdicts says.
    results = other.rename(other.with_name("paper_released"))
    record(results, "claims.json.provenance.json", {"command": ["paper.claims", "--basis", "paper", "--output", "x"]})
    with pytest.raises(RefusedError, match=r"cited of the scale paper_released must.*Qwen/Qwen3-0.6B at main"):
        check_pinned(results, config)
    results.rename(results.with_name("done"))
    results = results.with_name("paper")
    with pytest.raises(RefusedError, match="which records none"):
        check_pinned(results, config)


@pytest.mark.parametrize(
    "arguments",
    [
        ["paper.citing", "{results}/tables/main.csv"],
        ["paper.citing", "{results}"],
        [
            "workflow.crate",
            "--results",
            "{results}",
            "--configfile",
            "config/config.yaml",
            "--output",
            "{results}/c.zip",
        ],
    ],
)
def test_commands_that_cite_refuse_a_run_of_the_papers_scale_that_is_not_pinned(
    results: Path, arguments: list[str]
) -> None:
    for name in ("scores.csv", "claims.json", "claims_time.json", "report.html", "tables/main.csv"):
        record(results, name, {})
    command = [sys.executable, "-m", *(each.format(results=results) for each in arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "must rest on commits that config/ names" in done.stderr, done.stderr
    assert not done.stdout and not (results / "c.zip").exists()


def test_a_mirrored_folder_is_pinned_to_the_commit_that_it_says_it_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "owner/model" / hub.DOWNLOADS
    notes.mkdir(parents=True)
    (tmp_path / "owner/other").mkdir()
    (notes / "config.json.metadata").write_text("b" * 40 + "\netag\n1.0\n")
    monkeypatch.setenv(hub.MIRRORS, str(tmp_path))
    assert commit_of("owner/model", "main", "model") == "b" * 40
    with pytest.raises(RefusedError, match="must say of which commit it is"):
        commit_of("owner/other", "main", "model")
