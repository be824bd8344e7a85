"""Tasks, their questions and their prompts."""
