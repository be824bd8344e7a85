"""Training of a FuserStack between two frozen models."""
