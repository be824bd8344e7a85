"""Evaluation: methods, controls, records and their scores. Importing this package imports no torch."""
