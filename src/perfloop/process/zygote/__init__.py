"""The zygote: a small process with one thread that imports once what workers need, and forks them on demand.

It is executed afresh, never forked from the supervisor, so that no thread, event loop or connection of the
supervisor is inherited. What is here loads nothing that it can do without: until the first worker is forked,
every import counts.
"""
