"""A channel: one socket pair between a supervisor and a worker, with batches, order and acknowledgement.

No lock is shared between processes, so that a worker that is killed at any moment hangs nobody: what was sent
to it and not acknowledged is left to be sent again.
"""
