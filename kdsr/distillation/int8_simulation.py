"""int8 in training: the network computes what its int8 export will compute, and learns to live with it.

The scheme is that of `kdsr export --int8` (:mod:`kdsr.deployment.quantisation`): a convolution rounds its input and its
output to 256 levels of a fixed range, and its weights to 129 levels for each output channel. The first and the last
convolution stay in single precision, and so do those whose rounding costs most for the work that it saves, as many as
bring the loss at the start below a budget. Everything else is in single precision.

    x' = s (clamp(round(x / s) + z, 0, 255) - z)       s = (high - low) / 255,  z = round(-low / s)
    w' = t clamp(round(w / t), -64, 64)                t = max |w| / 64 for each output channel
    b' = s t round(b / (s t))

Gradients pass the rounding unchanged (straight through), and are zero outside of the range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from kdsr.errors import UserError

LEVELS = 255  # of an activation, unsigned
WEIGHT_LEVELS = 64  # to each side of zero: seven bits, which no processor's int8 products overflow
OBSERVED = 20  # steps that are watched for the ranges
JUDGED = 4  # of the observed batches, which show what rounding costs
TAIL = 1e-4  # share of the values of a batch that may lie beyond either end of its range
Range = tuple[float, float]


@dataclass(frozen=True)
class ConvRanges:
    """What a convolution's input and output are rounded within: lowest and highest value of each."""

    input: Range
    output: Range


def scale_and_zero(low: float, high: float) -> tuple[float, int]:
    """Return s and z of a range, which is widened to hold 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(torch.tensor((high - low) / LEVELS, dtype=torch.float32))
    return (scale, min(LEVELS, max(0, round(-low / scale)))) if scale > 0 else (1.0, 0)


def quantise_activation(x: Tensor, limits: Range) -> Tensor:
    """Round to the 256 levels of a range; the gradient is that of a clamp."""
    scale, zero = scale_and_zero(*limits)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, LEVELS)


def weight_scales(weight: Tensor) -> Tensor:
    """Return t of each output channel of (C_out, ...), in the shape that divides `weight`; 1 if all weights are 0."""
    largest = weight.detach().abs().flatten(1).amax(1)
    scales = torch.where(largest > 0, largest / WEIGHT_LEVELS, torch.ones_like(largest))
    return scales.view(-1, *[1] * (weight.ndim - 1))


class Int8Simulation:
    """Makes the convolutions of a network compute as in int8, from the step on at which their ranges are known.

    The weights and their names stay as they are. The first :data:`OBSERVED` steps are computed in single precision, and
    show the ranges: of each tensor those that hold all but :data:`TAIL` of a batch's values at either end. Convolutions
    that read or write the same tensor share a range, as in the exported file.

    Args:
        network: Whose convolutions are quantised.
        image: Example of its input, (N, C, h, w).
        budget: PSNR in dB, on the observed batches, that rounding may cost before the network learns to live with it.

    Attributes:
        exact: Convolutions that stay in single precision for this budget.

    Raises:
        UserError: the network has fewer than three convolutions.
    """

    def __init__(self, network: nn.Module, image: Tensor, budget: float = 0.03) -> None:
        self._slots, self._work = _find_slots(network, image)
        self._network, self._budget = network, budget
        self._judged: list[tuple[Tensor, Tensor]] = []
        self.exact: list[str] = []
        self._observed: dict[int, Range] = {}
        self._steps = 0
        self._ranges: dict[str, ConvRanges] = {}
        self.attach(network)

    def attach(self, network: nn.Module) -> None:
        """Let another network of the same layers, such as averaged weights, compute in the same way."""
        for name in self._slots:
            module = network.get_submodule(name)
            assert isinstance(module, nn.Conv2d)
            module._conv_forward = partial(self._run, name, module)  # type: ignore[method-assign]

    def start_step(self, image: Tensor | None = None, gt: Tensor | None = None) -> None:
        """Count a step; after the last observed one, fix the ranges, and choose what stays in single precision.

        Args:
            image: The network's input in this step, (N, C, h, w).
            gt: What its output should be. Without these two all convolutions are rounded.
        """
        if not self._ranges:
            if image is not None and gt is not None:
                self._judged = [*self._judged, (image, gt)][-JUDGED:]
            if self._steps >= OBSERVED:
                self.use({name: [*self._observed[i], *self._observed[o]] for name, (i, o) in self._slots.items()})
                if self._judged:
                    self._keep_sensitive_exact()
        self._steps += 1

    def _keep_sensitive_exact(self) -> None:
        """Leave out the convolutions that cost most for their work, until the others cost no more than the budget.

        The errors of single convolutions add up, nearly, so that each is measured alone.
        """
        every, training = self._ranges, self._network.training
        self._network.eval()
        with torch.no_grad():
            self._ranges = {'': ConvRanges((0.0, 0.0), (0.0, 0.0))}  # of no convolution: nothing is rounded
            plain = [self._network(image) for image, _ in self._judged]
            allowed = _sum_of_squares(plain, [gt for _, gt in self._judged]) * (10 ** (self._budget / 10) - 1)
            costs = {}
            for name in every:
                self._ranges = {name: every[name]}
                costs[name] = _sum_of_squares(plain, [self._network(image) for image, _ in self._judged])
        self._network.train(training)
        order = sorted(every, key=lambda name: costs[name] / self._work[name])
        while len(order) > 1 and sum(costs[name] for name in order) > allowed:
            self.exact.append(order.pop())
        self._ranges = {name: limits for name, limits in every.items() if name in order}
        self._judged = []

    def share_of_work(self) -> float:
        """Return the share of the multiplications between the first and the last convolution that are rounded."""
        return sum(self._work[name] for name in self._ranges) / sum(self._work.values())

    @property
    def is_new(self) -> bool:
        """No step was counted, and no ranges are known."""
        return self._steps == 0 and not self._ranges

    def ranges(self) -> dict[str, list[float]]:
        """Return, for each convolution, the lowest and highest value of input and output; empty while observing."""
        return {name: [*one.input, *one.output] for name, one in self._ranges.items()}

    def use(self, ranges: Mapping[str, list[float]]) -> None:
        """Take over what :meth:`ranges` returned."""
        self._ranges = {name: ConvRanges((four[0], four[1]), (four[2], four[3])) for name, four in ranges.items()}

    def _run(self, name: str, module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        convolve = partial(nn.Conv2d._conv_forward, module)
        if name in self._ranges:
            return _convolve_quantised(convolve, self._ranges[name], x, weight, bias)
        y = convolve(x, weight, bias)
        if module.training and not self._ranges:
            for slot, tensor in zip(self._slots[name], (x, y)):
                self._observe(slot, tensor.detach())
        return y

    def _observe(self, slot: int, tensor: Tensor) -> None:
        low, high = _limits(tensor)
        before = self._observed.get(slot, (0.0, 0.0))
        self._observed[slot] = (min(low, before[0]), max(high, before[1]))


def _convolve_quantised(
    convolve: partial[Tensor], limits: ConvRanges, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    scales = weight_scales(weight)
    rounded = torch.round(weight / scales).clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS) * scales
    weight = weight + (rounded - weight).detach()
    if bias is not None:
        steps = scale_and_zero(*limits.input)[0] * scales.flatten()
        bias = bias + (torch.round(bias / steps) * steps - bias).detach()
    y = convolve(quantise_activation(x, limits.input), weight, bias)
    return quantise_activation(y, limits.output)


def _sum_of_squares(some: list[Tensor], others: list[Tensor]) -> float:
    return sum(float((one - other).square().sum()) for one, other in zip(some, others))


def _limits(tensor: Tensor) -> Range:
    """Return the range that holds all but :data:`TAIL` of the values at either end."""
    values = tensor.float().flatten()
    beyond = min(values.numel(), int(values.numel() * TAIL) + 1)
    low = values.topk(beyond, largest=False).values.max()
    high = values.topk(beyond).values.min()
    return float(low), float(high)


def _find_slots(network: nn.Module, image: Tensor) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Return the convolutions between the first and the last one, each with the numbers of its input and its output.

    The second result is how many multiplications each needs for this image. Tensors that are the same object, unchanged
    in between, have the same number.
    """
    names = {module: name for name, module in network.named_modules()}
    seen: list[tuple[str, Tensor, int, Tensor, int]] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((names[module], inputs[0], inputs[0]._version, output, output._version))

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [module.register_forward_hook(remember) for module in network.modules() if isinstance(module, kinds)]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    if len(seen) < 3:
        raise UserError('`quantise: int8`: the network has too few convolutions for it to be worth while.')
    groups: dict[str, list[tuple[object, object]]] = {}
    for name, x, x_version, y, y_version in seen[1:-1]:
        if isinstance(network.get_submodule(name), nn.Conv2d):
            groups.setdefault(name, []).append(((id(x), x_version), (id(y), y_version)))
    ends = {seen[0][0], seen[-1][0]}
    inner = {name: calls for name, calls in groups.items() if name not in ends}
    work = {}
    for name, _, _, y, _ in seen:
        module = network.get_submodule(name)
        if name in inner and isinstance(module, nn.Conv2d):
            work[name] = y[0, 0].numel() * module.weight.numel()
    return _number(inner), work


def _number(calls: Mapping[str, list[tuple[object, object]]]) -> dict[str, tuple[int, int]]:
    """Give equal tensors, and all tensors that one module reads or writes, one number."""
    numbers: dict[object, int] = {}
    slots: dict[str, list[int]] = {}
    for name, pairs in calls.items():
        slots[name] = []
        for side in (0, 1):
            tensors = [pair[side] for pair in pairs]
            known = {numbers[tensor] for tensor in tensors if tensor in numbers}
            number = min(known, default=len(slots) * 2 + side)
            slots[name].append(number)
            for tensor in [*tensors, *(t for t, n in numbers.items() if n in known)]:
                numbers[tensor] = number
            slots = {one: [number if n in known else n for n in two] for one, two in slots.items()}
    return {name: (pair[0], pair[1]) for name, pair in slots.items()}
