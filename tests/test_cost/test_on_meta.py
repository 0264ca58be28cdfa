"""Low precision on the meta device: the types that autocast gives on a GPU."""

import pytest
import torch
from torch.nn import functional as F

from kdsr.cost.on_meta import autocast_on_meta


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_products_are_low_and_sums_are_single(dtype):
    x, weight = torch.empty(2, 3, device='meta'), torch.empty(5, 3, device='meta')
    with autocast_on_meta():
        assert F.linear(x, weight).dtype == torch.float32
        with torch.autocast('cuda', dtype):
            low = F.linear(x, weight)
            assert low.dtype == dtype
            assert torch.relu(low).dtype == dtype
            assert torch.softmax(low, 1).dtype == low.sum().dtype == F.l1_loss(low, low).dtype == torch.float32
            with torch.autocast('cuda', enabled=False):
                assert F.linear(x, weight).dtype == torch.float32
        assert F.linear(x, weight).dtype == torch.float32
