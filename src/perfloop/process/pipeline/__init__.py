"""Stages with bounded queues, limits and batch sizes that find themselves, and one summary of it all.

Its names are those of `perfloop.process`. Nothing is imported here: the processes of a stage load what they
call with, and no more.
"""
