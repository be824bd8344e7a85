"""Files that are written whole or not at all, and the formats in which this package writes them."""
