"""This package's methods as models of lm-eval.

Importing this package registers the methods with lm-eval, under the names in `MODELS`; `LMEvalModel` makes a model of
lm-eval from a method that is loaded already; `main` is lm-eval's command line.
"""

from c2c.evaluation.harness.command import main
from c2c.evaluation.harness.model import MODELS, LMEvalModel

__all__ = ["MODELS", "LMEvalModel", "main"]
