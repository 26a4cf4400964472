# Generated from perfloop/adapters/remote/_async/__init__.py by tools/make_sync.py; edit that one.
"""The tier on Redis for threads; what exists for threads is generated from it."""
