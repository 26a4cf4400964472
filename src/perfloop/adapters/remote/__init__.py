"""The cache's shared tier on Redis 6.2 and later, or Valkey; docs/decisions/0012 says how it speaks to it."""
