"""The tiny pair and the benchmark of the evaluation's tests."""

from tests.evaluation.conftest import benchmark_files, fuser, pair, questions, words

__all__ = ["benchmark_files", "fuser", "pair", "questions", "words"]
