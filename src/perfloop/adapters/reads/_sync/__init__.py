# Generated from perfloop/adapters/reads/_async/__init__.py by tools/make_sync.py; edit that one.
"""Reads for threads; those for threads are generated from them."""
