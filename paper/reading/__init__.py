"""Records, the published values, names and times, as tables, figures and claims need them."""
