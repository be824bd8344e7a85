"""The model card of Fusers on the hub: models, training, a program that loads them, the contract, and a warning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from c2c.checkpoints.results import Result
from c2c.models.contract import Contract
from c2c.models.hub import is_hub_id
from c2c.storage.markup import code, markdown

PAPER = "2510.03215"
LIBRARY = "cache-to-cache"

PROGRAM = """\
import torch
from c2c import RosettaModel, TokenAligner, generate_kv_cache_index
from c2c.alignment.tokens import batch_readings
from c2c.models.loading import load_model

receiver = load_model({receiver!r})
sharers = [load_model(name) for name in {sharers!r}]
model = RosettaModel.from_pretrained({repo!r}, receiver=receiver, sharers=sharers)

prompt = "What colour is the sky on a clear day?"
texts = [TokenAligner(receiver.tokenizer, sharer.tokenizer, {alignment!r}).align(prompt) for sharer in sharers]
inputs = [batch_readings([text], sharer.pad, zeroed={zeroed}) for text, sharer in zip(texts, sharers)]
input_ids = torch.tensor([texts[0].receiver_ids])
index = generate_kv_cache_index(input_ids.shape[1] - 1, 1)
index[0] = torch.tensor([{mask}, 0]).expand_as(index[0])  # which Sharers are read: bit i for Sharer i + 1
output = model.generate(index, input_ids, max_new_tokens=64, sharer_inputs=inputs)
answer = receiver.tokenizer.decode(output[0, input_ids.shape[1] :], skip_special_tokens=True)
print(answer)
"""

BODY = """\
# {name}

Fusers for **Cache-to-Cache** (C2C, [arXiv {paper}](https://arxiv.org/abs/{paper})): the Receiver answers with its
KV-cache fused with what the Sharer's holds of the same prompt. This repository holds the Fusers alone; the language
models are loaded from where they are.

## Models

{models}

{unpublished}## Training

{training}

## How to load it

```python
{program}```

Write prompts as the training set does. On a GPU load the models with `load_model(name, "bfloat16", "cuda")`, and move
`input_ids` and what the Sharers read there too.

## Contract

`manifest.json` holds what the Fusers were trained for. Other models are refused, and the refusal names each line that
differs; `override=["receiver.weights_sha256"]` accepts one by name, and `model.contract_check` keeps what was accepted.

{contract}

{accepted}{results}## What this does not show

A Fuser is also a set of new parameters, trained on a task. That the fused Receiver does better than the Receiver alone
does not show that it was told anything. Before you say so, run the controls on your own questions: a Sharer that reads
another question with another answer (`c2c_deranged`) or with the same (`c2c_same_answer`), a Sharer cache of zeros
(`c2c_zeroed`), and Fusers that were trained without any message (recipe `adapter`). {controls}
"""

RESULTS = """\
## Results

Accuracy in percent with 95 % intervals over questions, for this training. `c2c` is these Fusers; other rows are the models
alone, text (`t2t`) and the controls.

{table}

"""


def model_card(
    repo_id: str,
    contracts: Sequence[Contract],
    about: Sequence[Mapping[str, Any]],
    license: str,
    *,
    accepted: Sequence[str] = (),
    results: Sequence[Result] = (),
) -> str:
    """The card of one model's Fusers, as Markdown with the hub's metadata in front.

    Args:
        repo_id: Where they will be.
        contracts: The contract of each Sharer's Fusers.
        about: For each Sharer, the `about` of `save_stack`.
        license: Of the Fusers, as the hub names it.
        accepted: Lines of an earlier contract that differed, and were accepted by name when the Fusers were loaded.
        results: Of these Fusers and their controls (`c2c.checkpoints.results.read_results`); they are in the text and in
            the hub's ``model-index``.
    """
    # Models, and those that are not on the hub
    models = [("Receiver", contracts[0]["receiver"]), *_sharers(contracts)]
    unpublished = [code(str(lines["id"])) for _, lines in models if not is_hub_id(lines["id"])]
    # Metadata of the hub, then the text
    data = ModelCardData(
        library_name=LIBRARY,
        base_model=[lines["id"] for _, lines in models if is_hub_id(lines["id"])] or None,
        license=license,
        tags=["cache-to-cache", "kv-cache", f"arxiv:{PAPER}"],
        model_name=repo_id.split("/")[1] if results else None,
        eval_results=[result.entry() for result in results] or None,
    )
    # Names of models come from files of others: they are escaped, so that none of them changes the card.
    body = BODY.format(
        name=markdown(repo_id.split("/")[1]),
        paper=PAPER,
        models=_models(models),
        unpublished=_warning(unpublished),
        training=_training(about[0]),
        program=_program(repo_id, contracts, about[0]),
        contract=_contract(models, contracts),
        accepted=_accepted(accepted),
        results=_results(results),
        controls=_controls(results),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _sharers(contracts: Sequence[Contract]) -> list[tuple[str, dict[str, Any]]]:
    names = ["Sharer"] if len(contracts) == 1 else [f"Sharer {number}" for number in range(1, len(contracts) + 1)]
    return [(name, contract["sharer"]) for name, contract in zip(names, contracts, strict=True)]


def _models(models: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    columns = ("id", "revision", "architecture", "layers", "kv_heads", "head_dim")
    rows = [
        (role, *("–" if lines[name] is None else code(str(lines[name])) for name in columns)) for role, lines in models
    ]
    return _table(("", *columns), rows)


def _warning(unpublished: Sequence[str]) -> str:
    if not unpublished:
        return ""
    return f"Not on the hub under that name: {', '.join(unpublished)}. You need these very models as folders.\n\n"


def _accepted(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    listed = "\n".join(f"* {code(line)}" for line in lines)
    return (
        "These Fusers were trained for other models than this contract names. Who loaded them accepted, by name:\n\n"
        f"{listed}\n\n"
    )


def _results(results: Sequence[Result]) -> str:
    if not results:
        return ""
    rows = [
        (
            *(code(text) for text in (result.benchmark, result.scoring, result.arm)),
            f"{result.value:.1f} [{result.low:.1f}, {result.high:.1f}]",
            str(result.n),
        )
        for result in results
    ]
    return RESULTS.format(table=_table(("benchmark", "scoring", "arm", "accuracy", "questions"), rows))


def _controls(results: Sequence[Result]) -> str:
    """Which controls the results have, and which they lack."""
    arms = {result.arm for result in results}
    missing = [code(name) for name in ("c2c_deranged", "c2c_same_answer", "c2c_zeroed", "adapter") if name not in arms]
    if not missing:
        return "All of them are among the results."
    if len(missing) == 4:
        return "No result of them is part of this card."
    return f"The results lack {', '.join(missing)}."


def _training(about: Mapping[str, Any]) -> str:
    recipe = {name: about[name] for name in ("recipe", "alignment", "sharer_cache", "seed", "fusion") if name in about}
    settings = {**recipe, **about.get("training", {})}
    if not settings:
        return "Nothing was noted about how these Fusers were trained."
    return _table(("setting", "value"), [(markdown(str(name)), code(str(value))) for name, value in settings.items()])


def _program(repo_id: str, contracts: Sequence[Contract], about: Mapping[str, Any]) -> str:
    return PROGRAM.format(
        repo=repo_id,
        receiver=contracts[0]["receiver"]["id"],
        sharers=[contract["sharer"]["id"] for contract in contracts],
        alignment=about.get("alignment", "span"),
        zeroed=about.get("sharer_cache") == "zeroed",
        mask=2 ** len(contracts) - 1,
    )


def _contract(models: Sequence[tuple[str, Mapping[str, Any]]], contracts: Sequence[Contract]) -> str:
    lines = ("dtype", "vocab_size", "rope", "tokenizer_sha256", "weights_sha256")
    rows = [(line, *(code(json.dumps(lines[line])) for _, lines in models)) for line in lines]
    dtypes = ", ".join(sorted({contract["fuser"]["dtype"] for contract in contracts}))
    return f"{_table(('', *(role for role, _ in models)), rows)}\n\nThe Fusers' own dtype is {code(dtypes)}."


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    # Within a table a bar ends a cell, in code as well.
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells)
