"""Laws that compute a number from measured Windows, and the Limiter that enforces it."""
