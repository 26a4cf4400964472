# Generated from perfloop/cache/_async/__init__.py by tools/make_sync.py; edit that one.
"""The cache for threads; what exists for threads is generated from it."""
