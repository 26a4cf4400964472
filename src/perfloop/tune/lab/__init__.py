"""Scratch servers and databases that perfloop owns, filled from the target, in which Changes are tried."""
