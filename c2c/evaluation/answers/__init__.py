"""From a prompt in the cache to an answer."""
