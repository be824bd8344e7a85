"""The command `c2c`: thin sub-commands that read flags, call the library and write files with their provenance."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from c2c import __version__
from c2c.cli.commands import Command, Group, Runnable, Table, parse
from c2c.errors import exit_code

PAIR = "--receiver RECEIVER --sharer SHARER"
ANALYSIS = f"--scale laptop --pair my_pair {PAIR} --tasks tasks --benchmark arc=arc.jsonl --questions 100"
TRAINED = "--fuser fusers --recipe c2c --alignment span --seed 42"

COMMANDS: Table = {
    "doctor": Command("examine this machine", "c2c.cli.machine:Doctor", "c2c doctor --json"),
    "check": Command(
        "whether two models can be connected, and what that needs",
        "c2c.cli.pairs:Check",
        "c2c check --receiver Qwen/Qwen3-0.6B --sharer Qwen/Qwen2.5-0.5B-Instruct",
    ),
    "plan": Command(
        "what a pair, or a run of the whole replication, would cost",
        "c2c.cli.pairs:Plan",
        "c2c plan --receiver Qwen/Qwen3-0.6B --sharer Qwen/Qwen2.5-0.5B-Instruct --device h100 --dtype bfloat16",
    ),
    "fusers": Command("the released fusers, and what they need", "c2c.cli.fusers:Fusers", "c2c fusers --json"),
    "fuser": Group(
        "inspect, convert or publish a folder of fusers",
        {
            "inspect": Command(
                "shapes, gates, contract and training of fusers",
                "c2c.cli.fusers:FuserInspect",
                "c2c fuser inspect fusers",
            ),
            "convert": Command(
                "convert between the released layout and a checkpoint",
                "c2c.cli.fusers:FuserConvert",
                f"c2c fuser convert released checkpoint {PAIR}",
            ),
            "push": Command(
                "publish a checkpoint on the hub, with its card",
                "c2c.cli.fusers:FuserPush",
                "c2c fuser push fusers --to owner/name",
            ),
        },
    ),
    "chat": Command(
        "talk with a Receiver that reads along with a Sharer",
        "c2c.cli.chat:Chat",
        f"c2c chat {PAIR} --fuser fusers --message 'Where is Oslo?'",
    ),
    "demo": Command(
        "open a page on which a pair answers with and without messages",
        "c2c.cli.demo:Demo",
        "c2c demo --results results/smoke",
    ),
    "fetch": Command(
        "fetch a model from a mirror or the hub and write its manifest",
        "c2c.cli.fetching:Fetch",
        "c2c fetch --model Qwen/Qwen3-0.6B --output models/qwen3.json",
    ),
    "fetch-fuser": Command(
        "fetch released fusers and write their manifest",
        "c2c.cli.fetching:FetchFuser",
        "c2c fetch-fuser --fuser nics-efc/C2C_Fuser --subfolder qwen3_0.6b+qwen2.5_0.5b_Fuser --output fusers.json",
    ),
    "tokenise": Command(
        "align and tokenise a training set once for a pair",
        "c2c.cli.training:Tokenise",
        f"c2c tokenise {PAIR} --data train.jsonl --output train.parquet",
    ),
    "store-states": Command(
        "run the frozen models once over training sets",
        "c2c.cli.training:StoreStates",
        f"c2c store-states {PAIR} --tokenised train.parquet validation.parquet --output states",
    ),
    "train": Command(
        "train the Fusers of one pair",
        "c2c.cli.training:Train",
        f"c2c train {PAIR} --data train.jsonl --validation validation.jsonl --checkpoints states --output fusers",
    ),
    "train-together": Command(
        "train several Fusers of one pair in one job, on the same batches",
        "c2c.cli.training:TrainTogether",
        f"c2c train-together {PAIR} --tokenised train.parquet validation.parquet --checkpoints states "
        """--runs '{"recipe": "c2c", "output": "fusers", "seed": 0}'""",
    ),
    "train-single": Command(
        "fine-tune the Receiver itself on a Fuser's training set",
        "c2c.cli.training:TrainSingle",
        f"c2c train-single {PAIR} --tokenised train.parquet validation.parquet "
        "--checkpoints states --output single.json",
    ),
    "train-latent": Command(
        "train encoders and decoders of a latent space that several models share (Table 14)",
        "c2c.cli.training:TrainLatent",
        "c2c train-latent --pairs ab ba --receivers A B --sharers B A --train ab.parquet ba.parquet "
        "--validation ab_val.parquet ba_val.parquet --latent-layers 8 --latent-heads 4 --latent-head-dim 64 "
        "--checkpoints states --output latent",
    ),
    "train-router": Command(
        "train the router of routing_trained from answered questions",
        "c2c.cli.answering:TrainRouter",
        "c2c train-router --receiver RECEIVER --records answers.parquet --tasks tasks --benchmarks arc=arc.jsonl "
        "--output router",
    ),
    "generate": Command(
        "answer benchmarks by methods, one record a question and method",
        "c2c.cli.answering:Generate",
        f"c2c generate --scale laptop --pair my_pair {PAIR} --fuser fusers --tasks tasks --benchmarks arc=arc.jsonl "
        "--methods receiver c2c c2c_deranged --output records.parquet",
    ),
    "score": Command(
        "score records",
        "c2c.cli.answering:Score",
        "c2c score --records records.parquet --output scores.csv",
    ),
    "latency": Command(
        "time methods one question at a time, split into phases",
        "c2c.cli.answering:Latency",
        f"c2c latency --scale laptop --pair my_pair {PAIR} --fuser fusers --tasks tasks --benchmarks arc=arc.jsonl "
        "--methods receiver t2t c2c --output times.parquet",
    ),
    "analyse": Group(
        "what caches hold, and what they are worth: one analysis a kind",
        {
            "effective-rank": Command(
                "effective rank of keys and values by layer and cache",
                "c2c.cli.analyses:EffectiveRank",
                f"c2c analyse effective-rank {ANALYSIS} {TRAINED} --output ranks.csv",
            ),
            "enrichment": Command(
                "answers from a cache that was made behind examples",
                "c2c.cli.analyses:EnrichmentCommand",
                f"c2c analyse enrichment {ANALYSIS} --examples examples.jsonl --shots 5 --orders orders.csv "
                "--output records.parquet",
            ),
            "tsne": Command(
                "where the caches of questions lie, and what a trained MLP makes of them",
                "c2c.cli.analyses:Tsne",
                f"c2c analyse tsne {ANALYSIS} {TRAINED} --training-questions 100 "
                "--clouds clouds.csv --output points.csv",
            ),
            "partial": Command(
                "answers with a share of each prompt's tokens fused",
                "c2c.cli.analyses:Partial",
                f"c2c analyse partial {ANALYSIS} {TRAINED} --shares 0 0.5 1 --output records.parquet",
            ),
            "carrier": Command(
                "which tokens can carry a value, before any training",
                "c2c.cli.analyses:Carrier",
                f"c2c analyse carrier {PAIR} --items train.jsonl",
            ),
            "accuracy": Command(
                "accuracies by method and setting, from records of an analysis",
                "c2c.cli.analyses:Accuracy",
                "c2c analyse accuracy --records records.parquet --against receiver --output accuracies.csv",
            ),
        },
    ),
    "experiment": Command(
        "measure one pair with all controls, and write a report",
        "c2c.cli.experiment:ExperimentCommand",
        "c2c experiment --example --output experiment",
    ),
    "testbed": Command(
        "send messages through channels, with all controls",
        "c2c.cli.testbed:TestBed",
        f"c2c testbed --scale laptop --pair my_pair --seed 0 {PAIR} --items items --channels c2c t2t "
        "--output records.parquet",
    ),
    "hand-over": Command(
        "let agents hand their caches to another one, which answers",
        "c2c.cli.messages:HandOverCommand",
        "c2c hand-over --receiver ann=MODEL --senders bob=MODEL --facts bob=facts.txt --fusers bob=fusers "
        "--question 'Where is the key?'",
    ),
    "check-cache": Command(
        "check a saved cache: whole, signed with a key, of the right model",
        "c2c.cli.messages:CheckCache",
        "c2c check-cache messages/bob --key env:C2C_KEY",
    ),
    "claims": Command(
        "the paper's claims and tables: its values, ours, verdicts, commands",
        "c2c.cli.repository:Claims",
        "c2c claims show table4",
    ),
    "completion": Command(
        "print the completion of commands and flags for a shell",
        "c2c.cli.completion:Completion",
        "c2c completion bash",
    ),
}
"""Each command: one line of help, the dataclass of its flags, an example. A new command is a row here."""


def parse_command(arguments: Sequence[str]) -> tuple[str, Runnable]:
    """The name of a command and the command with its flags; raises as `c2c.cli.commands.parse`."""
    return parse(COMMANDS, arguments, "c2c", f"c2c {__version__}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (`c2c.errors.exit_code`)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    program, argv = " ".join(["c2c", *(word for word in words[:1] if word in COMMANDS)]), sys.argv
    # Processes that train along are started with the arguments of this one.
    sys.argv = [argv[0], *words]
    try:
        return exit_code(program, lambda: parse_command(words)[1].run())
    finally:
        sys.argv = argv
