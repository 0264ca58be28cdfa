"""Optimisers of PyTorch by their names."""

import pytest
import torch
from basicsr.models.base_model import BaseModel

from kdsr.errors import UserError
from kdsr.lifecycle.optimisers import get_optimizer, list_optimisers


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD', 'NAdam'])
def test_basicsr_builds_any_optimiser_of_pytorch(name):
    """BasicSR 1.4.2 raises NotImplementedError for all but Adam."""
    optimiser = BaseModel.get_optimizer(None, name, [torch.nn.Parameter(torch.ones(2))], lr=0.5, weight_decay=0.25)
    assert type(optimiser) is getattr(torch.optim, name)
    assert (optimiser.defaults['lr'], optimiser.defaults['weight_decay']) == (0.5, 0.25)


def test_unknown_names_and_arguments_are_refused():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    with pytest.raises(UserError, match=r"'AdamV'\. Did you mean"):
        get_optimizer(None, 'AdamV', parameters, lr=1e-3)
    with pytest.raises(UserError, match='SGD refuses its arguments'):
        get_optimizer(None, 'SGD', parameters, lr=1e-3, betas=[0.9, 0.99])
    assert 'LBFGS' not in list_optimisers()
