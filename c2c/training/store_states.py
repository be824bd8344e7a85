"""``c2c store-states``: run the two frozen models once over training sets, for all trainings of the pair."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from c2c.alignment.layers import align_layers
from c2c.alignment.tokens import left_pad
from c2c.cache import kv_cache
from c2c.cache.rows import rotations_change
from c2c.cache.shape import cache_shape
from c2c.errors import RefusedError, check_choice
from c2c.models import hub
from c2c.models.loading import LoadedModel, load_model, load_tokenizer, model_state
from c2c.models.model_folder import read_config
from c2c.models.pair import check_embeddings
from c2c.provenance import settings_hash
from c2c.storage.files import remove_leftovers, written_whole
from c2c.storage.locks import locked
from c2c.training.config import SHARER_CACHES, STATES_LIMIT_GB, STATES_TOKEN_BUDGET
from c2c.training.examples import Example, Examples, read_lines
from c2c.training.stored_states import (
    INDEX,
    RUN_LIVE,
    STATES,
    Role,
    StatesIdentity,
    StoredText,
    add_cost,
    check_sections,
    fused_positions,
    receiver_ids,
    text_key,
    write_index,
)
from c2c.training.tokenised_set import TokenisedSet, identity
from c2c.types import DTYPES, LAYER_ALIGNMENTS, PROMPTS, TOKEN_ALIGNMENTS, CacheShape

GB = 10**9
SHARD_BYTES = 2**28
"""A shard is full beyond this; it is what a computation that is cut off loses at most."""


@dataclass(frozen=True, kw_only=True)
class StoreStatesRun:
    """One call of ``c2c store-states``.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        dtype: Precision of the models and of the states.
        sharer_cache: ``zeroed`` stores the Receiver's states alone, which the recipe `adapter` learns from.
        layer_alignment: Sharer layers that no Fuser reads under it are not stored.
        alignment: Token alignment, of sets that are JSON lines.
        prompts: ``plain`` or ``chat``, of sets that are JSON lines.
        max_length: Most tokens of the Receiver in an example, of sets that are JSON lines.
        data: Sets as JSON lines.
        tokenised: Sets as ``c2c tokenise`` wrote them.
        token_budget: Tokens of a batch, pads included.
        limit_gb: Most that the states may take on the disk, in 10^9 bytes.
        output: Folder of the states.

    Raises:
        RefusedError: If a name is unknown, a number is not positive, or there is no set.
    """

    receiver: str
    sharer: str
    dtype: str = "float32"
    sharer_cache: str = "own"
    layer_alignment: str = "terminal"
    alignment: str = "span"
    prompts: str = "plain"
    max_length: int = 2048
    data: Sequence[Path] = ()
    tokenised: Sequence[Path] = ()
    token_budget: int = STATES_TOKEN_BUDGET
    limit_gb: float = STATES_LIMIT_GB
    output: Path

    def __post_init__(self) -> None:
        check_choice("--dtype", self.dtype, DTYPES)
        check_choice("--sharer-cache", self.sharer_cache, SHARER_CACHES)
        check_choice("--layer-alignment", self.layer_alignment, LAYER_ALIGNMENTS)
        check_choice("--alignment", self.alignment, TOKEN_ALIGNMENTS)
        check_choice("--prompts", self.prompts, PROMPTS)
        for name in ("max_length", "token_budget", "limit_gb"):
            if not getattr(self, name) > 0:
                raise RefusedError(f"{name} must be positive", getattr(self, name), f"Raise --{name.replace('_', '-')}")
        if not self.data and not self.tokenised:
            raise RefusedError("There must be a set whose states are stored", "none", "Pass --tokenised or --data")

    def settings(self) -> dict[str, Any]:
        """All but the files, as JSON has them."""
        return {name: value for name, value in asdict(self).items() if name not in ("data", "tokenised", "output")}

    def index_settings(self) -> dict[str, Any]:
        """The settings that determine what is stored: neither limits nor the places of the models.

        The states of a folder stay the same to its trainings when any of the others change.
        """
        places = ("receiver", "sharer", "limit_gb", "token_budget")
        return {name: value for name, value in self.settings().items() if name not in places}

    def sets(self) -> list[Path]:
        """The files of all sets."""
        return [*self.data, *self.tokenised]

    def examples(self) -> Iterator[Example]:
        """The examples of all sets.

        Raises:
            RefusedError: If a set is missing, or was tokenised for other models or settings.
        """
        folders = [hub.resolve(model) for model in (self.receiver, self.sharer)]
        receiver, sharer = map(load_tokenizer, folders)
        check_embeddings(self.alignment, receiver, read_config(folders[1]))
        for path in self.data:
            examples = Examples(receiver, sharer, self.alignment, self.prompts, self.max_length)
            yield from examples.of(read_lines(path))
        made_for = identity(receiver, sharer, self.alignment, self.prompts, self.max_length)
        for path in self.tokenised:
            tokenised = TokenisedSet(path)
            tokenised.check(made_for)
            yield from tokenised


class ReadingPlan(NamedTuple):
    """What one model reads, and what of it is kept.

    Args:
        role: Receiver or Sharer.
        source: Where the model is.
        layers: Layers that are kept.
        shape: Cache sizes of the model.
        ids: The tokens of each text, by its key.
        positions: The places of the tokens that are kept, by the text's key.
    """

    role: Role
    source: str
    layers: Sequence[int]
    shape: CacheShape
    ids: dict[str, list[int]]
    positions: dict[str, list[int]]

    def row_bytes(self, dtype: str) -> int:
        """Bytes of a token's keys and values in the layers that are kept."""
        return len(self.layers) * 2 * self.shape.heads * self.shape.head_dim * getattr(torch, dtype).itemsize

    def rows(self) -> int:
        """Tokens that are kept."""
        return sum(map(len, self.positions.values()))


def store_states(run: StoreStatesRun) -> dict[str, Any]:
    """Compute the states of all examples, resuming from the shards that an earlier call has completed.

    Returns:
        What provenance should know: counts of examples, texts and tokens, and bytes.

    Raises:
        RefusedError: If an input is missing or does not fit, an example has several fused sections, or the states
            would be larger than the limit.
    """
    # 1. What is read: each text once, however many examples have it
    examples, plans = _plan(run)
    sizes = {plan.role: plan.rows() * plan.row_bytes(run.dtype) for plan in plans}
    size = sum(sizes.values()) / GB
    parts = ", ".join(f"{role} {part / GB:.3f}" for role, part in sizes.items())
    print(f"c2c store-states: {size:.3f} GB for {examples} examples ({parts})", file=sys.stderr)
    if size > run.limit_gb:
        rule = f"The states must take at most {run.limit_gb} GB"
        raise RefusedError(rule, f"{size:.3f} GB", f"Raise --limit-gb, or use fewer examples. {RUN_LIVE}")
    # 2. Shards of each model, then the index, without which a folder is not complete
    run.output.mkdir(parents=True, exist_ok=True)
    origin = StatesIdentity(model_state(run.receiver), model_state(run.sharer), run.dtype)
    with locked(run.output, "store-states"):
        (run.output / INDEX).unlink(missing_ok=True)
        texts: dict[Role, dict[str, StoredText]] = {}
        descriptions = {}
        for plan in plans:
            lm = load_model(plan.source, run.dtype, "cuda" if torch.cuda.is_available() else "cpu")
            texts[plan.role] = _write_shards(run, plan, lm, origin)
            descriptions[plan.role] = lm.description
        # The contract of the Fusers names the Sharer, also where nothing of it is stored.
        if "sharer" not in descriptions:
            descriptions["sharer"] = load_model(run.sharer, run.dtype).description
        shapes = {role: cache_shape(read_config(hub.resolve(getattr(run, role)))) for role in ("receiver", "sharer")}
        layers = next((list(plan.layers) for plan in plans if plan.role == "sharer"), [])
        about = {
            "identity": origin.to_dict(),
            "sharer_layers": layers,
            "shapes": {role: list(shape) for role, shape in shapes.items()},
            "sharer": descriptions["sharer"],
            "settings": run.index_settings(),
        }
        _forget_others(run.output, {text.shard for of_role in texts.values() for text in of_role.values()})
        write_index(run.output, texts, about)
    return {
        "examples": examples,
        "texts": {plan.role: len(plan.ids) for plan in plans},
        "tokens": {plan.role: plan.rows() for plan in plans},
        "bytes": sum(sizes.values()),
    }


def _plan(run: StoreStatesRun) -> tuple[int, list[ReadingPlan]]:
    """The number of examples, and what each model reads of them."""
    configs = [read_config(hub.resolve(model)) for model in (run.receiver, run.sharer)]
    receiver, sharer = map(cache_shape, configs)
    sharer_layers = sorted(set(align_layers(run.layer_alignment, receiver.layers, sharer.layers)))
    plans = [ReadingPlan("receiver", run.receiver, range(receiver.layers), receiver, {}, {})]
    if run.sharer_cache == "own":
        plans.append(ReadingPlan("sharer", run.sharer, sharer_layers, sharer, {}, {}))
    count = longest = 0
    for example in run.examples():
        check_sections(example)
        count += 1
        prompt = example.prompt
        longest = max(longest, len(prompt.receiver_ids) + len(example.response_ids))
        prefix = receiver_ids(prompt)
        plans[0].ids[text_key(prefix)] = prefix
        plans[0].positions[text_key(prefix)] = list(range(len(prefix)))
        for plan in plans[1:]:
            key = text_key(prompt.sharer_ids)
            plan.ids[key] = prompt.sharer_ids
            # Other prompts may be fused with other tokens of the same text.
            plan.positions[key] = sorted({*plan.positions.get(key, ()), *fused_positions(prompt)})
    if rotations_change(configs[0], longest):
        rule = "A Receiver whose states are stored must read the first tokens of a text alike, however long the text is"
        raise RefusedError(rule, f"{longest} tokens, beyond its short rotations", f"Lower --max-length. {RUN_LIVE}")
    return count, plans


def _write_shards(
    run: StoreStatesRun, plan: ReadingPlan, lm: LoadedModel, origin: StatesIdentity
) -> dict[str, StoredText]:
    """Write the shards of one model that are not there yet; returns where each text lies."""
    texts: dict[str, StoredText] = {}
    batches = list(_batches(plan, run.token_budget))
    with tqdm(total=plan.rows(), desc=f"states of the {plan.role}", unit="token", mininterval=1.0) as bar:
        for number, shard in enumerate(_shards(batches, plan, run.dtype)):
            path = run.output / f"{plan.role}-{number:05d}.safetensors"
            start = 0
            for key in (key for batch in shard for key in batch):
                texts[key] = StoredText(path.name, start, plan.positions[key])
                start += len(plan.positions[key])
            # A shard of the same texts of the same model is as it would be computed again.
            content = [(key, plan.positions[key]) for batch in shard for key in batch]
            settings = {**origin.to_dict(), "layers": list(plan.layers)}
            plan_hash = settings_hash({**settings, "texts": content})
            if not _is_complete(path, plan_hash):
                remove_leftovers(path)
                begin = time.perf_counter()
                slabs = [slab for batch in shard for slab in _read_batch(lm, plan, batch)]
                # Before the shard is named, so that none is complete without its cost.
                gpus = int(lm.model.device.type == "cuda")
                add_cost(run.output, path.name, time.perf_counter() - begin, gpus)
                with written_whole(path) as unfinished:
                    save_file({STATES: torch.cat(slabs)}, unfinished, metadata={"plan": plan_hash})
            bar.update(start)
    return texts


def _is_complete(path: Path, plan_hash: str) -> bool:
    try:
        with safe_open(path, framework="pt") as shard:
            return bool((shard.metadata() or {}).get("plan") == plan_hash)
    except (SafetensorError, OSError):
        return False


def _batches(plan: ReadingPlan, token_budget: int) -> Iterator[list[str]]:
    """Texts of similar length, as many as the budget allows, at least one."""
    batch: list[str] = []
    for key in sorted(plan.ids, key=lambda key: (len(plan.ids[key]), key)):
        # The latest text is the longest, to whose length the others are padded.
        if batch and (len(batch) + 1) * len(plan.ids[key]) > token_budget:
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch


def _shards(batches: Sequence[list[str]], plan: ReadingPlan, dtype: str) -> Iterator[list[list[str]]]:
    """Batches that fill a shard together."""
    shard: list[list[str]] = []
    size = 0
    for batch in batches:
        shard.append(batch)
        size += sum(len(plan.positions[key]) for key in batch) * plan.row_bytes(dtype)
        if size > SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


@torch.no_grad()
def _read_batch(lm: LoadedModel, plan: ReadingPlan, batch: Sequence[str]) -> list[Tensor]:
    """The states of each text at its positions, ``(tokens, layers, 2, H, D)`` on the CPU."""
    model: PreTrainedModel = lm.model
    # Nothing behind the last token that is kept needs to be read; a text of which none is has one token.
    texts = [plan.ids[key][: max(plan.positions[key], default=0) + 1] or [lm.pad] for key in batch]
    ids, mask = left_pad(texts, lm.pad)
    ids, mask = ids.to(model.device), mask.to(model.device)
    layers = kv_cache.layers_of(kv_cache.prefill(model, ids, mask, kv_cache.positions_of(mask)))
    # Keys and values of the layers that are kept: (L, 2, B, H, N, D)
    states = torch.stack([torch.stack(layers[layer]) for layer in plan.layers])
    slabs = []
    for row, key in enumerate(batch):
        columns = torch.tensor(plan.positions[key], dtype=torch.long) + ids.shape[1] - len(texts[row])
        # (L, 2, H, m, D) -> (m, L, 2, H, D)
        slab = states[:, :, row, :, columns.to(states.device)].permute(3, 0, 1, 2, 4)
        slabs.append(slab.cpu().contiguous())
    return slabs


def _forget_others(folder: Path, shards: set[str]) -> None:
    """Remove shards of an earlier call with other texts."""
    for path in folder.glob("*.safetensors"):
        if path.name not in shards:
            path.unlink()
