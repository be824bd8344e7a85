"""A generated world in which what each model knows is exact: the positive control for communication."""
