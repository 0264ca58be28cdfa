"""How BasicSR reads its option file and command line. `__wrapped__` is BasicSR's own function."""

import sys

import basicsr.train
import pytest
from basicsr.utils import options as basicsr_options

from kdsr.errors import UserError


def test_the_yaml_loader_that_basicsr_uses_is_safe_and_reads_scientific_numbers():
    import yaml

    loader = basicsr_options.ordered_yaml()[0]
    assert yaml.load('lr: 1e-4', Loader=loader) == {'lr': 1e-4}
    with pytest.raises(yaml.YAMLError):
        yaml.load('!!python/object/apply:os.getcwd []', Loader=loader)
    assert yaml.load('lr: 1e-4', Loader=yaml.Loader) == {'lr': '1e-4'}  # what BasicSR reads unrepaired


@pytest.mark.parametrize('word', ['--local-rank=0', '--local_rank=0'])
def test_both_spellings_of_local_rank_and_typed_overrides(workspace, monkeypatch, word):
    path = workspace.write(workspace.options())
    arguments = ['train.py', '-opt', path, word, '--force_yml', 'train:optim_g:lr=5e-4']
    monkeypatch.setattr(sys, 'argv', arguments)
    opt, args = basicsr.train.parse_options(str(workspace.root))
    assert opt['train']['optim_g']['lr'] == 5e-4
    assert args.local_rank == 0
    assert sys.argv is arguments

    original = basicsr.train.parse_options.__wrapped__
    if word == '--local-rank=0':
        with pytest.raises(SystemExit):
            original(str(workspace.root))
    else:
        with pytest.raises(UserError, match='is not executed'):  # BasicSR would: see the hostile words below
            original(str(workspace.root))


def test_keys_without_a_default_in_basicsr_have_one(workspace, monkeypatch):
    opt = workspace.options()
    del opt['path'], opt['logger'], opt['num_gpu'], opt['val']['save_img']
    monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', workspace.write(opt)])
    parsed, _ = basicsr.train.parse_options(str(workspace.root))
    assert parsed['logger']['print_freq'] == 100
    assert parsed['val']['save_img'] is False
    with pytest.raises(KeyError):
        basicsr.train.parse_options.__wrapped__(str(workspace.root))
