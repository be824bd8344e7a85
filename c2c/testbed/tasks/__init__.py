"""Items of the test bed: texts of which the Receiver lacks the private values, and questions about them.

Both models read the same sentences about invented persons. The Receiver's copy has a placeholder of as many tokens in
place of each value, so that it needs a message, and the message has a place. Every text, value and split is made by
code from a seed.
"""
