"""What a cache says of itself: rows, bytes, error estimates and times."""
from __future__ import annotations

import dataclasses
import threading

from .. import _structs
from ..runtime import Sequence
from ..stats import Stats

_ROWS = ("window_rows", "host_rows", "kv_bytes", "index_bytes", "window_bytes", "dropped_rows")
_KEPT_CALLS = 256


@dataclasses.dataclass
class LayerStats:
    """One layer, summed over sequences. Rows are per KV head, bytes are all heads'."""
    window_rows: int = 0
    host_rows: int = 0
    kv_bytes: int = 0
    index_bytes: int = 0
    window_bytes: int = 0
    dropped_rows: int = 0
    append: Stats = dataclasses.field(default_factory=Stats)
    attend: Stats = dataclasses.field(default_factory=Stats)

    def add_rows(self, sequence: Sequence, layer: int) -> None:
        info = sequence.info(layer)
        for name in _ROWS:
            setattr(self, name, getattr(self, name) + info[name])

    def take_rows(self, other: LayerStats) -> None:
        for name in _ROWS:
            setattr(self, name, getattr(other, name))


@dataclasses.dataclass
class CacheStats(LayerStats):
    """All layers together; `layers` has each."""
    num_sequences: int = 0
    layers: list[LayerStats] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, sequences: list[Sequence], logs: list[CallLog]) -> CacheStats:
        layers = []
        for index, log in enumerate(logs):
            layer = LayerStats(append=log.append.sum(), attend=log.attend.sum())
            for sequence in sequences:
                layer.add_rows(sequence, index)
            layers.append(layer)
        total = cls(num_sequences=len(sequences), layers=layers, append=Stats.sum(layer.append for layer in layers),
                    attend=Stats.sum(layer.attend for layer in layers))
        for name in _ROWS:
            setattr(total, name, sum(getattr(layer, name) for layer in layers))
        return total


class _Calls:
    """td_stats of calls: kept as they are and added up now and then, since that costs more than a call. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[bytes] = []
        self._sum = Stats()

    def log(self, raw: _structs.Stats) -> None:
        """Notes a call."""
        with self._lock:
            self._kept.append(bytes(raw))
            if len(self._kept) >= _KEPT_CALLS:
                self._add_up()

    def sum(self) -> Stats:
        with self._lock:
            self._add_up()
            return Stats.sum([self._sum])

    def _add_up(self) -> None:
        self._sum.add_raw(b"".join(self._kept))
        self._kept.clear()


class CallLog:
    """The calls of one layer."""

    def __init__(self) -> None:
        self.append = _Calls()
        self.attend = _Calls()
