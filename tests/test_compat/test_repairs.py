"""Each repair has a test that fails without it. `original_*` are BasicSR's own functions, found behind the repairs."""

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import basicsr.train
import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util
from basicsr.utils import options as basicsr_options
from basicsr.utils.registry import ARCH_REGISTRY

from kdsr import replacements
from kdsr.compat import imports
from kdsr.errors import UserError
from kdsr.lifecycle import resuming
from tests.conftest import network_opt

ROOT = Path(__file__).parents[2]


def python(code):
    """Run code in a fresh interpreter; return (status, stdout, last line of stderr)."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.strip(), done.stderr.strip().split('\n')[-1]


def test_basicsr_alone_does_not_import_here_and_does_after_kdsr():
    """functional_tensor is gone from every torchvision that fits torch 2.13; operators may be broken besides."""
    status, _, error = python('import basicsr')
    assert status != 0
    assert 'functional_tensor' in error or 'torchvision::' in error
    status, out, error = python('import kdsr, basicsr; print(basicsr.__version__)')
    assert (status, error) == (0, '')
    assert out.startswith('1.4')


class BrokenTorchvision:
    """An import hook whose torchvision describes operators that nobody defined, as a CUDA build does on a CPU torch."""

    def __init__(self, *operators, error='operator torchvision::{} does not exist'):
        self.operators, self.error = operators, error

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == 'torchvision' else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        for operator in self.operators:
            if not hasattr(torch.ops.torchvision, operator):
                raise RuntimeError(self.error.format(operator))


@pytest.fixture
def without_torchvision(monkeypatch):
    for name in [n for n in sys.modules if n.split('.')[0] == 'torchvision']:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures('without_torchvision')
def test_missing_operators_are_declared_one_after_the_other(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [BrokenTorchvision('demo_a', 'demo_b'), *sys.meta_path])
    with pytest.raises(RuntimeError, match='demo_a does not exist'):
        importlib.import_module('torchvision')
    assert imports.repair_torchvision_operators() == ['torchvision::demo_a', 'torchvision::demo_b']
    del sys.modules['torchvision']


@pytest.mark.usefixtures('without_torchvision')
def test_other_errors_of_torchvision_are_not_swallowed(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [BrokenTorchvision('demo_c', error='something else'), *sys.meta_path])
    with pytest.raises(RuntimeError, match='something else'):
        imports.repair_torchvision_operators()


def test_import_repairs_leave_alone_what_works(monkeypatch):
    assert imports.repair_torchvision_operators() == []  # already imported and healthy by now
    own = types.ModuleType('torchvision.transforms.functional_tensor')
    monkeypatch.setitem(sys.modules, 'torchvision.transforms.functional_tensor', own)
    assert imports.repair_functional_tensor() is False
    assert sys.modules['torchvision.transforms.functional_tensor'] is own
    assert imports.repair_ndimage_filters() is False


def test_a_scipy_without_its_filters_module_gets_it_back(monkeypatch):
    monkeypatch.delitem(sys.modules, 'scipy.ndimage.filters', raising=False)
    monkeypatch.setattr(imports.importlib.util, 'find_spec', lambda name: None)
    assert imports.repair_ndimage_filters() is True
    from scipy.ndimage.filters import convolve  # BasicSR's own line

    assert callable(convolve)
    monkeypatch.delitem(sys.modules, 'scipy.ndimage.filters')


def test_a_python_without_distutils_gets_what_basicsr_takes_from_it(monkeypatch):
    for name in ('distutils', 'distutils.version'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(imports.importlib.util, 'find_spec', lambda name: None)
    assert imports.repair_distutils() is True
    from distutils.version import LooseVersion  # BasicSR's own line

    assert LooseVersion('0.28.0+cpu') >= LooseVersion('0.9.0')
    assert not LooseVersion('0.8.1') >= LooseVersion('0.9.0')
    assert imports.repair_distutils() is False
    for name in ('distutils', 'distutils.version'):
        monkeypatch.delitem(sys.modules, name)


def test_a_swinir_is_built_without_a_warning():
    build = f'from basicsr.archs import build_network; build_network({network_opt("SwinIR")!r})'
    for between, warned in (('', False), ('warnings.resetwarnings(); ', True)):
        code = f'import warnings, kdsr, basicsr; {between}{build}'
        done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
        assert ('meshgrid' in done.stderr) is warned


def test_a_second_import_changes_nothing():
    before = (BaseModel.validation, basicsr.train.parse_options, dist_util.init_dist)
    replacements.install()
    assert before == (BaseModel.validation, basicsr.train.parse_options, dist_util.init_dist)


def test_the_registry_names_close_words_and_says_nothing_when_all_is_well(capsys):
    ARCH_REGISTRY.get('EDSR')
    with pytest.raises(UserError, match=r"no arch is called 'ESDR'.*Did you mean .*'EDSR'"):
        ARCH_REGISTRY.get('ESDR')
    assert capsys.readouterr().out == ''


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


def test_the_newest_state_is_found_by_number(tmp_path):
    for name in ('900.state', '1000.state', 'latest.state', '2000.state.partial'):
        (tmp_path / name).touch()
    assert resuming.list_states(str(tmp_path)) == [str(tmp_path / '1000.state'), str(tmp_path / '900.state')]
    assert resuming.list_states(str(tmp_path / 'nowhere')) == []


def test_a_hostile_training_state_is_not_run(workspace):
    class Hostile:
        def __reduce__(self):
            return print, ('pwned',)

    state = workspace.root / '1.state'
    torch.save({'iter': 1, 'x': Hostile()}, state)
    opt = {'auto_resume': False, 'path': {'resume_state': str(state), 'training_states': str(workspace.root)}}
    with pytest.raises(UserError, match=r'1\.state.*nothing in it was run'):
        basicsr.train.load_resume_state(opt)


def distributed_call(monkeypatch, gpus):
    calls = []
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: calls.append(('device', device)))
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda **kw: calls.append(('backend', kw['backend'])))
    monkeypatch.setattr(dist_util.mp, 'set_start_method', lambda method: None)
    monkeypatch.setenv('RANK', '5')
    monkeypatch.setenv('LOCAL_RANK', '1')
    return calls


def test_distributed_runs_start_on_a_cpu(monkeypatch):
    calls = distributed_call(monkeypatch, gpus=0)
    basicsr_options.init_dist('pytorch')
    assert calls == [('backend', 'gloo')]
    with pytest.raises(ZeroDivisionError):
        dist_util.init_dist.__wrapped__('pytorch')


def test_on_gpus_the_backend_stays_and_the_local_rank_picks_the_device(monkeypatch):
    calls = distributed_call(monkeypatch, gpus=4)
    dist_util.init_dist('pytorch')
    assert ('backend', 'nccl') in calls
    assert calls[-1] == ('device', 1)


def test_a_network_is_wrapped_for_distributed_training_on_a_cpu(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': True})
        net = model.model_to_device(torch.nn.Conv2d(3, 3, 1))
        assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 4, 4)
        assert isinstance(net, torch.nn.parallel.DistributedDataParallel)
        if not torch.cuda.is_available():
            with pytest.raises((AssertionError, RuntimeError)):
                BaseModel.model_to_device.__wrapped__(model, torch.nn.Conv2d(3, 3, 1))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(('dist', 'workers', 'asked', 'expected'), [
    (True, 2, None, True), (True, 2, False, False), (True, 0, True, False), (False, 2, None, False),
])  # fmt: skip
def test_loader_processes_survive_the_epoch_of_a_distributed_run(dist, workers, asked, expected):
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': workers}
    if asked is not None:
        dataset_opt['persistent_workers'] = asked
    loader = basicsr.train.build_dataloader(list(range(4)), dataset_opt, num_gpu=0, dist=dist, seed=0)
    assert loader.persistent_workers is expected
    assert 'persistent_workers' not in dataset_opt or asked is not None


def test_threads_of_a_prefetcher_get_an_iterator_each():
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu'}
    loader = basicsr.train.build_dataloader(list(range(4)), dataset_opt, num_gpu=0, dist=True, seed=0)
    assert loader.persistent_workers is False


def test_a_distributed_run_validates_the_bare_network():
    seen = []
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False, 'train': {'total_iter': 1}})
    bare = torch.nn.Conv2d(1, 1, 1)
    model.net_g = wrapped = torch.nn.DataParallel(bare)
    model.nondist_validation = lambda *args: seen.append(model.net_g)
    model.validation(None, 1, None)
    assert seen == [bare]
    assert model.net_g is wrapped


@pytest.mark.parametrize('param_key', [None, 'params', 'params_ema'])
def test_bare_weights_are_loaded_whatever_key_is_asked_for(tmp_path, param_key):
    source, target = torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1)
    torch.save(source.state_dict(), tmp_path / 'bare.pth')
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False})
    model.load_network(target, str(tmp_path / 'bare.pth'), True, param_key)
    assert torch.equal(source.weight, target.weight)
    if param_key:
        with pytest.raises(KeyError):
            BaseModel.load_network.__wrapped__(model, target, str(tmp_path / 'bare.pth'), True, param_key)


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
