"""A generated world in which what each model knows is exact: the positive control for cache communication (design §5)."""
