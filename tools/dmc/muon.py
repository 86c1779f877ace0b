"""Muon (momentum, orthogonalised by five Newton-Schulz steps) for the matrices of a small model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor


def orthogonalise(x: Tensor) -> Tensor:
    """Moves the singular values of every matrix of x (..., rows, columns), rows <= columns, close to 1."""
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


class Muon:
    """Updates `parameters`, all of them matrices, in place."""

    def __init__(self, parameters: Sequence[Tensor], momentum: float = 0.95, weight_decay: float = 0.02,
                 product: torch.dtype = torch.float32):
        self.parameters, self.product = list(parameters), product
        self.momentum, self.weight_decay = momentum, weight_decay
        self.moments = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], learning_rate: float) -> None:
        by_size: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p, moment, grad in zip(self.parameters, self.moments, grads):
            moment.lerp_(grad, 1 - self.momentum)
            update = grad.lerp(moment, self.momentum)
            update = update.mT if p.shape[0] > p.shape[1] else update
            by_size[tuple(update.shape)].append((p, update))
        for pairs in by_size.values():
            updates = orthogonalise(torch.stack([u for _, u in pairs]).to(self.product)).float()
            for (p, _), update in zip(pairs, updates):
                tall = p.shape[0] > p.shape[1]
                p.mul_(1 - learning_rate * self.weight_decay)
                p.add_(update.mT if tall else update, alpha=-learning_rate * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)

    def state(self) -> list[Tensor]:
        return self.moments

    def load_state(self, moments: Sequence[Tensor]) -> None:
        for own, other in zip(self.moments, moments):
            own.copy_(other)
