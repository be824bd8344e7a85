"""One module a table; each writes .csv, .tex and .md from one frame."""
