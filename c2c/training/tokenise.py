"""``c2c tokenise``: align and tokenise a training set once for a pair, for all of its recipes and seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from c2c.errors import RefusedError, check_choice
from c2c.models import hub
from c2c.models.loading import load_tokenizer, model_name
from c2c.models.model_folder import read_config
from c2c.models.pair import check_embeddings
from c2c.training.examples import Examples, read_lines
from c2c.training.tokenised_set import identity, write_tokenised
from c2c.types import PROMPTS, TOKEN_ALIGNMENTS, UNALIGNED


@dataclass(frozen=True, kw_only=True)
class TokeniseRun:
    """What one call of ``c2c tokenise`` makes; no model is loaded, only tokenizers.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        alignment: Token alignment.
        prompts: ``plain`` or ``chat``.
        max_length: Most tokens of the Receiver in an example.
        data: Training set (JSON lines).
        output: Parquet file.

    Raises:
        RefusedError: If a name is unknown or `max_length` is not positive.
    """

    receiver: str
    sharer: str
    alignment: str = "span"
    prompts: str = "plain"
    max_length: int = 2048
    data: Path
    output: Path

    def __post_init__(self) -> None:
        check_choice("--alignment", self.alignment, TOKEN_ALIGNMENTS)
        check_choice("--prompts", self.prompts, PROMPTS)
        if self.max_length < 1:
            raise RefusedError("max_length must be at least 1", self.max_length, "Raise --max-length")

    def settings(self) -> dict[str, Any]:
        """All but the files, as JSON has them."""
        return {name: value for name, value in asdict(self).items() if name not in ("data", "output")}


def tokenise_file(run: TokeniseRun) -> dict[str, Any]:
    """Align and tokenise all lines of a training set, and write those that fit.

    Returns:
        What provenance should know: lines read, examples kept, and how many were left out and why.

    Raises:
        RefusedError: If an input is missing or does not fit, or no line can be used.
    """
    rows = read_lines(run.data)
    folders = [hub.resolve(model) for model in (run.receiver, run.sharer)]
    receiver, sharer = map(load_tokenizer, folders)
    if run.alignment == UNALIGNED:
        check_embeddings(run.alignment, receiver, read_config(folders[1]))
    examples = Examples(receiver, sharer, run.alignment, run.prompts, run.max_length)
    notes: dict[str, Any] = {
        "receiver": model_name(run.receiver),
        "sharer": model_name(run.sharer),
        "lines": len(rows),
        "left_out": examples.left_out,
    }
    made_for = identity(receiver, sharer, run.alignment, run.prompts, run.max_length)
    bar = tqdm(rows, desc=f"tokenise {run.data.name}", unit="line", mininterval=1.0)
    write_tokenised(run.output, examples.of(bar), made_for, notes)
    return {**notes, "left_out": dict(examples.left_out), "kept": len(rows) - sum(examples.left_out.values())}
