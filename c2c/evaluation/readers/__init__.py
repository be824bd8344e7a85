"""What the answering model has in its cache before it answers."""
