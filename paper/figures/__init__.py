"""One module a figure; each writes .pdf and .png."""
