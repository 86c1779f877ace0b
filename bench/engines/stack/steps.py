"""A decode step of the stack in its ways, and each side's work by itself: what is timed. All leave the batch's tokens
appended, or not, as `appends` says; streams are idle before and after."""
from __future__ import annotations

import time
from typing import Callable, Iterable

from .lanes import Lane

Hook = Callable[[Lane, int], None]  # after a layer's attention of a lane


def weights_alone(lanes: list[Lane]) -> None:
    """With two lanes, weights are read twice: once for each half, and as in a step not by both at the same time, so that
    neither finds in a cache what the other one has just read."""
    before = lanes[-1]
    for index in range(lanes[0].num_segments):
        for lane in lanes:
            lane.follow(before)
            lane.segment(index)
            before = lane


def attention_alone(lanes: list[Lane], hook: Hook | None = None) -> None:
    for layer in range(lanes[0].num_segments - 1):
        for lane in lanes:
            lane.calls[layer].append.run()
            lane.calls[layer].attend.run()
            if hook is not None:
                hook(lane, layer)


def attention_under_way(lanes: list[Lane], hook: Hook | None = None) -> None:
    """As attention_alone(), by begun calls: those of all lanes are under way at once."""
    for layer in range(lanes[0].num_segments - 1):
        for lane in lanes:
            lane.begin(layer)
        for lane in lanes:
            lane.wait(layer)
            if hook is not None:
                hook(lane, layer)


def host_tier_alone(lanes: list[Lane]) -> None:
    for layer in range(lanes[0].num_segments - 1):
        for lane in lanes:
            lane.calls[layer].append.run()
            lane.calls[layer].host.run()


def windows_alone(lanes: list[Lane]) -> None:
    """Of the latest tokens that there are."""
    for layer in range(lanes[0].num_segments - 1):
        for lane in lanes:
            lane.calls[layer].window.run()


def step(lane: Lane, hook: Hook | None = None) -> None:
    """The whole batch: weights wait for attention, and attention for weights."""
    lane.segment(0)
    for layer, calls in enumerate(lane.calls):
        calls.append.run()
        calls.attend.run()
        if hook is not None:
            hook(lane, layer)
        lane.segment(layer + 1)


def ping_pong_step(lanes: list[Lane]) -> None:
    """Two half batches: while the host attends for one, the GPU multiplies for the other."""
    for lane in lanes:
        lane.segment(0)
        lane.begin(0)
    last = lanes[0].num_segments - 2
    for layer in range(last + 1):
        for lane in lanes:
            lane.wait(layer)
            lane.segment(layer + 1)
            if layer < last:
                lane.begin(layer + 1)


def seconds_of(work: Callable[[], None], lanes: Iterable[Lane]) -> float:
    """Wall clock of `work` and of what it has launched on the lanes' streams."""
    start = time.perf_counter()
    work()
    for lane in lanes:
        lane.synchronize()
    return time.perf_counter() - start
