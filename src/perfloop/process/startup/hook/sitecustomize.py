"""Loaded by a program under `perfloop startup`, in whatever Python that has: puts imports off until used.

What it does is told on the standard error, a line each, as `perfloop start: ` and a literal.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def _say(*words: object) -> None:
    os.write(2, f"perfloop start: {words!r}\n".encode())


class _Told(Loader):
    """Another loader, which tells when it is really needed."""

    def __init__(self, loader: Loader, name: str) -> None:
        self._loader, self._name = loader, name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        _say("used", self._name)
        self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _PutOff(MetaPathFinder):
    """Finds the modules that are to be put off, each once."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)
        self._has_said_where = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        self._names.discard(name)
        if not self._has_said_where:
            self._has_said_where = True
            _say("where", sys.executable, sys.path)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return None
        _say("put off", name)
        spec.loader = importlib.util.LazyLoader(_Told(spec.loader, name))
        return spec


def _begin() -> None:
    """Leave everything as it would be without this file, but for the imports."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each) != here]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    rest = [each for each in given if each and os.path.abspath(each) != here]
    if rest:
        os.environ["PYTHONPATH"] = os.pathsep.join(rest)
    else:
        os.environ.pop("PYTHONPATH", None)
    sys.meta_path.insert(0, _PutOff(os.environ.pop("PERFLOOP_PUT_OFF", "").split(",")))
    own = PathFinder.find_spec("sitecustomize")
    if own is not None and own.loader is not None:
        sys.modules["sitecustomize"] = module = importlib.util.module_from_spec(own)
        own.loader.exec_module(module)


if __name__ == "sitecustomize":
    _begin()
