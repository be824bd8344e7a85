"""Train the fusers of a pair: only they learn, from the Receiver's loss on the response (paper §3.3).

See also ``docs/reference-behaviour.md``, "Training".
"""

from __future__ import annotations

import copy
import shutil
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from accelerate.utils import set_seed
from torch import Tensor

from c2c.alignment.derangement import derange
from c2c.alignment.layers import align_layers
from c2c.alignment.tokens import with_reading_of
from c2c.checkpoints.checkpoint import save_stack, write_stack
from c2c.checkpoints.checkpoint_folder import FILES, PART
from c2c.errors import RefusedError
from c2c.fuser.ridge import RidgeFit, RidgeStack
from c2c.fuser.stack import FuserStack
from c2c.models.contract import ContractCheck
from c2c.models.loading import load_model, load_without_weights, model_state
from c2c.models.pair import Pair, check_embeddings, load_pair
from c2c.rosetta import RosettaModel
from c2c.storage.folders import exchange
from c2c.training import state
from c2c.training.batches import Batch, collate
from c2c.training.config import TrainingConfig
from c2c.training.examples import Example, Examples, read_lines
from c2c.training.gates import gate_table
from c2c.training.learner import Learner
from c2c.training.loss import response_loss
from c2c.training.processes import Processes
from c2c.training.run import HISTORY, ORDER_FILE, LearningRun, best_step, cost, final_losses, fuser_labels, order_table
from c2c.training.stored_states import INDEX, RUN_LIVE, StatesIdentity, StoredStates
from c2c.training.tokenised_set import TokenisedSet, identity

COLUMNS = (
    "step", "loss", "learning_rate", "temperature", "gradient_norm", "validation_loss", "validation_deranged_loss",
    "open_gates", "padding",
)  # fmt: skip
GATES = "gates.csv"
GATE_EXAMPLES = 128
FITTED_TOGETHER = 8
"""Examples of a pass in which a closed form is fitted."""


class FrozenStates(Protocol):
    """Gives what the frozen models hold of a batch, so that they do not read it in each step."""

    def fill(self, batch: Batch, examples: Sequence[Example], device: torch.device) -> Batch:
        """The batch with the Receiver's `prefix` and, unless it is zeroed, the Sharer's `layers`."""

    def cost(self, progress: state.Progress) -> dict[str, Any]:
        """What provenance states of passes that several runs share, by a training's progress at its end."""


class FusionLearner(Learner):
    """Training of modules with gates, and its validation where each Sharer reads another example's prompt."""

    columns = COLUMNS

    @property
    @abstractmethod
    def gated_stacks(self) -> Sequence[FuserStack]:
        """The stacks whose gates learn."""

    @abstractmethod
    def deranged_validation(self) -> Any:
        """The validation set with deranged readings; empty where there is none."""

    def configure(self, stack: FuserStack) -> FuserStack:
        """Set the precision and the memory of a stack's training."""
        stack.autocast = None if self.config.autocast == "none" else getattr(torch, self.config.autocast)
        stack.recompute = self.config.recompute == "fusers"
        stack.grouping = self.config.grouping
        return stack

    def _step(self, step: int, indices: Sequence[int]) -> tuple[dict[str, Any], int]:
        """Learn from one batch; the row has the temperature of this step and the share of gates open after it."""
        row, tokens = super()._step(step, indices)
        for stack in self.gated_stacks:
            stack.anneal(step)
        # Of this step; `anneal` has set that of the next one. Rounded as the Fusers hold it, which is on the device.
        gated_fuser = next((fuser for stack in self.gated_stacks for fuser in stack.all_fusers() if fuser.gated), None)
        temperature = None if gated_fuser is None else float(np.float32(gated_fuser.temperature_at(step - 1)))
        open_gates = torch.stack([stack.open_share_on_device() for stack in self.gated_stacks]).mean()
        return {**row, "temperature": temperature, "open_gates": open_gates}, tokens

    def _validate(self, progress: state.Progress) -> None:
        """Add the loss with deranged readings, where there are any."""
        super()._validate(progress)
        if examples := self.deranged_validation():
            progress.history[-1]["validation_deranged_loss"] = self.loss_on(examples)


@dataclass
class FuserLearner(FusionLearner):
    """Training of the fusers between two frozen models, or the part of it that one of several processes does.

    Args:
        pair: The Receiver and the Sharer.
        config: All settings.
        training: Examples to learn from.
        validation: Examples to watch the loss on; nothing is chosen on any others.
        checkpoints: Folder for resumable states of exactly this run; removed when the run ends.
        states: States of both models for all examples; the models read them themselves if None.

    Raises:
        RefusedError: If a batch has fewer examples than there are processes.
    """

    pair: Pair
    config: TrainingConfig
    training: Sequence[Example]
    validation: Sequence[Example]
    checkpoints: Path
    states: FrozenStates | None = None

    def __post_init__(self) -> None:
        # The seed comes first: initial weights are the first draws.
        set_seed(self.config.seed)
        receiver, sharer = self.pair.receiver.model, self.pair.sharer.model
        # Fusers are made on the CPU after the models are loaded, as the reference draws their weights.
        stack = FuserStack.between(
            sharer.config, receiver.config, layer_alignment=self.config.layer_alignment, **self.config.fuser()
        )
        if self.config.output_init in ("zero", "ridge"):
            for layer in stack.links:
                stack.fuser_of(layer).zero_output()
        if self.config.output_init == "ridge":
            stack = RidgeStack(stack)
        self.configure(stack)
        self.processes = Processes.of_this_run()
        self.config.check_processes(self.processes.count)
        # Models on the device of this process; `of_stacks` freezes them.
        frozen: list[Any] = [receiver, sharer]
        for model in frozen:
            if model.device.type != "meta":
                model.to(self.processes.device)
        fuses_response = self.config.response == "fused"
        self.model: RosettaModel = RosettaModel.of_stacks(receiver, [sharer], [stack], include_response=fuses_response)
        self.reencode = self.pair.chat_aligner(self.config.alignment).reencode if fuses_response else None
        self.stack: FuserStack = self.prepare(stack)
        self.ridge = self._fit_base(self.stack) if isinstance(self.stack, RidgeStack) else None

    @torch.no_grad()
    def _fit_base(self, stack: RidgeStack) -> dict[str, Any]:
        """Fit the closed form on evenly spaced training examples, the same in every process and at every start.

        Raises:
            RefusedError: As `c2c.fuser.ridge.RidgeFit.solve`.
        """
        count, most = len(self.training), self.config.ridge_examples
        numbers = range(0, count, -(-count // most))
        self.model.eval()
        with RidgeFit(stack) as fit:
            for start in range(0, len(numbers), FITTED_TOGETHER):
                self._loss(self.collate([self.training[number] for number in numbers[start : start + FITTED_TOGETHER]]))
        return {"examples": len(numbers), **fit.solve()}

    def run(self) -> tuple[FuserStack, pd.DataFrame]:
        """Train to the end, from the last checkpoint if there is one.

        Returns:
            The FuserStack in eval mode, with the weights that the config keeps, and one row a step: COLUMNS.
            `validation_loss` (and `validation_deranged_loss`, where the Sharer reads anything) is there at steps with
            an evaluation; `padding` is the share of pads in the batch.
        """
        history = self.learn()
        return self.stack, history

    @property
    def gated_stacks(self) -> Sequence[FuserStack]:
        """The one stack."""
        return [self.stack]

    def deranged_validation(self) -> list[Example]:
        """The validation set with deranged readings; see `deranged_examples`."""
        return self.deranged

    @cached_property
    def deranged(self) -> list[Example]:
        """The same, made once."""
        return deranged_examples(self.validation, self.config, self.processes)

    def stack_at(self, step: int) -> FuserStack:
        """The fusers after one of `keep_steps`, in eval mode; a copy of the stack."""
        stack = copy.deepcopy(self.stack).eval()
        stack.load_state_dict(state.load_weights(self.checkpoints, step, self.progress.kept[str(step)]))
        return stack

    def collate(self, examples: Sequence[Example]) -> Batch:
        """A batch with this pair's pads, and with zeros for the Sharer's cache where the recipe has it so."""
        zeroed = self.config.sharer_cache == "zeroed"
        batch = collate(examples, self.pair, zeroed=zeroed, reencode=self.reencode)
        return batch if self.states is None else self.states.fill(batch, examples, self.processes.device)

    @property
    def prefetches(self) -> bool:
        """As any learner; states that frozen models read or that are moved are got by this thread alone."""
        return super().prefetches and self.states is None

    def _loss(self, batch: Batch) -> Tensor:
        return response_loss(self.model, batch, self.accelerator.device)


def deranged_examples(examples: Sequence[Example], config: TrainingConfig, processes: Processes) -> list[Example]:
    """Examples in each of which the Sharer reads another example's prompt.

    Returns:
        None of them where the Sharer reads nothing, or where there are too few responses to exchange.
    """
    if config.sharer_cache == "zeroed":
        return []
    # A prompt of which nothing is fused has no reading to exchange.
    examples = [example for example in examples if any(place >= 0 for place in example.prompt.token_map)]
    # Prompts of similar length are exchanged; the response stands for the gold answer.
    sizes = [len(example.prompt.receiver_ids) for example in examples]
    try:
        donors = derange(sizes, [str(example.response_ids) for example in examples], config.seed)
    except RefusedError as error:
        if processes.is_first:
            print(f"no validation loss with deranged prompts of the Sharer: {error}", file=sys.stderr)
        return []
    return [
        example._replace(prompt=with_reading_of(example.prompt, examples[donor].prompt))
        for example, donor in zip(examples, donors, strict=True)
    ]


class TrainingInputs(NamedTuple):
    """Models and sets of a training, as they are loaded; `left_out` counts lines by set and reason."""

    pair: Pair
    training: Sequence[Example]
    validation: Sequence[Example]
    left_out: Mapping[str, Mapping[str, int]]
    states: FrozenStates | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingRun(LearningRun[FuserLearner]):
    """One call of ``c2c train``.

    Args:
        receiver: Where the Receiver is.
        sharer: Where the Sharer is.
        recipe: Name that the checkpoint carries.
        config: All settings.
        data: Training set, JSON lines; it is tokenised before the training.
        validation: Validation set, the same format.
        tokenised: Instead of the two: training and validation set as ``c2c tokenise`` wrote them.
        states: Folder of ``c2c store-states`` of both sets, read in place of running the frozen models.
        checkpoints: Folder for resumable states; each run has a folder of its own in it, named by its settings.
        kept: Folder for the fusers of the steps that the config keeps, a checkpoint each, ``step<step>``; by default
            the output's path with ``.steps`` appended.
        output: Folder for ``config.json``, ``model.safetensors``, ``manifest.json``, ``history.csv``, ``gates.csv`` and
            ``order.parquet``, the ids of the examples of each step.

    Raises:
        RefusedError: If there are no training and validation set, or two of them, or the response is fused, whose
            states are not stored.
    """

    receiver: str
    sharer: str
    recipe: str
    data: Path | None = None
    validation: Path | None = None
    tokenised: Sequence[Path] = ()
    states: Path | None = None
    kept: Path | None = None

    def __post_init__(self) -> None:
        lines = [path for path in (self.data, self.validation) if path is not None]
        if sorted((len(lines), len(self.tokenised))) != [0, 2]:
            raise RefusedError(
                "Training must have a training and a validation set",
                f"{len(lines)} of JSON lines, {len(self.tokenised)} tokenised",
                "Pass --data and --validation, or both files to --tokenised",
            )
        if self.states and self.config.response == "fused":
            rule = "A training from stored states must leave the response as the Receiver reads it"
            raise RefusedError(rule, "response fused", f"Drop --response. {RUN_LIVE}")

    def models(self) -> list[str]:
        """Receiver and Sharer."""
        return [self.receiver, self.sharer]

    def sets(self) -> list[Path]:
        """Training and validation set, and the index of stored states, which has the hashes of all of them."""
        index = self.states / INDEX if self.states else None
        return [path for path in (self.data, self.validation, *self.tokenised, index) if path is not None]

    def settings(self) -> dict[str, Any]:
        """Recipe, models and all settings, as JSON has them."""
        return {"recipe": self.recipe, "receiver": self.receiver, "sharer": self.sharer, **self.config.to_dict()}

    def learner(self, checkpoints: Path) -> FuserLearner:
        """The fusers of the pair, with the examples of both sets.

        Raises:
            RefusedError: As `inputs`.
        """
        return self.learner_of(self.inputs(), checkpoints)

    def learner_of(self, inputs: TrainingInputs, checkpoints: Path) -> FuserLearner:
        """The fusers of models and sets that are loaded."""
        validation = inputs.validation[: self.config.validation_limit or None]
        learner = FuserLearner(inputs.pair, self.config, inputs.training, validation, checkpoints, inputs.states)
        learner.left_out = inputs.left_out
        return learner

    def inputs(self) -> TrainingInputs:
        """Load the models, the examples of both sets, and their states where these are stored.

        Raises:
            RefusedError: If an input is missing, or a set was tokenised for other models or settings.
        """
        config, lines = self.config, [read_lines(path) for path in (self.data, self.validation) if path is not None]
        token_sets = [TokenisedSet(path) for path in self.tokenised]
        states = StoredStates(self.states) if self.states else None
        if states is None:
            pair = load_pair(self.receiver, self.sharer, config.dtype)
        else:
            sharer = load_without_weights(self.sharer, states.about["sharer"])
            pair = Pair(load_model(self.receiver, config.dtype), sharer)
        check_embeddings(config.alignment, pair.receiver.tokenizer, pair.sharer.model.config)
        tokenizers = (pair.receiver.tokenizer, pair.sharer.tokenizer)
        for token_set in token_sets:
            token_set.check(identity(*tokenizers, config.alignment, config.prompts, config.max_length))
        sets: list[Sequence[Example]] = list(token_sets)
        left_out = [token_set.about.get("left_out", {}) for token_set in token_sets]
        for rows in lines:
            examples = Examples(*tokenizers, config.alignment, config.prompts, config.max_length)
            sets.append(list(examples.of(rows)))
            left_out.append(dict(examples.left_out))
        training, validation = sets
        if states is not None:
            origin = StatesIdentity(model_state(self.receiver), model_state(self.sharer), config.dtype)
            links = align_layers(config.layer_alignment, states.receiver.layers, states.sharer.layers)
            states.check(
                origin,
                chain(training, validation[: config.validation_limit or None]),
                links if config.sharer_cache == "own" else (),
            )
        return TrainingInputs(
            pair, training, validation, dict(zip(("training", "validation"), left_out, strict=True)), states
        )

    def notes(self, learner: FuserLearner, history: pd.DataFrame) -> dict[str, Any]:
        """Examples used and left out, the share of pads, final losses, and cost with that of passes that are shared."""
        shared_cost = None if learner.states is None else learner.states.cost(learner.progress)
        return {
            "examples": {"training": len(learner.training), "validation": len(learner.validation)},
            "left_out": learner.left_out,
            "padding": float(history["padding"].mean()),
            "final": final_losses(history),
            "cost": {**cost(learner), **({} if shared_cost is None else {"shared": shared_cost})},
            **({} if learner.ridge is None else {"ridge": learner.ridge}),
            **best_step(learner),
        }

    def write(self, learner: FuserLearner, history: pd.DataFrame) -> None:
        """The output folder: fusers, history, gates and order, which replace older ones together."""
        # Gates are measured on the first examples of the validation set.
        examples = learner.validation[:GATE_EXAMPLES]
        batches = [learner.collate([examples[row] for row in part]) for part in learner.parts_in_order(examples)]
        gates = gate_table(learner.model, batches)
        models: dict[str, Any] = {
            "receiver": learner.pair.receiver.description,
            "sharer": learner.pair.sharer.description,
        }
        about = fuser_labels(learner, learner.pair, self.recipe)
        # Checkpoints of earlier steps come first, so that a complete output has them.
        self._write_steps(learner, models, about)
        with exchange(self.output, (HISTORY, GATES, ORDER_FILE, *FILES), PART) as unfinished:
            history.to_csv(unfinished / HISTORY, index=False)
            gates.to_csv(unfinished / GATES, index=False)
            pq.write_table(order_table(learner), unfinished / ORDER_FILE)
            write_stack(learner.stack, unfinished, **models, about=about, check=ContractCheck())

    def _write_steps(self, learner: FuserLearner, models: dict[str, Any], about: dict[str, Any]) -> None:
        """A checkpoint for each of `keep_steps`, and no other; the folder is made if the run names it."""
        folder = self.kept or self.output.with_name(self.output.name + ".steps")
        for older in folder.glob("step*"):
            shutil.rmtree(older)
        if self.kept:
            folder.mkdir(parents=True, exist_ok=True)
        for step in self.config.keep_steps:
            save_stack(learner.stack_at(step), folder / f"step{step}", **models, about={**about, "step": step})
