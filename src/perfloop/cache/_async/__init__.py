"""The cache for asyncio; what exists for threads is generated from it."""
