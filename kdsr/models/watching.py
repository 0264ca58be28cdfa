"""Checks that losses and gradient are finite, and that the gradient of every loss reaches the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdsr.errors import UserError

GRADIENT = 'the gradient'
SCALE = 'the scale of `amp: fp16`'
COLLAPSED = 2.0**-10  # 26 halvings in a row: no gradient of the run is finite any more
LATEST = 8  # steps after which the numbers of one are waited for
FAR_APART = 100.0  # a term counts for less than 1 %


class NumberWatch:
    """Looks at the numbers of each step without making it wait for the device.

    A GPU copies them to the host while it goes on, and they are looked at one or a few steps later; on a CPU they are
    there at once.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[int, list[str], Tensor, Any]] = deque()

    def note(self, iteration: int, numbers: Mapping[str, Tensor]) -> None:
        """Take the 0-dim tensors of a step."""
        values, event = torch.stack([value.detach().float() for value in numbers.values()]), None
        if values.device.type != 'cpu':
            event = torch.get_device_module(values.device).Event()
            values = torch.empty(values.shape, pin_memory=values.is_cuda).copy_(values, non_blocking=True)
            event.record()
        self._pending.append((iteration, list(numbers), values, event))

    def first_bad(self, wait: bool = False) -> tuple[int, list[str]] | None:
        """Return the first iteration among those arrived that had bad numbers, and their names.

        Args:
            wait: For all of them; otherwise only for numbers that are long overdue.
        """
        while self._pending:
            iteration, names, values, event = self._pending[0]
            if event is not None and not event.query():
                if not wait and len(self._pending) <= LATEST:
                    return None
                event.synchronize()
            self._pending.popleft()
            bad = [name for name, value in zip(names, values.numpy()) if not abs(value) < float('inf')]
            if bad:
                return iteration, bad
        return None


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the Euclidean norm of the gradient as one vector; not finite where any element is not."""
    return vector_norm([p.grad for p in parameters if p.grad is not None])


def vector_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of several tensors as one vector."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))


def collapsed(scale: Tensor) -> Tensor:
    """Return the scale of fp16's gradients, NaN when it is too small for any to be finite."""
    return torch.where(scale < COLLAPSED, torch.nan, scale)


def norms_by_term(terms: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, float | None]:
    """Return the norm of each term's own gradient; None where the term does not depend on the parameters."""
    norms: dict[str, float | None] = {}
    for name, term in terms.items():
        if not term.requires_grad:
            norms[name] = None
            continue
        found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        gradients = [gradient for gradient in found if gradient is not None]
        norms[name] = float(torch.stack(torch._foreach_norm(gradients)).norm()) if gradients else None
    return norms


def check_reach(terms: Mapping[str, Tensor], norms: Mapping[str, float | None]) -> list[str]:
    """Refuse terms from which the network learns nothing; return warnings about those that hardly count.

    A connected term may well have a gradient of zero at first (`loss_weight: 0`, a student that starts as its teacher):
    no warning where its value is zero too.

    Raises:
        UserError: the gradient of a term does not reach the network.
    """
    lost = [name for name, norm in norms.items() if norm is None]
    if lost:
        raise UserError(
            f'the gradient of {", ".join(lost)} does not reach the student: it learns nothing from that. Is the result '
            'of the student detached, rounded or made anew in the loss, or does the loss only see its own helpers or '
            'modules behind which nothing is trained?'
        )
    reached = {name: norm for name, norm in norms.items() if norm}
    warnings = [
        f'the gradient of {name} is zero everywhere in the first step, although its value is not.'
        for name, norm in norms.items()
        if norm == 0 and terms[name].detach() != 0
    ]
    largest = max(reached, key=lambda name: reached[name], default=None)
    for name, norm in reached.items():
        if largest is not None and norm * FAR_APART < reached[largest]:
            warnings.append(
                f'the gradient of {name} is {reached[largest] / norm:.3g} times smaller than that of {largest} in the '
                'first step (less than 1 %), so it hardly counts. If a paper gives these weights, keep them to '
                'reproduce it; otherwise check both values of `loss_weight`.'
            )
    return warnings
