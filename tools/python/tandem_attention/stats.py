"""td_stats of one call, and sums over many."""
from __future__ import annotations

import dataclasses
import struct
from typing import Any, Iterable

from . import _structs

_FORMAT = struct.Struct("=Ii7d7qd5qddqqq")  # td_stats, without padding; the tests compare it with the struct


@dataclasses.dataclass
class Stats:
    """What calls did. Times are microseconds, bytes are those of K and V that a stage read or wrote; rows and keys are
    summed over queries, KV heads or query heads, as td_stats says. `lse_error` and `out_error` are means over the calls
    that have an estimate (0: exact), None where none has one."""
    calls: int = 0
    total_us: float = 0.0
    us: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(_structs.STAGES, 0.0))
    bytes: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(_structs.STAGES, 0))
    rows_window: int = 0
    rows_host: int = 0
    rows_gathered: int = 0
    keys_attended: int = 0
    keys_visible: int = 0
    rows_dropped: int = 0
    bytes_streamed: int = 0
    uncertified: int = 0
    lse_error: float | None = None
    out_error: float | None = None
    _estimates: list[int] = dataclasses.field(default_factory=lambda: [0, 0], repr=False)  # calls behind each mean

    @classmethod
    def of(cls, raw: _structs.Stats) -> Stats:
        made = cls()
        made.add_raw(bytes(raw))
        return made

    def add_raw(self, raw: Any) -> None:
        """Adds the td_stats of any number of calls, bytes one after the other."""
        for values in _FORMAT.iter_unpack(raw):
            self._add_call(values[2:])

    def _add_call(self, values: tuple) -> None:
        stages = len(_structs.STAGES)
        self.calls += 1
        for i, stage in enumerate(_structs.STAGES):
            self.us[stage] += values[i]
            self.bytes[stage] += values[stages + i]
        (total_us, rows_window, rows_host, rows_gathered, keys_attended, keys_visible, lse_error, out_error, uncertified,
         rows_dropped, bytes_streamed) = values[2 * stages:]
        self.total_us += total_us
        self.rows_window += rows_window
        self.rows_host += rows_host
        self.rows_gathered += rows_gathered
        self.keys_attended += keys_attended
        self.keys_visible += keys_visible
        self.uncertified += uncertified
        self.rows_dropped += rows_dropped
        self.bytes_streamed += bytes_streamed
        if keys_visible:  # an append has no error
            self._add_estimate(0, "lse_error", lse_error, 1)
            self._add_estimate(1, "out_error", out_error, 1)

    def _add_estimate(self, which: int, name: str, value: float | None, calls: int) -> None:
        if value is None or value < 0 or calls == 0:
            return
        before = self._estimates[which]
        self._estimates[which] = before + calls
        setattr(self, name, ((getattr(self, name) or 0.0) * before + value * calls) / (before + calls))

    @classmethod
    def sum(cls, parts: Iterable[Stats]) -> Stats:
        """All of `parts` together."""
        total = cls()
        for part in parts:
            for stage in _structs.STAGES:
                total.us[stage] += part.us[stage]
                total.bytes[stage] += part.bytes[stage]
            for name in ("calls", "total_us", "rows_window", "rows_host", "rows_gathered", "keys_attended", "keys_visible",
                         "uncertified", "rows_dropped", "bytes_streamed"):
                setattr(total, name, getattr(total, name) + getattr(part, name))
            for which, name in enumerate(("lse_error", "out_error")):
                total._add_estimate(which, name, getattr(part, name), part._estimates[which])
        return total
