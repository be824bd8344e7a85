"""Benchmarks of real pairs whose answers only the Sharer can know and no training set contains.

All questions have the form "… is what?", so that a model that knows the answer can predict it after the word "is", in
the cache of a token that is fused: in a trial SmolLM2-135M, with the private line, named the value as the next token
after a fused token in 61 of 64 validation questions. "What is …?" was not measured in this way.
"""
