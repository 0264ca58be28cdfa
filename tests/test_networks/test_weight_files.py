"""Files of weights: which network they are of, and that nothing beside them runs."""

import sys
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY

import kdsr
from kdsr.errors import UserError
from kdsr.networks.candidates import find_candidates
from tests.conftest import network_opt

MODULE = """
from basicsr.archs.edsr_arch import EDSR
from basicsr.utils.registry import ARCH_REGISTRY
open('code_was_run', 'w').close()
@ARCH_REGISTRY.register()
class Downloaded(EDSR):
    pass
"""


@pytest.fixture
def download(workspace, monkeypatch):
    """A run of another person: checkpoint, option file and module in one folder."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    Path('downloaded_archs.py').write_text(MODULE)
    models = Path('run/models')
    models.mkdir(parents=True)
    torch.save({'params': build_network(network_opt('EDSR')).state_dict()}, models / 'net_g_latest.pth')
    network = {**network_opt('EDSR'), 'type': 'Downloaded'}
    workspace.write({'name': 'run', 'import_modules': ['downloaded_archs'], 'network_g': network}, 'run/run.yml')
    yield str(models / 'net_g_latest.pth')
    ARCH_REGISTRY._obj_map.pop('Downloaded', None)
    sys.modules.pop('downloaded_archs', None)


@pytest.mark.parametrize('use', [kdsr.load_network, lambda path: find_candidates([path])])
def test_an_option_file_beside_a_checkpoint_imports_nothing(download, use):
    with pytest.raises(UserError, match=r'run/run\.yml, which lies beside .* nothing was imported.*--network run/run'):
        use(download)
    assert not Path('code_was_run').exists()


def test_an_option_file_that_the_user_names_may_import(download):
    (one,) = find_candidates([download], network='run/run.yml')
    assert type(one.network).__name__ == 'Downloaded'
    assert Path('code_was_run').exists()


def test_imports_that_the_network_does_not_need_are_left_out(download, workspace):
    opt = {'name': 'run', 'import_modules': ['downloaded_archs'], 'network_g': network_opt('EDSR')}
    workspace.write(opt, 'run/run.yml')
    assert type(kdsr.load_network(download)).__name__ == 'EDSR'
    assert not Path('code_was_run').exists()
