"""``c2c demo``: which pair it opens, what it refuses, and its answers as JSON."""

from __future__ import annotations

import json
import sys

import pytest

from c2c.cli.main import main
from c2c.demo.page import load_gradio
from c2c.demo.pair_of_results import pair_of_results
from c2c.demo.start import DemoRun
from c2c.errors import REFUSED, RefusedError


def test_the_pair_of_a_finished_run_is_found_with_its_questions(results, monkeypatch) -> None:
    monkeypatch.chdir(results.parents[1])
    places = pair_of_results(results)
    assert (places.receiver, places.sharer) == tuple(str(results / "models" / f"{n}.json") for n in ("first", "second"))
    assert places.fuser == str(results / "fusers" / "tiny" / "c2c" / "span" / "seed0")
    assert places.questions == results / "data" / "benchmarks" / "facts.jsonl"


def test_outside_of_the_repository_the_questions_are_those_of_the_package(results, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pair_of_results(results).questions is None


def test_results_without_fusers_and_an_unknown_pair_are_refused(results, tmp_path) -> None:
    with pytest.raises(RefusedError, match="must hold the Fusers of a pair"):
        pair_of_results(tmp_path)
    with pytest.raises(RefusedError, match=r"A pair of .* must be a known name; received 'tinny'. Did you mean 'tiny'"):
        pair_of_results(results, "tinny")


def test_without_arguments_the_smoke_run_answers_and_prints_json(results, monkeypatch, capsys) -> None:
    monkeypatch.chdir(results.parents[1])
    assert (
        main(["demo", "--question", "what is the zorvex color", "--private", "the zorvex color is red", "--json"]) == 0
    )
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["method"] for answer in answers] == ["receiver", "t2t", "c2c", "c2c_deranged"]
    assert all(answer["answer"] and not answer["error"] for answer in answers)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([], "The live page must have a pair; received 'no --receiver, --sharer, --fuser'"),
        (["--receiver", "a", "--sharer", "b"], "The live page must have a pair; received 'no --fuser'"),
        (["--results", "r", "--sharer", "b"], "The pair of the live page must be named once"),
        (["--pair", "p", "--receiver", "a", "--sharer", "b", "--fuser", "f"], "--pair must be one of a run's pairs"),
        (["--json", "--results", "r"], "--json must have a question"),
    ],
)
def test_a_command_without_one_pair_is_refused(arguments, rule, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *arguments]) == REFUSED
    assert rule in capsys.readouterr().err


def test_the_command_of_the_page_names_the_pair_as_it_was_started() -> None:
    run = DemoRun(receiver="a", sharer="b", fuser="f", dtype="bfloat16", accept_difference=["revision"])
    flags = "--receiver a --sharer b --fuser f --dtype bfloat16 --accept-difference revision"
    assert run.pair_flags == flags.split()


def test_without_gradio_the_refusal_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(RefusedError, match=r"The live page must have gradio.*cache-to-cache\[demo\]"):
        load_gradio()
