"""adaptive-concurrency (PyPI, Apache-2.0): its own controller, fed call by call as its runner does."""

from __future__ import annotations

from adaptive_concurrency.adaptive import AdaptiveConfig, Controller, Observation, Setting

from perfloop.control.adjustment import Adjustment
from perfloop.control.window import Window

MOST_WORKERS = 256


class AdaptiveConcurrency:
    """Its defaults, with as many workers allowed as our laws have; the batch size stays what it is."""

    def __init__(self, *, workers: int, size: int) -> None:
        config = AdaptiveConfig(workers=workers, batch_size=size, max_workers=MOST_WORKERS)
        self._controller = Controller(config)
        self._settings: dict[int, Setting] = {}

    @property
    def limit(self) -> int:
        return int(self._controller.setting.workers)

    def size_of_call(self, number: int) -> int:
        setting = self._settings[number] = self._controller.setting
        return int(setting.batch_size)

    def ended(self, number: int, latency_s: float) -> None:
        setting = self._settings.pop(number)
        call = Observation(setting, n_items=setting.batch_size, elapsed=latency_s, ok=True, size_fault=False)
        self._controller.observe(call)

    def update(self, window: Window) -> Adjustment | None:
        """It sees calls alone."""
        return None
