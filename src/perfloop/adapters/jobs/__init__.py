"""Reads the queues of background jobs, by SQL and Redis alone: none of their libraries is imported."""
