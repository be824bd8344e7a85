"""Benchmarks for real models on which only the Sharer can know the answer, and which no training set gives away.

All ask in the form "… is what?": a model that knows the answer has it ready after the word "is", so that it stands in
the cache of a token that is fused. After "What is …?" it would look for the answer at the prompt's last token alone,
which is the Receiver's own.
"""
