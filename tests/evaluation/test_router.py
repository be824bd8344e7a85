"""The trained router: it learns a routing that can be learned, is the same every time, and sends half."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from c2c.errors import RefusedError
from c2c.evaluation.generate import GenerationRun, generate
from c2c.evaluation.methods.routing import (
    LearnedRouting,
    Router,
    RouterSettings,
    RouterTrainingRun,
    decisive,
    fit,
    query_vectors,
    train_router,
)
from c2c.evaluation.methods.single import SingleModel
from tests.evaluation.conftest import ask

DIM = 24


def learnable(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries of which a direction says whether the Sharer is right, in a space that is shifted and scaled."""
    draw = torch.Generator().manual_seed(seed)
    queries = torch.randn(count, DIM, generator=draw)
    direction = torch.randn(DIM, generator=torch.Generator().manual_seed(99))
    return 40 * queries + 7, queries @ direction > 0


def test_a_learnable_routing_is_learned_and_chance_is_not_taken_for_one() -> None:
    router = fit(*learnable(400, 0), RouterSettings())
    queries, right = learnable(400, 1)
    assert ((router.sharer_wins(queries) > 0.5) == right).float().mean() > 0.9
    noise = torch.randint(0, 2, (400,), generator=torch.Generator().manual_seed(3)).bool()
    untaught = fit(learnable(400, 0)[0], noise, RouterSettings())
    assert 0.35 < ((untaught.sharer_wins(queries) > 0.5) == right).float().mean() < 0.65


def test_the_same_seed_gives_the_same_router_and_another_one_another(tmp_path) -> None:
    queries, right = learnable(60, 0)
    one, same, other = (fit(queries, right, RouterSettings(seed=seed)).sharer_wins(queries) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    fit(queries, right, RouterSettings()).save(tmp_path)
    assert torch.equal(Router.load(tmp_path).sharer_wins(queries), one)


def test_questions_that_tell_nothing_apart_are_refused() -> None:
    queries, _ = learnable(40, 0)
    for right, rows in ((torch.ones(40, dtype=torch.bool), 40), (torch.arange(40) % 2 == 0, 6)):
        with pytest.raises(RefusedError, match="10 questions or more"):
            fit(queries[:rows], right[:rows], RouterSettings())


def test_a_querys_vector_is_the_mean_of_its_own_last_hidden_states(pair, questions) -> None:
    reader = SingleModel(pair.receiver).reader
    vectors = query_vectors(reader, questions["free"], 60)
    for question, vector in zip(questions["free"], vectors, strict=True):
        ids = torch.tensor([pair.receiver.tokenizer(question.prompt)["input_ids"]])
        with torch.no_grad():
            states = pair.receiver.model.base_model(ids).last_hidden_state
        torch.testing.assert_close(vector, states[0].mean(0), atol=1e-5, rtol=1e-4)


@pytest.fixture
def run(pair, benchmark_files, tmp_path) -> GenerationRun:
    tasks, files = benchmark_files
    for loaded in (pair.receiver, pair.sharer):
        loaded.model.save_pretrained(tmp_path / loaded.name)
        loaded.tokenizer.save_pretrained(tmp_path / loaded.name)
    return GenerationRun(
        scale="smoke", pair="tiny", receiver=str(tmp_path / "receiver"), sharers=[str(tmp_path / "sharer")],
        methods=("receiver", "sharer"), tasks=tasks, benchmarks=files, output=tmp_path / "router_training.parquet",
    )  # fmt: skip


def test_a_router_is_trained_from_records_and_routes_half_of_the_questions(run, tmp_path, monkeypatch) -> None:
    records = generate(run)
    # Random models are right in nothing, so who is right where is laid down: on a third both, else one of the two.
    marks = [
        (at % 3 == 0) or (at % 3 == 1) == (method == "receiver")
        for at, method in zip(records["question_id"].str[1:].astype(int), records["method"], strict=True)
    ]
    monkeypatch.setattr("c2c.evaluation.methods.routing.mark", lambda given: marks)
    wins = decisive(records)
    assert len(wins) == 10 and wins.sum() == 4
    about = train_router(
        RouterTrainingRun(
            receiver=run.receiver, records=run.output, tasks=run.tasks, benchmarks=run.benchmarks,
            output=tmp_path / "router",
        )
    )  # fmt: skip
    assert (about["questions"], about["ties"], about["sharer_right"]) == (10, 6, 4)
    routed = generate(
        replace(run, methods=("routing_trained",), router=str(tmp_path / "router"), output=tmp_path / "r.parquet")
    )
    for _, part in routed.groupby("benchmark"):
        sent, kept = (part[part["routed_to"] == where] for where in ("sharer", "receiver"))
        assert len(sent) == len(kept) == 4
        assert sent["confidence"].min() >= kept["confidence"].max()
    single = records.set_index(["method", "benchmark", "question_id"])["output_text"]
    free = routed[routed["benchmark"] == "free"]
    for row in free.itertuples():
        assert row.output_text == single[row.routed_to, row.benchmark, row.question_id]


def test_a_router_of_another_receiver_is_refused(pair) -> None:
    queries, right = learnable(40, 0)
    router = fit(queries, right, RouterSettings())
    with pytest.raises(RefusedError, match="hidden states of the Receiver"):
        LearnedRouting(SingleModel(pair.receiver), SingleModel(pair.sharer, "sharer"), router)


def test_the_trained_router_is_the_same_in_batches(pair, questions) -> None:
    size = pair.receiver.model.config.hidden_size
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, size, generator=draw)
    router = fit(vectors, vectors[:, 0] > 0, RouterSettings())

    def routed(budget: int) -> list[tuple[str | None, list[int] | None]]:
        models = (
            SingleModel(pair.receiver, token_budget=budget),
            SingleModel(pair.sharer, "sharer", token_budget=budget),
        )
        answers = ask(LearnedRouting(*models, router), questions["free"], budget)
        return [(answer.routed_to, answer.output_ids) for answer in answers]

    assert routed(1) == routed(10_000)
