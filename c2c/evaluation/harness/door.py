"""This project's methods as models of lm-eval, each of whose requests is answered as lm-eval defines it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.api.task import Task
from lm_eval.utils import simple_parse_args_string

from c2c.errors import RefusedError, check_choice
from c2c.evaluation.answers.batches import check_budget
from c2c.evaluation.harness.model_respondents import FusedModel, Single
from c2c.evaluation.harness.requests import text_of_chat
from c2c.evaluation.harness.respondents import Respondent
from c2c.evaluation.harness.several_respondents import Several
from c2c.evaluation.methods.declarations import LM_EVAL_OPTIONS
from c2c.evaluation.methods.inputs import MethodInputs
from c2c.evaluation.methods.method import TOKEN_BUDGET, Method
from c2c.evaluation.methods.routing import Router, RoutingMethod
from c2c.evaluation.methods.text_to_text import TextToText
from c2c.evaluation.questions import prompting
from c2c.evaluation.questions.question import Question
from c2c.evaluation.readers.fused import Fused
from c2c.evaluation.readers.reader import Alone, positions
from c2c.models.loading import check_device
from c2c.models.pair import load_models
from c2c.storage.formats import read_yaml
from c2c.types import DTYPES

WORDING = Path(__file__).with_name("wording.yaml")
"""What text to text asks and tells where the call names no other file."""
COMMON = ("dtype", "device", "batch_size", "max_batch_size", "token_budget")
WITHOUT_LIMIT = 2**62
"""Tokens of a batch whose size is given in requests."""
NEEDED = ("model", "receiver", "sharer", "fuser", "router")


class Door(LM):
    """A method as a model of lm-eval.

    What cannot be answered is refused before any model runs: of all tasks of a run where `tasks` names them, else of
    the requests of one call.

    Args:
        method: Answers.
        rows: Requests of a batch at most; None for as many as the method's budget of tokens allows.
        max_length: Positions of the answering model at most; None for what its config says.
        wording: What text to text asks and tells: ``t2t_question`` and ``t2t_prompt``.
    """

    def __init__(
        self,
        method: Method,
        rows: int | None = None,
        max_length: int | None = None,
        wording: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.method, self.tasks = method, list[Task]()
        self.respondent = _respondent(method, rows, max_length, wording or read_wording(WORDING))

    @property
    def tokenizer_name(self) -> str:
        """Names the models whose chat templates are used; lm-eval's cache of requests asks for it."""
        return self.method.tokenizer_name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as text: each model that reads them renders its own template, with thinking off.

        Raises:
            RefusedError: If a model has no chat template.
        """
        prompting.check_prompts("chat", self.method.models)
        return text_of_chat(chat_history)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each request's continuation after its context, and whether it is the greedy one."""
        self._check_others("loglikelihood")
        items = self.respondent.plan_weights(requests)
        found: dict[int, tuple[float, bool]] = {}
        for item, weights in zip(items, self.respondent.weigh(items, not disable_tqdm), strict=True):
            found |= dict(zip(item.places, weights, strict=True))
        return [found[place] for place in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, in lm-eval's windows.

        Raises:
            RefusedError: Unless one model answers alone: fusing needs a prompt.
        """
        self._check_others("loglikelihood_rolling")
        items = self.respondent.plan_rolling(requests)
        sums = [0.0] * len(requests)
        for item, weights in zip(items, self.respondent.weigh(items, not disable_tqdm), strict=True):
            sums[item.places[0]] += weights[0][0]
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Free text after each context, as the task's ``generation_kwargs`` ask for it."""
        self._check_others("generate_until")
        found: dict[int, str] = {}
        for writing, items in self.respondent.plan_texts(requests).items():
            for item, text in zip(items, self.respondent.write(items, writing, not disable_tqdm), strict=True):
                found |= dict.fromkeys(item.places, text)
        return [found[place] for place in range(len(requests))]

    def _check_others(self, asked: str) -> None:
        """Plan what the other tasks of the run will ask, so that it is refused now if it is refused at all."""
        plans: dict[str, Callable[[list[Instance]], object]] = {
            "loglikelihood": self.respondent.plan_weights,
            "loglikelihood_rolling": self.respondent.plan_rolling,
            "generate_until": self.respondent.plan_texts,
        }
        requests = [request for task in self.tasks for request in task.instances]
        self.tasks = []
        for kind, plan in plans.items():
            others = [request for request in requests if request.request_type == kind != asked]
            if others:
                plan(others)


def _respondent(method: Method, rows: int | None, room: int | None, wording: Mapping[str, str]) -> Respondent:
    if isinstance(method, TextToText):

        def complete(question: Question) -> Question:
            doc = {"question": question.prompt, **question.doc, "prompt": question.prompt}
            asked, told = wording["t2t_question"], wording["t2t_prompt"]
            return replace(question, doc=doc, t2t_question=asked, t2t_prompt=told)

        return Several(method, routed=False, complete=complete)
    if isinstance(method, RoutingMethod):
        return Several(method, routed=True)
    if isinstance(method.reader, Alone):
        return Single(method, rows, room)
    if isinstance(method.reader, Fused):
        return FusedModel(method, rows, room)
    raise RefusedError(
        "lm-eval must be given a method of one Receiver", method.name, f"Choose of {', '.join(LM_EVAL_OPTIONS)}"
    )


def read_wording(path: Path) -> dict[str, str]:
    """The keys ``t2t_question`` and ``t2t_prompt`` under ``metadata`` of a YAML file.

    Raises:
        RefusedError: If one of them is missing.
    """
    content = read_yaml(path, "Write it as c2c/evaluation/wording.yaml")
    found = content.get("metadata") if isinstance(content, Mapping) else None
    wording = {name: (found or {}).get(name) for name in ("t2t_question", "t2t_prompt")}
    if not all(isinstance(text, str) and text for text in wording.values()):
        raise RefusedError(
            "A wording must have the texts t2t_question and t2t_prompt under metadata", str(path), "Add them"
        )
    return {name: str(text) for name, text in wording.items()}


class NamedDoor(Door):
    """A method by its name and lm-eval's ``model_args``; see `c2c.evaluation.methods.declarations`."""

    name: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        allowed = (*LM_EVAL_OPTIONS[self.name], *COMMON)
        for option in options:
            check_choice(f"An option of --model {self.name}", option, allowed)
        for option in set(NEEDED).intersection(allowed):
            if not options.get(option):
                raise RefusedError(
                    f"--model {self.name} must be told its {option}", sorted(options), f"Add {option}=… to --model_args"
                )
        rows = batch_rows(options.get("batch_size"), options.get("max_batch_size"))
        budget = _whole("token_budget", options.get("token_budget"))
        if budget is None:
            automatic = str(options.get("batch_size", "auto")).startswith("auto")
            budget = TOKEN_BUDGET if automatic else WITHOUT_LIMIT
        wording = Path(str(options.get("wording") or WORDING))
        checked = {"dtype": "float32", **options, "device": check_device(options.get("device"))}
        check_choice("A dtype", str(checked["dtype"]).removeprefix("torch."), DTYPES)
        length, said = _whole("max_length", options.get("max_length")), read_wording(wording)
        method = _method(self.name, checked, check_budget(budget))
        known = positions(method.models[0])
        if length is not None and length > known:
            raise RefusedError(f"max_length must be at most the model's {known} positions", length, "Lower it")
        super().__init__(method, rows, length, said)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> NamedDoor:
        """As lm-eval calls it; what ``model_args`` name goes before the command's own options."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> NamedDoor:
        """As lm-eval calls it; what ``model_args`` name goes before the command's own options."""
        own = {name: value for name, value in (additional_config or {}).items() if value is not None}
        return cls(**{**own, **arg_dict})

    @property
    def device(self) -> torch.device:
        """Where the answering model is."""
        return torch.device(self.method.models[0].model.device)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside the results: name, revision and precision of each model."""
        models = self.method.models
        return {
            "models": [{"name": each.name, "revision": each.revision} for each in models],
            "model_dtype": str(models[0].model.dtype),
        }


def _method(name: str, options: Mapping[str, Any], budget: int) -> Method:
    placed = {"dtype": str(options["dtype"]).removeprefix("torch."), "device": options["device"]}
    own = LM_EVAL_OPTIONS[name]
    if "router" in own:  # refused, if at all, before a model is loaded
        Router.load(Path(str(options["router"])))
    sources = [str(options[role]) for role in ("model", "receiver", "sharer") if role in own]
    models = load_models(sources, **placed)
    inputs = MethodInputs(
        models[0],
        models[-1:],
        fusers=[str(options["fuser"])] if "fuser" in own else (),
        accept=[line for line in str(options.get("accept") or "").split("+") if line],
        router=str(options.get("router") or ""),
        token_budget=budget,
        progress=False,
    )
    return inputs.build(name)


def batch_rows(batch_size: Any, most: Any = None) -> int | None:
    """Requests of a batch: a number, or None for as many as the budget of tokens allows (``auto``).

    Args:
        batch_size: A number, ``auto``, ``auto:N``, or None.
        most: Upper bound of an automatic size.

    Raises:
        RefusedError: If it is something else.
    """
    if batch_size is None or str(batch_size).partition(":")[0] == "auto":
        return _whole("max_batch_size", most)
    return _whole("batch_size", batch_size)


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not str(value).isdecimal() or int(value) < 1:
        raise RefusedError(f"{name} must be a whole number from 1", value, "Correct it")
    return int(value)


def expect(lm: LM, tasks: Iterable[Task]) -> None:
    """Tell a door, or what wraps one, the tasks that it will be asked."""
    door = getattr(lm, "lm", lm)
    if isinstance(door, Door):
        door.tasks = list(tasks)


def names() -> Sequence[str]:
    """The models of this project that lm-eval knows once this module is imported."""
    return tuple(LM_EVAL_OPTIONS)


for _name in LM_EVAL_OPTIONS:
    register_model(_name)(type(f"Door_{_name}", (NamedDoor,), {"name": _name, "__doc__": f"The method {_name}."}))
