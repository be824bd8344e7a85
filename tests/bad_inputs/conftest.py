"""The tiny pairs and the benchmark of the evaluation's tests."""

from tests.evaluation.conftest import benchmark_files, chat_fuser, chat_pair, fuser, pair, questions, words

__all__ = ["benchmark_files", "chat_fuser", "chat_pair", "fuser", "pair", "questions", "words"]
