"""Memory that a worker does not give back: told apart from warming up, load and fragmentation, and mended."""
