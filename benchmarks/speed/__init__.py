"""How fast the library is: one number each, on tiny models that are built on the spot."""
