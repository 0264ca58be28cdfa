"""The steps and validations of a run. `__wrapped__` is BasicSR's own function."""

import torch
from basicsr.models.base_model import BaseModel


def test_a_distributed_run_validates_the_bare_network():
    seen = []
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False, 'train': {'total_iter': 1}})
    bare = torch.nn.Conv2d(1, 1, 1)
    model.net_g = wrapped = torch.nn.DataParallel(bare)
    model.nondist_validation = lambda *args: seen.append(model.net_g)
    model.validation(None, 1, None)
    assert seen == [bare]
    assert model.net_g is wrapped


def test_the_last_validation_is_logged_under_the_last_iteration():
    seen = []
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False, 'train': {'total_iter': 40}})
    model.nondist_validation = lambda dataloader, current_iter, *rest: seen.append(current_iter)
    model.validation(None, 41, None)
    model.validation(None, 10, None)
    BaseModel.validation.__wrapped__(model, None, 41, None)
    assert seen == [40, 10, 41]
    model.is_train = False
    model.validation(None, 'a name', None)  # test.py passes the experiment's name
    assert seen[-1] == 'a name'
