"""The keys of ``config/*.yaml`` as dataclasses: types, defaults, bounds and meanings of all settings.

``python -m workflow.schema`` generates from them ``workflow/schemas/config.schema.yaml`` and the tables of keys in
``config/README.md``. Settings of a training are those of `c2c.training.config.TrainingConfig`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, get_type_hints

from c2c.errors import RefusedError
from c2c.evaluation.methods.declarations import BASELINE_METHODS, TIMED_METHODS
from c2c.settings import as_json, from_mapping, rule_of, setting
from c2c.training.config import GREATEST_SEED, STATES_LIMIT_GB, TrainingConfig
from c2c.types import COMPILED_STAGES, TOKEN_ALIGNMENTS

ID = r"\A[a-z0-9_]+\Z"
ID_FORM = "lower-case letters, digits and underscores, such as qwen3_06b"
"""The characters of `ID`, as a message names them."""
MOST = 10**9
"""Greatest count."""
WIDE = 10**6
"""Greatest width, number of layers or of heads."""


def an_id(text: str, default: Any = ...) -> Any:
    """An id of a table or of a task."""
    return setting(default, text, pattern=ID)


def ids(text: str, default: Any = ..., fewest: int = 0) -> Any:
    """A list of ids."""
    return setting(default, text, pattern=ID, fewest=fewest)


def count(text: str, default: Any = ..., least: int = 1) -> Any:
    """A whole number of things."""
    return setting(default, text, least=least, most=MOST)


def size(text: str, default: Any = ...) -> Any:
    """A width, or a number of layers or heads."""
    return setting(default, text, least=1, most=WIDE)


def seed(text: str) -> Any:
    """A seed of numpy."""
    return setting(..., text, least=0, most=GREATEST_SEED)


def seeds(text: str) -> Any:
    """Several seeds."""
    return setting(..., text, least=0, most=GREATEST_SEED, fewest=1)


def alignment(text: str = "token alignment") -> Any:
    """A token alignment."""
    return setting(..., text, choices=TOKEN_ALIGNMENTS)


def rate(text: str) -> Any:
    """A positive number of at most 1."""
    return setting(..., text, above=0, most=1)


def training_block(name: str, text: str, *blocks: str, without: tuple[str, ...] = (), **more: Any) -> Any:
    """A dataclass of the fields of `TrainingConfig` that belong to some blocks of the config, and of `more`."""
    kinds = get_type_hints(TrainingConfig)
    part = [
        (item.name, kinds[item.name], field(default=item.default, metadata=item.metadata))
        for item in fields(TrainingConfig)
        if rule_of(item).block in blocks and item.name not in without
    ]
    added = [(key, type(value.default), value) for key, value in more.items()]
    # Without the module, its type hints cannot be resolved.
    space = {"__doc__": text, "__module__": __name__}
    return make_dataclass(name, [*part, *added], kw_only=True, frozen=True, namespace=space)


LIVE, STORED, TOGETHER = FROZEN = ("live", "stored", "together")
"""When the frozen models of a training run: in each step, once for all trainings, or in each step for several."""


def frozen_setting(text: str) -> Any:
    """How the frozen models are read."""
    return setting(LIVE, text, choices=FROZEN)


WORKFLOW_KEYS = ("retries", "frozen", "states_gb")
"""Keys of `training` that are no setting of a training: weights do not depend on them."""
FuserBlock = training_block("FuserBlock", "Sizes of each Fuser and the temperatures of its gates.", "fuser")
TrainingBlock = training_block(
    "TrainingBlock",
    "How fusers are trained.",
    "training",
    retries=setting(5, "attempts of a job that was cut off; each resumes from the last checkpoint", least=0, most=20),
    frozen=frozen_setting(
        "when the frozen models run: in each step, once for all trainings of a pair, or in each step for all of them"
    ),
    states_gb=setting(STATES_LIMIT_GB, "most GB that the stored states of a pair may take; more is refused", above=0),
)
RunTraining = training_block(
    "RunTraining",
    "Keys of `fuser` and `training`, except `retries`, `keep` and `states_gb`, with values for this entry's fusers\n"
    "alone; and one more key. Which weights are kept is one rule for all trainings of a scale, since their answers\n"
    "are compared.",
    *("fuser", "training", "run"),
    without=("keep",),
    frozen=frozen_setting("as in `training`, for these fusers alone"),
)
LatentTraining = training_block(
    "LatentTraining",
    "Keys of `fuser` and `training`, except `retries`, `keep` and `keep_steps`, with values for this latent space\n"
    "alone. `batch_size` must be a multiple of the number of its pairs.",
    *("fuser", "training"),
    without=("keep", "keep_steps"),
)


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """Fusers to train. An `adapter` needs a `c2c` of the same pair, alignment, seed and training: it is its control.

    What a pair learns from belongs to the pair: the same two models with another training set are another pair
    (`qwen3_from_qwen25_mmlu`), so that their records never mix.

    Of a pair with runs of several alignments, tables and claims show the main one where they name none: `span`, unless
    `main_alignment` of the pair in `paper/names.yaml` names another. `unaligned` must have a Sharer with an embedding
    for each token id of the Receiver; `c2c tokenise` refuses another, before anything is trained.
    """

    pair: str = an_id("id of `pairs.tsv`")
    recipe: str = an_id("id of `recipes.tsv`")
    alignment: str = alignment()
    seeds: tuple[int, ...] = seeds("seeds of the training, one training each")
    aside: bool = setting(
        False, "whether these fusers are left out of the timing and of the figures of gates and training"
    )
    released_prompts: bool = setting(
        False, "whether these fusers, and the pair's models alone, also answer with the released code's prompts"
    )
    same_answer: tuple[str, ...] = ids(
        "tasks on which `c2c_same_answer` answers too; their golds must be letters, values of the world, or your own",
        (),
    )
    training: RunTraining = setting(None, "settings of these fusers' training alone")  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class SingleEntry:
    """Receivers that are fine-tuned as a whole on the training set of a pair.

    Steps, batches, order and learning rate are those of the pair's `c2c` in `runs`.
    """

    pair: str = an_id("id of `pairs.tsv`; `runs` must have a `c2c` of it with this alignment and these seeds")
    alignment: str = alignment()
    seeds: tuple[int, ...] = seeds("seeds of the training")


@dataclass(frozen=True, kw_only=True)
class AgentsEntry:
    """Pairs that answer as two agents: the Sharer interprets, the Receiver solves.

    They answer the tasks whose file has `agents_question` and `agents_prompt`
    (`benchmarks/tasks/shared/agents.yaml`).
    """

    pair: str = an_id("id of `pairs.tsv`; `runs` must have a `c2c` of it with this alignment and seed")
    alignment: str = alignment()
    seed: int = seed("seed of that `c2c`")


@dataclass(frozen=True, kw_only=True)
class GroupEntry:
    """Several Sharers of one Receiver at once. Nothing more is trained for them."""

    group: str = an_id("id of `groups.tsv`; `runs` must have a `c2c` of each of its pairs")
    alignment: str = alignment()
    seeds: tuple[int, ...] = seeds("seeds of those `c2c`")


@dataclass(frozen=True, kw_only=True)
class LatentEntry:
    """Latent spaces: one cache that several models share. One job trains all encoders and decoders of a space.

    Each step has as many examples of every pair. Models and training sets are those of pairs in `runs`, where each
    Receiver must also answer alone. Several Sharers are fused in the first way that `fusions` of the group names.
    """

    latent: str = an_id("id of the latent space")
    groups: tuple[str, ...] = ids("ids of `groups.tsv`, one for each Receiver, with its Sharers", fewest=1)
    alignment: str = alignment()
    seeds: tuple[int, ...] = seeds("seeds of the training")
    layers: int = size("layers of the latent cache")
    heads: int = size("KV heads of the latent cache")
    head_dim: int = size("dimension of each of these heads")
    training: LatentTraining = setting(None, "settings of this space's training alone")  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class GenerationBlock:
    """How questions are answered in batches. Answers do not depend on it, ties apart."""

    token_budget: int = count("tokens of a batch: rows times the longest row, pads and answers included")
    compile: str = setting("none", "decoding: compiled steps, on a GPU as CUDA graphs", choices=COMPILED_STAGES)


@dataclass(frozen=True, kw_only=True)
class RouterBlock:
    """The router of `routing_trained`, which also routes benchmarks that it was not trained on."""

    questions: int = count("training questions of each benchmark that has a training split")


@dataclass(frozen=True, kw_only=True)
class TeacherBlock:
    """How a model writes the answers of a training set with source `teacher`. Unfinished answers are left out."""

    max_new_tokens: int = count("longest answer, in tokens")
    temperature: float = setting(..., "sampling temperature", above=0)
    top_p: float = rate("probability mass of the tokens that are sampled from")
    top_k: int = count("number of the tokens that are sampled from")
    seed: int = seed("seed of the sampling")


@dataclass(frozen=True, kw_only=True)
class LatencyBlock:
    """Timing of single questions. With `null` nothing is timed, and `artefacts` must not name any that show times."""

    benchmarks: tuple[str, ...] = ids(
        "tasks of `benchmarks`; a pair is timed on those that it answers, and claims about time are of the first",
        fewest=1,
    )
    methods: tuple[str, ...] = setting(..., "methods to time", choices=TIMED_METHODS, fewest=1)
    recipes: tuple[str, ...] = ids(
        "recipes other than `c2c` whose fusers are timed, of the pairs that are timed and have them", ()
    )
    questions: int = count("questions to time, the first of each benchmark")
    repeats: int = count("times that each question is answered")
    threads: int = setting(
        ..., "threads of torch; 0: torch's own number. Tiny models are slower with more than one", least=0, most=4096
    )


@dataclass(frozen=True, kw_only=True)
class ArtefactsBlock:
    """Tables and figures that a run makes; the ids are those of `paper/artefacts.yaml`."""

    tables: tuple[str, ...] = ids("ids of tables")
    figures: tuple[str, ...] = ids("ids of figures")
    paper: bool = setting(..., "whether the PDF is made")


@dataclass(frozen=True, kw_only=True)
class FusedAnalysisBlock:
    """The fusers and the benchmark of an analysis."""

    pair: str = an_id("pair of a run")
    recipe: str = an_id("recipe of that run")
    alignment: str = alignment("token alignment of that run")
    seed: int = seed("seed of that run")
    benchmark: str = an_id("one of `benchmarks`")


@dataclass(frozen=True, kw_only=True)
class EffectiveRankBlock(FusedAnalysisBlock):
    """Effective rank of caches before and after fusion."""

    questions: int | None = count("questions, those with the lowest hash; `null`: all", least=2)


@dataclass(frozen=True, kw_only=True)
class EnrichmentBlock:
    """The enrichment oracle: a question's cache is computed after few-shot examples, which are then dropped from it."""

    pair: str = an_id("id of `pairs.tsv`")
    role: str = setting(..., "which model of the pair answers", choices=("receiver", "sharer"))
    benchmark: str = an_id("one of `benchmarks`")
    questions: int | None = count("questions, those with the lowest hash; `null`: all", least=2)
    examples: str = an_id(
        "benchmark whose training split gives the examples; in the world, entities that Receivers know"
    )
    shots: int = count("examples before each question")
    most: int = count("greatest K of the K best and the K worst layers")


@dataclass(frozen=True, kw_only=True)
class TsneBlock(FusedAnalysisBlock):
    """t-SNE of caches, and an MLP that maps the Sharer's cache to the Receiver's."""

    questions: int = count("questions, those with the lowest hash", least=2)
    training_questions: int = count("questions on which the MLP is trained", least=2)
    perplexity: float = setting(..., "perplexity of t-SNE", above=0)
    iterations: int = count("iterations of t-SNE", least=250)
    hidden: int = size("width of the MLP")
    steps: int = count("training steps of the MLP")
    learning_rate: float = rate("learning rate of the MLP")


@dataclass(frozen=True, kw_only=True)
class PartialBlock(FusedAnalysisBlock):
    """Accuracy by the share of a prompt's tokens that are fused (progressive fusion)."""

    questions: int | None = count("questions, those with the lowest hash; `null`: all", least=2)
    shares: tuple[float, ...] = setting(..., "shares of the tokens that are fused", least=0, most=1, fewest=2)


@dataclass(frozen=True, kw_only=True)
class AnalysisBlock:
    """Analyses of caches; `null` leaves one out, and `analysis: null` all of them."""

    effective_rank: EffectiveRankBlock | None = setting(..., "effective rank of caches")
    enrichment: EnrichmentBlock | None = setting(..., "oracle of cache enrichment")
    tsne: TsneBlock | None = setting(..., "t-SNE of caches")
    partial: PartialBlock | None = setting(..., "progressive fusion")


@dataclass(frozen=True, kw_only=True)
class PrivateSizes:
    """Sizes of one private benchmark. The number of words or operands limits the training examples."""

    test: int = setting(..., "test questions", least=4)
    train: int = count("training examples, at most")
    validation: int = setting(..., "validation examples", least=4)


@dataclass(frozen=True, kw_only=True)
class PrivateBlock:
    """The private benchmarks, on which the Sharer alone can know the answer; `benchmarks.private` makes them."""

    seed: int = seed("seed of splits and facts")
    private_line: PrivateSizes = setting(..., "sizes of the private line")
    words: PrivateSizes = setting(..., "sizes of the private words")
    skill: PrivateSizes = setting(..., "sizes of the arithmetic skill")


@dataclass(frozen=True, kw_only=True)
class BedTask:
    """Items of one task of the test bed: one that `c2c.testbed.tasks` makes, or a benchmark's id and scoring.

    The training and validation questions of a benchmark are those of the pair's training set.
    """

    test: int = setting(..., "test items", least=4)
    train: int = count("training items")
    validation: int = setting(..., "validation items, of other persons and values than both", least=4)
    texts_of_a_head: int | None = setting(
        None, "training texts that differ in their values alone; not of a benchmark", least=1
    )


@dataclass(frozen=True, kw_only=True)
class BedEntry:
    """A pair through some channels: one job a task and seed."""

    pair: str = an_id("id of `pairs.tsv`")
    tasks: tuple[str, ...] = ids("tasks of the test bed, of `tasks`", fewest=1)
    channels: tuple[str, ...] = ids("registered channels (`c2c.testbed.registry`)", fewest=1)
    seeds: tuple[int, ...] = seeds("seeds of items, trainings and controls")
    settings: dict[str, dict[str, Any]] = setting(
        None, "settings of its channels that differ from those of the block, by channel", pattern=ID
    )


@dataclass(frozen=True, kw_only=True)
class BedBlock:
    """Questions on which a message is possible, needed and bounded, and the channels that send it (`docs/testbed.md`).

    `settings` replaces settings of a channel: `{c2c: {steps: 50}}`.
    """

    margin: float = setting(..., "points within which an accuracy counts as equal", above=0, most=100)
    tasks: dict[str, BedTask] = setting(..., "sizes of the tasks by their ids", pattern=ID, fewest=1)
    entries: tuple[BedEntry, ...] = setting(..., "pairs with their tasks, channels and seeds", fewest=1)
    tables: tuple[str, ...] = ids("ids of its tables, which join those of `artefacts`", ())
    figures: tuple[str, ...] = ids("ids of its figures, which join those of `artefacts`", ())
    settings: dict[str, dict[str, Any]] = setting(None, "settings of channels that differ, by channel", pattern=ID)


@dataclass(frozen=True, kw_only=True)
class PretrainingBlock:
    """How the models of the knowledge-gap world are pretrained."""

    hidden: int = size("hidden size, a multiple of 8")
    layers: int = size("layers")
    steps: int = count("optimiser steps")
    batch_size: int = count("examples a step")
    learning_rate: float = rate("peak learning rate")
    embedding_rate: float = setting(8.0, "factor of the learning rate of embeddings", above=0)
    warmup_ratio: float = setting(0.05, "share of the steps in which the learning rate rises", least=0, below=1)
    weight_decay: float = setting(
        1.0, "weight decay; strong, so that facts about all names are stored in one form", least=0
    )
    seed: int = seed("seed of the pretraining")


@dataclass(frozen=True, kw_only=True)
class WorldModelBlock:
    """A model of the knowledge-gap world, by its id. The defaults of its keys are the values in `pretraining`."""

    architecture: str = setting(..., "family", choices=("qwen3", "llama"))
    tokenizer: str = setting(..., "`split` cuts the names of entities into several tokens", choices=("word", "split"))
    knows: str = setting(
        ...,
        "facts of which entities; a half has every second entity",
        choices=("all", "quarter", "first_half", "second_half"),
    )
    hidden: int = size("hidden size of this model", None)
    layers: int = size("layers of this model", None)
    steps: int = count("optimiser steps of this model", None)


@dataclass(frozen=True, kw_only=True)
class WorldBlock:
    """The knowledge-gap world: entities, their attributes, and models that know some of the facts."""

    entities: int = setting(..., "entities, a multiple of 16", least=16)
    attributes: int = count("attributes of each entity, at most 6")
    values: int = setting(..., "values of each attribute, 4 to 16", least=4)
    seed: int = seed("seed of the facts")
    pretraining: PretrainingBlock = setting(..., "how its models are pretrained")
    models: dict[str, WorldModelBlock] = setting(..., "its models by their ids", pattern=ID, fewest=1)


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """A whole config: ``config/config.yaml`` with the files of a scale merged over it."""

    scale: str = an_id("name of the run: its folder below `results/`, and a column of every record")
    gpus_per_job: int = setting(
        ..., "GPUs of each job with a model; a training starts a process for each; 0: CPU", least=0, most=8
    )
    warm_start: bool = setting(
        False,
        "whether jobs on this machine's CPU start from one process that has imported torch, each as a child of it; "
        'without it each imports torch anew (docs/replication.md, "The warm process")',
    )
    dtype: str = setting(
        ..., "precision of the models; Fusers are trained and stored in float32", choices=("float32", "bfloat16")
    )
    unpinned: bool = setting(
        False, "whether mirrors without history and rows without a commit are accepted; such a run cannot be cited"
    )
    lean: bool = setting(
        False, "whether each training has the first of its seeds alone; `c2c plan` prints the hours of both"
    )
    protocol: str = setting(
        ...,
        "evaluation; `paper` repeats quirks of the reference (`c2c/evaluation/protocol.py`); `released` its prompts, "
        "lengths of answers and training targets too",
        choices=("corrected", "paper", "released"),
    )
    benchmarks: tuple[str, ...] = ids(
        "tasks: folders of `benchmarks/tasks`, with a scoring (`arc_easy_text`) where there are several",
        fewest=1,
    )
    benchmark_folders: tuple[str, ...] = setting(
        (),
        "folders of further benchmarks, such as your own (`docs/guides/your-own-benchmark.md`)",
    )
    sample: int | None = setting(
        ..., "questions of each benchmark, those with the lowest SHA-256 of `<benchmark>/<id>`; `null`: all", least=2
    )
    context_limit: int | None = setting(
        ..., "characters of a question's long text; the middle of a longer one is cut; `null`: no limit", least=100
    )
    failed_share: float = setting(
        ..., "largest share of failed questions of a method and benchmark; scoring refuses more", least=0, most=1
    )
    baselines: tuple[str, ...] = setting(..., "methods without a Fuser", choices=BASELINE_METHODS, fewest=1)
    runs: tuple[RunEntry, ...] = setting(..., "fusers to train", fewest=1)
    single: tuple[SingleEntry, ...] = setting((), "Receivers to fine-tune as a whole")
    agents: tuple[AgentsEntry, ...] = setting((), "pairs that answer as two agents")
    released: tuple[str, ...] = ids("ids of `released.tsv`: released fusers, which are used as they are", ())
    groups: tuple[GroupEntry, ...] = setting((), "several Sharers at once")
    latent: tuple[LatentEntry, ...] = setting((), "latent spaces to train")
    fuser: FuserBlock = setting(..., "sizes of each Fuser and its gates")  # type: ignore[valid-type]
    training: TrainingBlock = setting(..., "how fusers are trained")  # type: ignore[valid-type]
    generation: GenerationBlock = setting(..., "batches of questions")
    router: RouterBlock = setting(..., "the router of `routing_trained`")
    teacher: TeacherBlock = setting(..., "sampling of a training set's answers")
    latency: LatencyBlock | None = setting(..., "timing of single questions")
    artefacts: ArtefactsBlock = setting(..., "tables and figures that are made")
    analysis: AnalysisBlock | None = setting(..., "analyses of caches")
    gap: PrivateBlock = setting(..., "the private benchmarks")
    testbed: BedBlock | None = setting(None, "the test bed of channels; `null` leaves it out")
    world: WorldBlock = setting(None, "the knowledge-gap world, for scales that use it")


def training_defaults() -> dict[str, Any]:
    """Settings of `fuser` and `training` where a config has none, without `WORKFLOW_KEYS`."""
    blocks = [item for block in (FuserBlock, TrainingBlock) for item in fields(block)]
    return {item.name: as_json(item.default) for item in blocks if item.name not in WORKFLOW_KEYS}


def check_training(place: str, values: Mapping[str, Any], processes: int = 1) -> None:
    """Check the settings of one training against each other, by the rules of `TrainingConfig`.

    Args:
        place: What is trained, for the message: ``The training of gap_a/c2c/span/seed0``.
        values: Settings of the training; others in it are ignored.
        processes: Processes that share each batch.

    Raises:
        RefusedError: At the first rule that does not hold.
    """
    try:
        config = from_mapping(TrainingConfig, values)
        config.check_processes(processes)
        config.check_intervals()
    except RefusedError as refusal:
        raise RefusedError(f"{place}: {refusal.rule}", refusal.received, refusal.remedy) from None
