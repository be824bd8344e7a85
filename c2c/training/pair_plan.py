"""What a pair would need: whether two models can be connected, how they differ, and memory, time and disk.

Only configs and tokenizers are read, no weights.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from c2c.cache.shape import cache_shape
from c2c.checkpoints.checkpoint_folder import read_manifest
from c2c.errors import RefusedError
from c2c.models import hub
from c2c.models.contract import compare, describe_model, tokenizer_fingerprint
from c2c.models.download import download
from c2c.models.loading import load_tokenizer, model_name
from c2c.models.model_folder import read_config
from c2c.storage.manifests import is_manifest
from c2c.training.config import TrainingConfig
from c2c.training.memory import BYTES, LEARNED, Sizes, answering_mb, fuser_parameters, training_mb
from c2c.training.operations import FORWARD, example_operations
from c2c.training.utilisation import PEAKS

SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""Files of a repository that are config and tokenizer."""
SHARES = Path(__file__).with_name("shares.csv")
PRECISION = "bfloat16"
"""Whose peak counts on a GPU."""
PRODUCT = 1024
"""Rows and columns of the matrices whose product is timed on a CPU."""
NOT_READ = ("weights_sha256", "revision", "dtype")
"""Lines of a contract that depend on the weights."""
KEPT_STATES = 2
"""Resumable states that are on the disk at once while a new one is written."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without its weights; `config` and `tokenizer` are those of transformers."""

    name: str
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def read(cls, source: str) -> ModelFacts:
        """Read config and tokenizer of a folder, manifest or hub id; of the hub only these are downloaded.

        Raises:
            RefusedError: If nothing has that name, or a file cannot be read.
        """
        here = is_manifest(source) or Path(source).is_dir() or hub.mirror_folder(source)
        folder = hub.resolve(source) if here or not hub.is_hub_id(source) else small_files(source)
        return cls(model_name(source), read_config(folder), load_tokenizer(folder))

    @cached_property
    def sizes(self) -> Sizes:
        """Parameters, counted on the meta device, and sizes of the cache.

        Raises:
            RefusedError: If the model's cache cannot be fused (`c2c.cache.shape.cache_shape`).
        """
        shape, decoder = cache_shape(self.config), self.config.get_text_config(decoder=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config, trust_remote_code=False)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return Sizes(parameters, shape.layers, decoder.hidden_size, shape.heads, shape.head_dim)

    @cached_property
    def tokenizer_hash(self) -> str:
        """Fingerprint of the tokenizer."""
        return tokenizer_fingerprint(self.tokenizer)


def small_files(hub_id: str) -> Path:
    """The folder of a hub repository's config and tokenizer, downloaded without weights."""
    return download(hub_id, None, "model", patterns=SMALL_FILES)


@dataclass(frozen=True, kw_only=True)
class PairDifference:
    """A line in which two models differ, and what that means for the pair."""

    line: str
    receiver: str
    sharer: str
    meaning: str


def differences(receiver: ModelFacts, sharer: ModelFacts) -> Iterator[PairDifference]:
    """What differs between two models that can be connected, and what is done about it."""
    ours, theirs = receiver.sizes, sharer.sizes

    def differ(line: str, first: Any, second: Any, meaning: str) -> Iterator[PairDifference]:
        if first != second:
            yield PairDifference(line=line, receiver=str(first), sharer=str(second), meaning=meaning)

    types = (receiver.config.model_type, sharer.config.model_type)
    yield from differ("architecture", *types, "any two with a cache of keys and values can be connected")
    first, second = (f"{len(facts.tokenizer)} tokens, {facts.tokenizer_hash[:8]}" for facts in (receiver, sharer))
    yield from differ("tokenizer", first, second, "tokens are matched by the text that they cover (alignment span)")
    deeper = "the Sharer's last layers are read"
    shallower = "the Receiver's first layers all read the Sharer's first"
    meaning = deeper if theirs.layers > ours.layers else shallower
    yield from differ("layers", ours.layers, theirs.layers, meaning)
    yield from differ("kv_heads", ours.kv_heads, theirs.kv_heads, "the Fuser projects between the widths")
    yield from differ("head_dim", ours.head_dim, theirs.head_dim, "the Fuser projects between the widths")
    template, other = (bool(facts.tokenizer.chat_template) for facts in (receiver, sharer))
    yield from differ("chat_template", template, other, "chats need both templates; train and ask with --prompts plain")


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """Memory, time and disk of a pair.

    Args:
        receiver: The Receiver.
        sharer: The Sharer.
        training: Settings of the training.
        gpu: A part of the name of a GPU in ``c2c/training/peaks.csv``; empty for a CPU.
        tflops: Operations a second in units of 10^12, measured or taken from the peak.
        prompt_tokens: Mean tokens of a prompt.
        answer_tokens: Mean tokens of an answer.
        questions: Questions that are answered.
        token_budget: Tokens of a batch of questions.
    """

    receiver: Sizes
    sharer: Sizes
    training: TrainingConfig
    gpu: str
    tflops: float
    prompt_tokens: int = 150
    answer_tokens: int = 50
    questions: int = 1000
    token_budget: int = 4096

    def to_dict(self) -> dict[str, float]:
        """All numbers, in GB (10^9 bytes) and hours."""
        settings, fusers = asdict(self.training), self.fuser_parameters
        number = BYTES[self.training.dtype]
        example = example_operations(
            self.prompt_tokens, self.answer_tokens, self.receiver.parameters, self.sharer.parameters, fusers
        )
        examples = self.training.steps * self.training.batch_size
        models = self.receiver.parameters + self.sharer.parameters
        answer = FORWARD * (self.prompt_tokens * (models + fusers) + self.answer_tokens * self.receiver.parameters)
        gpus, sizes = int(bool(self.gpu)), (self.sharer, self.receiver)
        return {
            "fuser_parameters": fusers,
            "training_memory_gb": training_mb(*sizes, settings) / 1e3,
            "answering_memory_gb": answering_mb(*sizes, settings, self.token_budget, gpus) / 1e3,
            "training_hours": examples * example.total / (3600e12 * self.tflops),
            "answering_hours": self.questions * answer / (3600e12 * self.tflops),
            "models_disk_gb": models * number / 1e9,
            "fusers_disk_gb": BYTES["float32"] * fusers / 1e9,
            "training_disk_gb": KEPT_STATES * LEARNED * fusers / 1e9,
        }

    @property
    def fuser_parameters(self) -> int:
        """Weights of the Fusers of all Receiver layers."""
        settings = asdict(self.training)
        return fuser_parameters(self.sharer, self.receiver, settings, projected=self.training.variant == "projected")

    def smaller(self) -> PairPlan:
        """The same pair with examples run one by one, which needs the least memory."""
        return replace(self, training=replace(self.training, micro_batch_size=1))


def gpu_speed(name: str) -> float:
    """TFLOP/s that a training is expected to reach on a GPU: a share of its peak (``c2c/training/shares.csv``).

    Raises:
        RefusedError: If the GPU is not listed.
    """
    with PEAKS.open(encoding="utf-8", newline="") as file:
        peaks = {row["device"]: float(row["tflops"]) for row in csv.DictReader(file) if row["precision"] == PRECISION}
    for device, peak in peaks.items():
        if name.casefold() in device.casefold() or device.casefold() in name.casefold():
            return peak * share_of("gpu")
    rule = "A device must be cpu or a GPU whose peak is known"
    raise RefusedError(rule, name, f"Choose one of: {', '.join(peaks)}")


def cpu_speed() -> float:
    """TFLOP/s that training is expected to reach on this CPU, from a product of two matrices that is timed."""
    matrix = torch.ones(PRODUCT, PRODUCT)
    matrix @ matrix
    start, rounds = time.perf_counter(), 3
    for _ in range(rounds):
        matrix @ matrix
    return rounds * 2 * PRODUCT**3 / (time.perf_counter() - start) / 1e12 * share_of("cpu")


def share_of(device: str) -> float:
    """The share of a device's speed that training is expected to reach."""
    with SHARES.open(encoding="utf-8", newline="") as file:
        return next(float(row["share"]) for row in csv.DictReader(file) if row["device"] == device)


def contract_differences(fuser: str | Path, receiver: ModelFacts, sharer: ModelFacts) -> list[str]:
    """Lines of the contract of trained Fusers that two models do not meet, weights apart, which are not read.

    Raises:
        RefusedError: If the folder is no checkpoint.
    """
    contract = read_manifest(hub.resolve(fuser))["contract"]
    models = {
        role: describe_model(facts.config, facts.tokenizer, name=facts.name)
        for role, facts in (("receiver", receiver), ("sharer", sharer))
    }
    # Without weights the id decides which model it is.
    lines = {role: {line: contract[role][line] for line in contract[role] if line not in NOT_READ} for role in models}
    return [str(difference) for difference in compare(lines, models) if difference.refuses]
