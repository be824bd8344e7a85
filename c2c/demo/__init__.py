"""The live page (``c2c demo``): one question, answered by a Receiver alone, with messages, and with wrong messages."""
