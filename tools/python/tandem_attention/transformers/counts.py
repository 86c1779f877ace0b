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

    def __str__(self) -> str:
        calls = self.attend.calls
        shared = max(1, len(self.layers)) * max(1, self.num_sequences)

        def mib(count: int) -> str:
            return f"{count / 2 ** 20:,.1f} MiB"

        def error(value: float | None) -> str:
            return "unknown" if value is None else f"{value:.2g}"

        share = self.attend.keys_attended / max(1, self.attend.keys_visible)
        lines = [("attention", f"{calls:,} calls (layers x steps), {self.attend.total_us / max(1, calls) / 1000:.2f} ms each"),
                 ("keys attended", f"{share:.1%} of those that queries saw" if calls else "no call yet"),
                 ("estimated error", f"{error(self.attend.out_error)} of the output, {error(self.attend.lse_error)} of lse; "
                                     f"{self.attend.uncertified:,} results not certified"),
                 ("rows held", f"{self.window_rows / shared:,.0f} in the window, {self.host_rows / shared:,.0f} behind it "
                               f"(per sequence and layer; {self.num_sequences} x {len(self.layers)})"),
                 ("bytes", f"keys and values {mib(self.kv_bytes)}, index {mib(self.index_bytes)}, window {mib(self.window_bytes)}")]
        if calls and self.attend.keys_attended == self.attend.keys_visible:
            lines[1] = ("keys attended", "all of them: prompts, short contexts and selector='all' are attended as wholes")
        if self.dropped_rows:
            lines.append(("rows lost", f"{self.dropped_rows:,}"))
        return "\n".join(f"{name:<16} {text}" for name, text in lines)


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
