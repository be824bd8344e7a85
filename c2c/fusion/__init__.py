"""Reading a prompt with several models and fusing their caches."""
