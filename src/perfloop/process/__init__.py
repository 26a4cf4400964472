"""Workers kept alive, the channels to them, and pipelines."""
