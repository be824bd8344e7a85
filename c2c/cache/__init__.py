"""KV-caches: the only code that touches transformers' cache classes."""
