"""Publishing: what is pushed comes back by its id, and the card's own program runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard

from c2c import FuserStack, RefusedError, RosettaModel
from c2c.checkpoints.card import model_card
from c2c.checkpoints.push import push_folder, stage
from c2c.models import hub
from c2c.models.loading import load_model

SMALL = {"hidden_dim": 8, "intermediate_dim": 8, "layer_alignment": "nearest", "variant": "fuse"}
MODELS = {"receiver": ("qwen3", {}), "first": ("qwen2", {"layers": 4, "seed": 1}), "second": ("llama", {"seed": 2})}


class FakeHub:
    """Stands for the hub's API: an upload is a copy into a mirror folder."""

    def __init__(self, mirror: Path) -> None:
        self.mirror, self.calls = mirror, []

    def __call__(self, token: str | None = None) -> FakeHub:
        self.calls.append(("token", token))
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append(("create", repo_id, private, exist_ok))

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        self.calls.append(("branch", branch, exist_ok))

    def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str | None, commit_message: str):
        shutil.copytree(folder_path, self.mirror / repo_id)
        self.calls.append(("upload", revision))
        return SimpleNamespace(commit_url=f"hub/{repo_id}/commit/1")


@pytest.fixture
def fake(tmp_path, monkeypatch, tiny_model, word_tokenizer) -> FakeHub:
    """A mirror that holds the models, and a hub that puts into it what is uploaded."""
    mirror = tmp_path / "mirror"
    for name, (family, sizes) in MODELS.items():
        tiny_model(family, vocab=len(word_tokenizer), **sizes).save_pretrained(mirror / "owner" / name)
        word_tokenizer.save_pretrained(mirror / "owner" / name)
    monkeypatch.setenv(hub.MIRRORS, str(mirror))
    api = FakeHub(mirror)
    monkeypatch.setattr("huggingface_hub.HfApi", api)
    return api


def build(*names: str) -> tuple[RosettaModel, list]:
    receiver, *sharers = (load_model(f"owner/{name}") for name in ("receiver", *names))
    torch.manual_seed(0)
    stacks = [FuserStack.between(each.model.config, receiver.model.config, **SMALL) for each in sharers]
    model = RosettaModel.of_stacks(receiver.model, [each.model for each in sharers], stacks, fusion="parallel")
    return model, [each.tokenizer for each in (receiver, *sharers)]


@pytest.mark.parametrize("names", [("first",), ("first", "second")])
def test_a_pushed_model_comes_back_by_its_id_and_writes_the_same(fake, sections, names) -> None:
    model, tokenizers = build(*names)
    about = {"recipe": "c2c", "alignment": "span"}
    address = model.push_to_hub("owner/fusers", private=True, token="secret", tokenizers=tokenizers, about=about)
    assert address == "hub/owner/fusers/commit/1"
    assert fake.calls == [("token", "secret"), ("create", "owner/fusers", True, True), ("upload", None)]
    loaded = RosettaModel.from_pretrained(
        "owner/fusers", receiver="owner/receiver", sharers=[f"owner/{name}" for name in names]
    )
    assert loaded.contract_check.to_dict() == {"accepted": [], "noted": []}
    ids, index = torch.tensor([[3, 4, 5, 6, 7]]), sections((2 ** len(names) - 1, 4), (-1, 1))
    written = model.generate(index, ids, max_new_tokens=8)
    assert torch.equal(loaded.generate(index, ids, max_new_tokens=8), written)
    assert not torch.equal(loaded(index, ids).logits, model.receiver(input_ids=ids).logits[:, -1:])


def test_what_was_accepted_when_the_fusers_were_loaded_stands_on_the_card(fake, tiny_model, tmp_path) -> None:
    model, _ = build("first")
    model.push_to_hub("owner/fusers")
    assert "trained for other models" not in (fake.mirror / "owner" / "fusers" / "README.md").read_text()
    other = tiny_model("qwen2", vocab=model.receiver.config.vocab_size, layers=4, seed=9)
    given = {"receiver": model.receiver, "sharers": other, "override": ["sharer.weights_sha256", "sharer.id"]}
    RosettaModel.from_pretrained("owner/fusers", **given).push_to_hub("owner/other")
    card = (fake.mirror / "owner" / "other" / "README.md").read_text()
    assert "trained for other models" in card
    assert "* `sharer.weights_sha256: expected" in card


@pytest.mark.parametrize("names", [("first",), ("first", "second")])
def test_the_program_that_the_card_prints_runs(fake, names) -> None:
    model, tokenizers = build(*names)
    model.push_to_hub("owner/fusers", tokenizers=tokenizers)
    card = (fake.mirror / "owner" / "fusers" / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    variables: dict = {}
    exec(program, variables)
    assert isinstance(variables["answer"], str)
    assert variables["output"].shape[1] > variables["input_ids"].shape[1]


def test_the_card_says_what_the_fusers_are_for_how_they_were_trained_and_what_they_do_not_show(fake) -> None:
    model, tokenizers = build("first")
    about = {"recipe": "c2c", "seed": 7, "training": {"learning_rate": 1e-4, "steps": 20}}
    model.push_to_hub("owner/fusers", tokenizers=tokenizers, about=about, license="mit")
    card = ModelCard.load(fake.mirror / "owner" / "fusers" / "README.md")
    assert card.data.base_model == ["owner/receiver", "owner/first"]
    assert (card.data.license, card.data.library_name) == ("mit", "cache-to-cache")
    assert "| learning_rate | `0.0001` |" in card.text
    assert "| recipe | `c2c` |" in card.text
    for said in (*describe_hashes(fake.mirror / "owner" / "fusers"), "c2c_deranged", "c2c_zeroed", "adapter"):
        assert said in card.text


def describe_hashes(folder: Path) -> list[str]:
    return re.findall(r"[0-9a-f]{64}", (folder / "manifest.json").read_text().split('"fuser"')[0])


def test_what_is_published_has_the_same_bytes_each_time_and_no_path_of_this_machine(fake, tmp_path) -> None:
    model, tokenizers = build("first")
    model.save_pretrained(tmp_path / "fuser", tokenizers=tokenizers)
    (tmp_path / "fuser" / "history.csv").write_text("step\n")
    (tmp_path / "fuser" / "notes of mine.txt").write_text("not for others")
    for name in ("one", "two"):
        stage(tmp_path / "fuser", tmp_path / name, "owner/fusers")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["README.md", "config.json", "history.csv", "manifest.json", "model.safetensors"]
    for name in files:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert str(tmp_path).encode() not in content


def test_models_that_are_not_on_the_hub_are_said_not_to_be(fake, tmp_path) -> None:
    model, _ = build("first")
    for each, name in ((model.receiver, "receiver"), (model.sharers[0], "sharer")):
        each.save_pretrained(tmp_path / name)
    RosettaModel.of_stacks(load_model_of(tmp_path / "receiver"), [load_model_of(tmp_path / "sharer")],
                           list(model.stacks)).push_to_hub("owner/local")  # fmt: skip
    card = ModelCard.load(fake.mirror / "owner" / "local" / "README.md")
    assert card.data.base_model is None
    assert "Not on the hub under that name: `receiver`, `sharer`" in card.text


def load_model_of(folder: Path):
    from c2c.models.loading import load_causal_model

    return load_causal_model(folder)


def test_a_branch_is_made_for_a_revision(fake) -> None:
    build("first")[0].push_to_hub("owner/fusers", revision="seed7")
    assert fake.calls[2:] == [("branch", "seed7", True), ("upload", "seed7")]


def test_an_unfinished_or_changed_folder_is_not_published(fake, tmp_path) -> None:
    build("first")[0].save_pretrained(tmp_path / "fuser")
    (tmp_path / "fuser" / "config.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"config\.json must be the file"):
        push_folder(tmp_path / "fuser", "owner/fusers")
    with pytest.raises(RefusedError, match=r"must hold manifest\.json"):
        push_folder(tmp_path / "nothing", "owner/fusers")
    assert fake.calls == []


def test_a_repository_without_owner_and_a_hub_that_refuses_are_refused_with_a_remedy(fake, monkeypatch) -> None:
    model, _ = build("first")
    with pytest.raises(RefusedError, match="must be named owner/name; received 'fusers'"):
        model.push_to_hub("fusers")
    monkeypatch.setattr(FakeHub, "create_repo", lambda *a, **k: (_ for _ in ()).throw(PermissionError))
    with pytest.raises(RefusedError, match=r"The hub must accept the upload.*PermissionError.*hf auth login"):
        model.push_to_hub("owner/fusers")


SCORES = """\
scale,receiver,sharer,recipe,alignment,method,scoring,seed,benchmark,subset,metric,value,n,low,high
mine,receiver,first,c2c,span,c2c,text,7,arc,all,accuracy,61.5000,200,54.6000,68.0000
mine,receiver,first,c2c,span,c2c_deranged,text,7,arc,all,accuracy,40.0000,200,33.5000,46.9000
mine,receiver,first,adapter,span,c2c,text,7,arc,all,accuracy,50.0000,200,43.1000,56.9000
mine,receiver,first,,,receiver,text,,arc,all,accuracy,30.0000,200,24.1000,36.7000
mine,receiver,first,c2c,span,c2c,text,8,arc,all,accuracy,1.0000,200,0.1000,2.0000
mine,receiver,first,c2c,span,c2c,text,7,arc,easy,accuracy,2.0000,100,0.1000,3.0000
mine,receiver,first,c2c,span,c2c,text,7,arc,all,failed,3.0000,200,0.1000,4.0000
mine,receiver,other,c2c,span,c2c,text,7,arc,all,accuracy,4.0000,200,0.1000,5.0000
"""


def push_with_scores(tmp_path: Path, scores: str, seed: int = 7) -> None:
    model, tokenizers = build("first")
    (tmp_path / "scores.csv").write_text(scores.replace(",receiver,first,", ",owner/receiver,owner/first,"))
    about = {"recipe": "c2c", "alignment": "span", "seed": seed}
    model.push_to_hub("owner/fusers", tokenizers=tokenizers, about=about, scores=[tmp_path / "scores.csv"])


def test_results_of_the_fusers_and_their_controls_stand_on_the_card_with_intervals(fake, tmp_path) -> None:
    push_with_scores(tmp_path, SCORES)
    card = ModelCard.load(fake.mirror / "owner" / "fusers" / "README.md")
    entries = {entry.metric_name.split(", ")[1]: entry for entry in card.data.eval_results}
    assert set(entries) == {"c2c", "c2c_deranged", "adapter", "receiver"}
    assert (entries["c2c"].metric_value, entries["c2c"].dataset_type, entries["c2c"].metric_type) == (
        61.5,
        "arc",
        "accuracy",
    )
    assert entries["c2c"].metric_args == {"low": 54.6, "high": 68.0, "n": 200, "interval": "95 %"}
    assert "| `arc` | `text` | `c2c_deranged` | 40.0 [33.5, 46.9] | 200 |" in card.text
    assert "The results lack `c2c_same_answer`, `c2c_zeroed`." in card.text


@pytest.mark.parametrize(
    ("scores", "seed", "rule"),
    [
        (SCORES, 9, "must have a result of these Fusers"),
        ("a,b\n1,2\n", 7, "must have the columns of c2c score"),
        (SCORES.replace("61.5000", "many"), 7, "must be numbers with their interval"),
    ],
)
def test_scores_of_other_fusers_and_files_that_are_no_scores_are_refused_before_the_upload(
    fake, tmp_path, scores: str, seed: int, rule: str
) -> None:
    with pytest.raises(RefusedError, match=rule):
        push_with_scores(tmp_path, scores, seed)
    assert fake.calls == []


def test_a_card_without_scores_says_that_no_control_is_part_of_it(fake) -> None:
    model, tokenizers = build("first")
    model.push_to_hub("owner/fusers", tokenizers=tokenizers)
    card = ModelCard.load(fake.mirror / "owner" / "fusers" / "README.md")
    assert card.data.eval_results is None and "No result of them is part of this card." in card.text


def test_ids_and_settings_end_no_cell_and_open_no_heading_on_the_card() -> None:
    evil = "x`\n# Heading\n[a](http://example.org) | <b>"
    lines = {"id": evil, "revision": None, "architecture": evil, "layers": 1, "kv_heads": 1, "head_dim": 8}
    lines |= {"dtype": "float32", "vocab_size": 9, "rope": {"a`": "|"}, "tokenizer_sha256": "0", "weights_sha256": "1"}
    contract = {"receiver": lines, "sharer": lines, "fuser": {"dtype": evil}}
    about = {"recipe": evil, "training": {evil: evil}}
    card = model_card("owner/name", [contract], [about], "apache-2.0", accepted=[evil])  # type: ignore[list-item]
    body = card.split("---\n", 2)[2]
    assert "# Heading" not in [line.strip() for line in body.split("\n")]
    tables = [line for line in body.split("\n") if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {8, 3, 4}
