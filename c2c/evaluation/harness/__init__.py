"""This package's methods as models of lm-eval."""
