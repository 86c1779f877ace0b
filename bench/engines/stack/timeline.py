"""Tandem's timeline of a step with the weight products put beside its own spans, and what it says of the device."""
from __future__ import annotations

import json
import os
import pathlib
import time

from .lanes import Lane, Span


class GpuClock:
    """Where a GPU's events lie on the steady clock, to some ten microseconds: one that the host has waited for ties both."""

    def __init__(self, stream):
        import torch

        self._origin = torch.cuda.Event(enable_timing=True)
        before = time.perf_counter_ns()
        self._origin.record(stream)
        self._origin.synchronize()
        self._ns = (before + time.perf_counter_ns()) // 2

    def ns(self, event) -> int:
        return self._ns + int(1e6 * self._origin.elapsed_time(event))


def on_steady_clock(spans: list[Span], clock: GpuClock | None) -> list[Span]:
    """Spans with nanoseconds at both ends; `clock` where they have events."""
    if clock is None:
        return spans
    return [Span(span.lane, span.index, clock.ns(span.begin), clock.ns(span.end)) for span in spans]


def record(runtime, lanes: list[Lane], path: str, work) -> list[Span]:
    """Runs `work` while the runtime writes its timeline to `path`. Returns the lanes' spans and those of the work."""
    clocks = {lane.name: None if lane.stream is None else GpuClock(lane.stream) for lane in lanes}
    for lane in lanes:
        lane.spans = []
    runtime.timeline_start(path)
    try:
        work()
    finally:
        runtime.timeline_stop()
        recorded = {lane.name: lane.spans for lane in lanes}
        for lane in lanes:
            lane.spans = None
    return [span for name, spans in recorded.items() for span in on_steady_clock(spans, clocks[name])]


def add_spans(path: str, spans: list[Span], steps: list[tuple[str, int, int]]) -> None:
    """Puts tracks for the lanes' weight products and for whole steps into a timeline, whole or not at all. `steps` are
    (name, begin, end) in nanoseconds of the steady clock."""
    file = pathlib.Path(path)
    events = json.loads(file.read_text(encoding="utf-8"))
    start_ns = next(event["args"]["start_ns"] for event in events if event["name"] == "tandem_timeline")
    pid = events[0]["pid"]
    next_tid = 1 + max(event["tid"] for event in events)
    tracks = {"steps": [(name, begin, end, {}) for name, begin, end in steps]}
    for span in spans:
        tracks.setdefault(f"weights, {span.lane}", []).append(
            (f"segment {span.index}", span.begin, span.end, {"layer": span.index}))
    for tid, (name, track) in enumerate(tracks.items(), next_tid):
        events.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}})
        events += [{"ph": "X", "pid": pid, "tid": tid, "name": what, "ts": (begin - start_ns) / 1e3, "dur": (end - begin) / 1e3,
                    "args": args} for what, begin, end, args in track]
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text("[\n" + ",\n".join(map(json.dumps, events)) + "\n]\n", encoding="utf-8")
    os.replace(temporary, file)


def device_ms(path: str, device: str, steps: list[tuple[str, int, int]]) -> dict[str, float | None]:
    """Milliseconds that spans on the device's track took within each step; None where there is no such track."""
    events = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    start_ns = next(event["args"]["start_ns"] for event in events if event["name"] == "tandem_timeline")
    tids = {event["tid"] for event in events if event["name"] == "thread_name" and event["args"]["name"] == device}
    spans = [event for event in events if event["ph"] == "X" and event["tid"] in tids]
    found = {}
    for name, begin, end in steps:
        within = [span["dur"] for span in spans if begin <= start_ns + 1e3 * span["ts"] < end]
        found[name] = sum(within) / 1e3 if tids else None
    return found
