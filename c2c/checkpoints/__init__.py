"""Fusers and caches in folders and on the hub."""
