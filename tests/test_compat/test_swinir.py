"""BasicSR's SwinIR on images of other sizes than its configured one."""

import copy

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinTransformerBlock, window_partition

from tests.conftest import network_opt


def expected_mask(size, window, shift):
    """Label the nine regions that the shift brings together; tokens of other labels are 100 too small to be seen."""
    height, width = size
    rows, columns = (torch.tensor([(i >= n - window) + (i >= n - shift) for i in range(n)]) for n in (height, width))
    labels = window_partition((3 * rows[:, None] + columns).float().view(1, height, width, 1), window).flatten(1)
    return -100.0 * (labels[:, None] != labels[:, :, None])


@pytest.fixture
def network():
    return build_network(copy.deepcopy(network_opt('SwinIR'))).eval()


def block_of(network):
    return next(m for m in network.modules() if isinstance(m, SwinTransformerBlock) and m.shift_size)


def test_the_mask_is_swins_and_is_made_once_a_size(network):
    block = block_of(network)
    mask = block.calculate_mask((8, 12))
    assert torch.equal(mask, expected_mask((8, 12), block.window_size, block.shift_size))
    assert block.calculate_mask((8, 12)) is mask
    assert not torch.equal(block.calculate_mask((12, 8)), mask)


def test_a_mask_from_validation_serves_the_training(network):
    with torch.inference_mode():
        network(torch.rand(1, 3, 20, 12))
    network(torch.rand(1, 3, 20, 12)).mean().backward()


def test_weights_that_are_loaded_do_not_change_the_kept_masks(network):
    size = block_of(network).input_resolution
    kept = block_of(network).calculate_mask(size).clone()
    state = {k: torch.zeros_like(v) if 'attn_mask' in k else v for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    assert torch.equal(block_of(network).calculate_mask(size), kept)


def test_the_mask_is_where_the_network_is(network):
    assert block_of(network.to('meta')).calculate_mask((8, 12)).device.type == 'meta'
