"""What overlap is, and which split of the work comes nearest to it. Plain arithmetic, without torch."""
from __future__ import annotations

import dataclasses

LEAST_BALANCE = 0.5  # neither side below half of the other
LEAST_EFFICIENCY = 0.9


@dataclasses.dataclass(frozen=True)
class Sides:
    """Milliseconds that a step's work takes on either side by itself: the host tier, and weights and windows."""
    cpu_ms: float
    gpu_ms: float

    @property
    def balance(self) -> float:
        """The shorter side over the longer one."""
        return min(self.cpu_ms, self.gpu_ms) / max(self.cpu_ms, self.gpu_ms)

    def efficiency(self, step_ms: float) -> float:
        """What a step that hid the shorter side behind the longer one would take, over what it took."""
        return max(self.cpu_ms, self.gpu_ms) / step_ms

    def times(self, factor: float) -> Sides:
        return Sides(self.cpu_ms * factor, self.gpu_ms * factor)


@dataclasses.dataclass(frozen=True)
class Candidate:
    batch: int
    budget: float | None  # None: the selector has none
    sides: Sides | None  # None: not measured, since there is no other

    def __str__(self) -> str:
        given = f"batch {self.batch}" + ("" if self.budget is None else f", budget {self.budget:g}")
        return given if self.sides is None else f"{given}: cpu {self.sides.cpu_ms:.2f} ms, gpu {self.sides.gpu_ms:.2f} ms"

    def report(self) -> dict:
        return {"batch": self.batch, "budget": self.budget, **({} if self.sides is None else dataclasses.asdict(self.sides))}


def choose(candidates: list[Candidate]) -> tuple[Candidate, str]:
    """The candidate whose sides are nearest to each other, the larger budget among equals; and why."""
    if len(candidates) == 1:
        return candidates[0], f"given: {candidates[0]}"
    best = max(candidates, key=lambda each: (each.sides.balance, each.budget or 0))
    why = (f"nearest to balance among {len(candidates)}: {best}, the shorter side is {100 * best.sides.balance:.0f} % of the "
           "longer one")
    if best.sides.balance < LEAST_BALANCE:
        way = "a smaller --batch or --budget" if best.sides.cpu_ms > best.sides.gpu_ms else "a larger --batch or --budget"
        why += f"; none keeps both sides above half of the other: {way} would come nearer"
    return best, why


def judge(sides: Sides, step_ms: float) -> dict:
    """What is reported of a way to run a step."""
    efficiency = sides.efficiency(step_ms)
    return {"cpu_ms": sides.cpu_ms, "gpu_ms": sides.gpu_ms, "cpu_over_gpu": sides.cpu_ms / sides.gpu_ms, "step_ms": step_ms,
            "balance": sides.balance, "overlap_efficiency": efficiency,
            "goal_met": efficiency >= LEAST_EFFICIENCY and sides.balance >= LEAST_BALANCE}
