"""Generation settings of lm-eval's task files, and which of them greedy answers honour. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from c2c.errors import RefusedError, check_choice

HONOURED = ("until", "max_gen_toks")
"""What ends an answer of ``c2c generate``, which is greedy."""
NEUTRAL: dict[str, Any] = {"num_beams": 1, "num_return_sequences": 1, "use_cache": True}
"""Generation settings of which this one value changes nothing."""
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Those of `c2c.generation.decoding.SAMPLING`: without any effect on greedy text."""
PENALTIES: dict[str, Any] = {
    "repetition_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "no_repeat_ngram_size": 0,
}
"""Those of `c2c.generation.decoding.PENALTIES` and alike, with the value that changes nothing."""


def check_greedy(where: str, settings: Mapping[str, Any]) -> None:
    """Refuse settings that a greedy answer cannot honour; those that change nothing may stay.

    Args:
        where: Named in the refusal.
        settings: The task's ``generation_kwargs``.

    Raises:
        RefusedError: If a setting is unknown, asks for samples, or would change the text if it were honoured.
    """
    without_effect = NEUTRAL | PENALTIES
    for name in settings:
        check_choice(f"A generation setting of {where}", name, (*HONOURED, "do_sample", *SAMPLING, *without_effect))
    sampled, temperature = settings.get("do_sample"), settings.get("temperature")
    if sampled not in (None, False):
        remedy = "Write do_sample: false, or run the task by python -m c2c.evaluation.harness, which samples"
        raise RefusedError(f"do_sample of {where} must be false, as answers are greedy", sampled, remedy)
    # lm-eval samples where a temperature stands alone.
    if sampled is None and temperature not in (None, 0):
        remedy = "Leave it out, or write do_sample: false beside it"
        raise RefusedError(f"temperature of {where} must be 0, as answers are greedy", temperature, remedy)
    for name, value in without_effect.items():
        if settings.get(name, value) not in (None, value):
            rule = f"{name} of {where} must be {value}, which changes nothing: greedy answers are written without it"
            raise RefusedError(rule, settings[name], "Leave it out")
