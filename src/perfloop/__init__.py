"""Make a Python service on PostgreSQL and Redis faster, and prove it."""

from importlib.metadata import version

from perfloop.errors import PerfloopError

__all__ = ["PerfloopError", "__version__"]

__version__ = version("perfloop")
