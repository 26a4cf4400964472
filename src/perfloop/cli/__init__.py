"""The command line: a thin face of perfloop.tune. One module per command."""
