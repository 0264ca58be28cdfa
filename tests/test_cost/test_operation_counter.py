"""The arithmetic of single operations, counted by hand."""

import pytest
import torch
from torch.nn import functional as F

from kdsr.cost.operation_counter import CONVOLUTION, HALF, OTHER, PRODUCT, OperationCounter, count_flop


def counted(work, *shapes, dtype=torch.float32):
    """Run `work` on meta tensors with gradients; return its operations with arithmetic."""
    tensors = [torch.empty(shape, device='meta', dtype=dtype, requires_grad=True) for shape in shapes]
    with OperationCounter() as counter, counter.counted_as('all'):
        work(*tensors)
    return counter.operations['all']


@pytest.mark.parametrize('groups', [1, 4])
def test_both_gradients_of_a_grouped_convolution_cost_as_much_as_its_forward_pass(groups):
    """2 x 3 pixels, 8 to 12 channels, kernel 3x3: 12 * (8 / groups) * 9 multiply-adds at each of 2 * 30 pixels."""
    operations = counted(
        lambda x, w: F.conv2d(x, w, padding=1, groups=groups).sum().backward(), (2, 8, 5, 6), (12, 8 // groups, 3, 3)
    )
    forward = 2 * 2 * 30 * 12 * (8 // groups) * 9
    assert sorted(o.flop for o in operations if o.kind == CONVOLUTION) == [forward, 2 * forward]


def test_a_transposed_convolution_is_counted_at_its_input():
    operations = counted(lambda x, w: F.conv_transpose2d(x, w, stride=2), (1, 4, 5, 6), (4, 3, 2, 2))
    assert count_flop([operations]) == 2 * 30 * 4 * 3 * 4


@pytest.mark.parametrize(
    ('work', 'shapes', 'expected'),
    [
        (torch.mm, [(2, 3), (3, 5)], 2 * 2 * 3 * 5),
        (torch.bmm, [(4, 2, 3), (4, 3, 5)], 2 * 4 * 2 * 3 * 5),
        (torch.addmm, [(2, 5), (2, 3), (3, 5)], 2 * 2 * 3 * 5),
        (torch.baddbmm, [(4, 2, 5), (4, 2, 3), (4, 3, 5)], 2 * 4 * 2 * 3 * 5),
        (lambda a, b, c: a.detach().addmm_(b, c), [(2, 5), (2, 3), (3, 5)], 2 * 2 * 3 * 5),
        (lambda a, b, c: a.detach().baddbmm_(b, c), [(4, 2, 5), (4, 2, 3), (4, 3, 5)], 2 * 4 * 2 * 3 * 5),
    ],
)
def test_matrix_products(work, shapes, expected):
    (operation,) = (o for o in counted(work, *shapes) if o.flop)
    assert (operation.kind, operation.flop) == (PRODUCT, expected)


def test_half_precision_and_operations_without_arithmetic():
    operations = counted(torch.mm, (2, 3), (3, 5), dtype=torch.bfloat16)
    assert {(o.kind, o.flop, o.moved) for o in operations} == {(HALF, 60, 2 * (6 + 15 + 10))}
    operations = counted(torch.relu, (2, 3))
    assert {(o.kind, o.flop, o.moved) for o in operations} == {(OTHER, 0, 4 * (6 + 6))}


def test_an_expanded_tensor_is_read_once():
    operations = counted(lambda x: torch.relu(x.expand(2, 3)), (1, 1))
    assert {(o.kind, o.flop, o.moved) for o in operations} == {(OTHER, 0, 4 * (1 + 6))}
