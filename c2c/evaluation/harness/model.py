"""This project's methods as models of lm-eval: each request is answered as lm-eval defines it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import model_registry, register_model
from lm_eval.api.task import Task
from lm_eval.utils import simple_parse_args_string

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.answers.batches import TOKEN_BUDGET, check_budget
from c2c.evaluation.harness.requests import chat_text
from c2c.evaluation.harness.respondents import AloneRespondent, FusedRespondent, MethodRespondent, Respondent
from c2c.evaluation.methods.declarations import METHOD_OPTIONS
from c2c.evaluation.methods.inputs import MethodInputs, compiled_writing
from c2c.evaluation.methods.method import Method
from c2c.evaluation.methods.routing import Router, RoutingMethod
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions import prompting
from c2c.evaluation.readers.fused import FusedReader
from c2c.evaluation.readers.reader import SingleReader, positions
from c2c.models.loading import check_device
from c2c.models.pair import load_models
from c2c.storage.formats import read_yaml
from c2c.types import COMPILED_STAGES, DTYPES

WORDING_FILE = Path(__file__).with_name("wording.yaml")
"""Prompts of text to text where ``model_args`` name no other file."""
COMMON_OPTIONS = ("dtype", "device", "batch_size", "max_batch_size", "token_budget", "compile")
REQUIRED_OPTIONS = ("model", "receiver", "sharer", "fuser", "router")
"""Options without which a method that takes them cannot be built."""
NO_TOKEN_LIMIT = 2**62
"""Token budget of a batch whose size is given as a number of requests."""


class LMEvalModel(LM):
    """A method as a model of lm-eval.

    Requests that cannot be answered are refused before any model runs: those of all tasks in `pending_tasks`, and
    otherwise those of one call.

    Args:
        method: Gives the answers.
        rows: Greatest number of requests of a batch; None for as many as the method's token budget allows.
        max_length: Greatest number of positions of the answering model; None for the number in its config.
        wording: Prompts of text to text: ``t2t_question`` and ``t2t_prompt``.
    """

    def __init__(
        self,
        method: Method,
        rows: int | None = None,
        max_length: int | None = None,
        wording: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.method, self.pending_tasks = method, list[Task]()
        self.respondent = respondent_of(method, rows, max_length, wording or read_wording(WORDING_FILE))

    @property
    def tokenizer_name(self) -> str:
        """Names of the models whose chat templates are used; a part of the key of lm-eval's cache of requests."""
        return self.method.tokenizer_name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as text, from which each model renders its own template, with thinking off.

        Raises:
            RefusedError: If a model has no chat template.
        """
        prompting.check_prompts("chat", self.method.models)
        return chat_text(chat_history)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each request's continuation after its context, and whether it is the greedy one."""
        self._plan_pending_tasks(except_for="loglikelihood")
        contexts = self.respondent.plan_likelihoods(requests)
        scores: dict[int, tuple[float, bool]] = {}
        for context, its_scores in zip(contexts, self.respondent.score(contexts, not disable_tqdm), strict=True):
            scores |= dict(zip(context.requests, its_scores, strict=True))
        return [scores[number] for number in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in lm-eval's windows.

        Raises:
            RefusedError: Unless one model answers alone: fusing needs a prompt.
        """
        self._plan_pending_tasks(except_for="loglikelihood_rolling")
        windows = self.respondent.plan_rolling(requests)
        sums = [0.0] * len(requests)
        for window, scores in zip(windows, self.respondent.score(windows, not disable_tqdm), strict=True):
            sums[window.requests[0]] += scores[0][0]
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Free text after each context, by the task's ``generation_kwargs``."""
        self._plan_pending_tasks(except_for="generate_until")
        texts: dict[int, str] = {}
        for settings, contexts in self.respondent.plan_texts(requests).items():
            for context, text in zip(
                contexts, self.respondent.generate(contexts, settings, not disable_tqdm), strict=True
            ):
                texts |= dict.fromkeys(context.requests, text)
        return [texts[number] for number in range(len(requests))]

    def _plan_pending_tasks(self, except_for: str) -> None:
        """Plan the requests of other kinds that the run's tasks will make, so that they are refused now if at all."""
        plans: dict[str, Callable[[list[Instance]], object]] = {
            "loglikelihood": self.respondent.plan_likelihoods,
            "loglikelihood_rolling": self.respondent.plan_rolling,
            "generate_until": self.respondent.plan_texts,
        }
        requests = [request for task in self.pending_tasks for request in task.instances]
        self.pending_tasks = []
        for kind, plan in plans.items():
            requests_of_kind = [request for request in requests if request.request_type == kind != except_for]
            if requests_of_kind:
                plan(requests_of_kind)


def announce_tasks(lm: LM, tasks: Iterable[Task]) -> None:
    """Let an `LMEvalModel`, or one inside of lm-eval's caching model, know the tasks whose requests will come."""
    # lm-eval's cache of requests wraps a model, and calls it lm.
    model = getattr(lm, "lm", lm)
    if isinstance(model, LMEvalModel):
        model.pending_tasks = list(tasks)


def respondent_of(method: Method, rows: int | None, room: int | None, wording: Mapping[str, str]) -> Respondent:
    """The respondent for a method; arguments as in `LMEvalModel`.

    Raises:
        RefusedError: If there is none for such a method.
    """
    if isinstance(method, TextToText):
        return MethodRespondent(method, wording=wording)
    if isinstance(method, RoutingMethod):
        return MethodRespondent(method, is_routed=True)
    if isinstance(method.reader, SingleReader):
        return AloneRespondent(method, rows, room)
    if isinstance(method.reader, FusedReader):
        return FusedRespondent(method, rows, room)
    raise RefusedError(
        "lm-eval must be given a method of one Receiver", method.name, f"Choose of {', '.join(METHOD_OPTIONS)}"
    )


def read_wording(path: Path) -> dict[str, str]:
    """The texts ``t2t_question`` and ``t2t_prompt`` under ``metadata`` of a YAML file.

    Raises:
        RefusedError: If one of them is missing.
    """
    content = read_yaml(path, f"Write it as {WORDING_FILE.name} of c2c.evaluation.harness")
    metadata = content.get("metadata") if isinstance(content, Mapping) else None
    wording = {name: (metadata or {}).get(name) for name in ("t2t_question", "t2t_prompt")}
    if not all(isinstance(text, str) and text for text in wording.values()):
        raise RefusedError(
            "A wording must have the texts t2t_question and t2t_prompt under metadata", str(path), "Add them"
        )
    return {name: str(text) for name, text in wording.items()}


class RegisteredModel(LMEvalModel):
    """A method that is built from its name and lm-eval's ``model_args``; see `METHOD_OPTIONS`.

    Attributes:
        name: The model name, of `MODELS`.
        method_name: The method that it stands for.

    Raises:
        RefusedError: If an option is unknown, missing or out of range, before any model is loaded.
    """

    name: ClassVar[str]
    method_name: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        # Names of options.
        allowed = (*METHOD_OPTIONS[self.method_name], *COMMON_OPTIONS)
        for option in options:
            check_choice(f"An option of --model {self.name}", option, allowed)
        for option in set(REQUIRED_OPTIONS).intersection(allowed):
            if not options.get(option):
                raise RefusedError(
                    f"--model {self.name} must be given its {option}",
                    sorted(options),
                    f"Add {option}=… to --model_args",
                )
        # Their values. A batch is bounded by the token budget alone, unless its size is a number of requests.
        rows = batch_rows(options.get("batch_size"), options.get("max_batch_size"))
        token_budget = _positive_integer("token_budget", options.get("token_budget"))
        if token_budget is None:
            automatic = str(options.get("batch_size", "auto")).startswith("auto")
            token_budget = TOKEN_BUDGET if automatic else NO_TOKEN_LIMIT
        wording_file = Path(str(options.get("wording") or WORDING_FILE))
        options = {"dtype": "float32", **options, "device": check_device(options.get("device"))}
        options["dtype"] = str(options["dtype"]).removeprefix("torch.")
        check_choice("A dtype", options["dtype"], DTYPES)
        stage = check_choice("compile", str(options.pop("compile", "none")), COMPILED_STAGES)
        max_length = _positive_integer("max_length", options.get("max_length"))
        wording = read_wording(wording_file)
        # The models, whose number of positions bounds max_length.
        method = build_method(self.method_name, options, check_budget(token_budget))
        room = positions(method.models[0])
        if max_length is not None and max_length > room:
            raise RefusedError(f"max_length must be at most the model's {room} positions", max_length, "Lower it")
        super().__init__(method, rows, max_length, wording)
        # lm-eval does not say when it is done with a model: its steps are compiled for as long as the process runs.
        self._compiled = ExitStack()
        self._compiled.enter_context(compiled_writing([method], stage))

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> RegisteredModel:
        """Called by lm-eval; options in ``model_args`` take precedence over the command's own."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> RegisteredModel:
        """Called by lm-eval; options in ``model_args`` take precedence over the command's own."""
        command_options = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**command_options, **arg_dict})

    @property
    def device(self) -> torch.device:
        """The device of the answering model."""
        return torch.device(self.method.models[0].model.device)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into its results: name, revision and precision of each model."""
        models = self.method.models
        return {
            "models": [{"name": loaded.name, "revision": loaded.revision} for loaded in models],
            "model_dtype": str(models[0].model.dtype),
        }


def build_method(name: str, options: Mapping[str, Any], token_budget: int) -> Method:
    """Load the models of a method, with their fusers or router.

    Args:
        name: Of `METHOD_OPTIONS`.
        options: The method's options, with ``dtype`` and ``device``.
        token_budget: Tokens of a batch.

    Raises:
        RefusedError: If a model, fuser or router is missing or does not fit.
    """
    precision = {"dtype": options["dtype"], "device": options["device"]}
    options_of_method = METHOD_OPTIONS[name]
    if "router" in options_of_method:  # refused before a model is loaded
        Router.load(Path(str(options["router"])))
    roles = [role for role in ("model", "receiver", "sharer") if role in options_of_method]
    models = load_models([str(options[role]) for role in roles], **precision)
    inputs = MethodInputs(
        models[0],
        models[-1:],
        fusers=[str(options["fuser"])] if "fuser" in options_of_method else (),
        accept=[line for line in str(options.get("accept") or "").split("+") if line],
        router=str(options.get("router") or ""),
        token_budget=token_budget,
        progress=False,
    )
    return inputs.build(name)


def batch_rows(batch_size: Any, max_batch_size: Any = None) -> int | None:
    """Requests of a batch: a number, or None for as many as the token budget allows (``auto``).

    Args:
        batch_size: A number, ``auto``, ``auto:N``, or None.
        max_batch_size: Upper bound of an automatic size.

    Raises:
        RefusedError: If one of them is something else.
    """
    if batch_size is None or str(batch_size).partition(":")[0] == "auto":
        return _positive_integer("max_batch_size", max_batch_size)
    return _positive_integer("batch_size", batch_size)


def _positive_integer(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
        raise RefusedError(f"{name} must be a whole number from 1", value, "Correct it")
    return int(value)


PREFIX = "c2c"
"""How the name of a method begins in lm-eval, where models of all packages have one list."""
MODELS = {name if name.startswith(PREFIX) else f"{PREFIX}_{name}": name for name in METHOD_OPTIONS}
"""The method of each of lm-eval's model names."""


def __getattr__(name: str) -> type[RegisteredModel]:
    """The class of a model name, for entry points: `pyproject.toml` names one for each of `MODELS`.

    Raises:
        AttributeError: If the module has no such name.
    """
    if name not in MODELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _model_class(name)


@cache
def _model_class(name: str) -> type[RegisteredModel]:
    text = f"The method {MODELS[name]} as a model of lm-eval."
    return type(f"Model_{name}", (RegisteredModel,), {"name": name, "method_name": MODELS[name], "__doc__": text})


for _name in MODELS:
    # A version of lm-eval that reads entry points knows the name already.
    if _name not in model_registry:
        register_model(_name)(_model_class(_name))
