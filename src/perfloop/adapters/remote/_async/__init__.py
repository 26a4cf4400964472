"""The tier on Redis for asyncio; what exists for threads is generated from it."""
