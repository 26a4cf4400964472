"""Reads for asyncio; those for threads are generated from them."""
