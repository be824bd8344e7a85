"""What the models are measured on: lm-eval tasks, prepared data, and the knowledge-gap world."""
