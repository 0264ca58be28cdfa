"""EDVR's deformable convolutions come from the compiled part of torchvision, which some installations cannot load."""

import pytest
import torchvision

from kdsr.checks.networks import find_network_problems
from kdsr.experiment import read_experiment
from tests.conftest import network_opt

EDVR = {
    'type': 'EDVR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_frame': 3, 'deformable_groups': 2,
    'num_extract_block': 1, 'num_reconstruct_block': 1, 'hr_in': False, 'with_predeblur': False, 'with_tsa': True,
}  # fmt: skip


@pytest.mark.parametrize(
    ('network', 'loads', 'found'), [(EDVR, False, True), (EDVR, True, False), (None, False, False)]
)
def test_a_missing_operation_is_reported_before_the_first_step(workspace, monkeypatch, network, loads, found):
    monkeypatch.setattr(torchvision.extension, '_has_ops', lambda: loads)
    opt = workspace.options(model_type='EDVRModel' if network else 'SRModel', scale=4)
    opt['network_g'] = network or network_opt('EDSR', 4)
    problems = list(find_network_problems(read_experiment(opt, is_train=True)))
    assert bool(problems) == found
    if found:
        assert problems[0].path == ('network_g', 'type')
        assert 'EDVR needs the deformable convolution of torchvision' in problems[0].text
