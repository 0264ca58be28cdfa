"""`kdsr train`, `kdsr test`, `kdsr run`, and the other ways to start the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdsr.cli import main
from tests.conftest import reset_logger

ROOT = Path(__file__).parents[1]


def start(*command, cwd):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def log():
    reset_logger()
    yield
    reset_logger()


@pytest.mark.parametrize('form', [['train', 'run.yml'], ['train', '-opt', 'run.yml']])
def test_train_runs_an_option_file(workspace, log, form):
    workspace.write(workspace.options())
    before = list(sys.argv)
    main([*form, '--force_yml', 'name=named_here'])
    assert (workspace.root / 'experiments/named_here/models/net_g_latest.pth').is_file()
    assert sys.argv == before


def test_test_runs_an_option_file(workspace, log):
    opt = workspace.options()
    opt['datasets'] = {'test_1': opt['datasets']['val']}
    opt['path'] = {'pretrain_network_g': workspace.weights(opt['network_g'], 'weights')}
    workspace.write({key: value for key, value in opt.items() if key != 'train'})
    reset_logger()  # the network that made the weights has set it up
    main(['test', 'run.yml'])
    assert 'psnr: ' in next((workspace.root / 'results/run').glob('test_*.log')).read_text()


@pytest.mark.parametrize('words', [['train'], ['train', 'a.yml', '-opt', 'b.yml']])
def test_one_option_file_is_needed(words, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(words)
    assert 'name one option file' in capsys.readouterr().err


MY_LOSS = """
from basicsr.utils.registry import LOSS_REGISTRY
from torch import nn

@LOSS_REGISTRY.register()
class MyLoss(nn.L1Loss):
    def __init__(self, loss_weight):
        super().__init__()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    'entry',
    [['-c', 'import sys; sys.path = [p for p in sys.path if p]; from kdsr.cli import main; main()', 'train', 'run.yml'],
     ['-m', 'kdsr', 'train', 'run.yml'], ['-m', 'kdsr.train', '-opt', 'run.yml'],
     [str(ROOT / 'kdsr/train.py'), '-opt', 'run.yml']],
    ids=['kdsr train', 'python -m kdsr', 'python -m kdsr.train', 'python kdsr/train.py'],
)  # fmt: skip
def test_import_modules_looks_in_the_current_folder(workspace, entry):
    (workspace.root / 'my_loss.py').write_text(MY_LOSS)
    opt = workspace.options(import_modules=['my_loss'])
    opt['train']['pixel_opt'] = {'type': 'MyLoss', 'loss_weight': 1.0}
    workspace.write(opt)
    done = start(*entry, cwd=workspace.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (workspace.root / 'experiments/run/models/net_g_latest.pth').is_file()


SCRIPT = """
import sys
from multiprocessing import Pool

from basicsr.archs import build_network
from basicsr.utils import scandir
from helper import BESIDE


def parameters(width):
    return sum(p.numel() for p in build_network({'type': 'RFDN', 'upscale': 2, 'num_feat': width}).parameters())


if __name__ == '__main__':
    with Pool(2) as pool:
        print(sys.argv[1:], BESIDE, pool.map(parameters, [8, 8]), sorted(scandir('.', recursive=False)))
"""


@pytest.mark.slow
@pytest.mark.parametrize('entry', [['-m', 'kdsr.run'], ['-m', 'kdsr', 'run']])
def test_run_starts_a_script_that_imports_basicsr(workspace, entry):
    folder = workspace.root / 'scripts'
    folder.mkdir()
    (folder / 'script.py').write_text(SCRIPT)
    (folder / 'helper.py').write_text('BESIDE = "beside"')
    done = start(*entry, 'scripts/script.py', '--input', 'x', cwd=workspace.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['--input', 'x'] beside [")


def test_run_says_which_script_is_missing():
    with pytest.raises(SystemExit, match=r"no script 'nowhere\.py'"):
        main(['run', 'nowhere.py'])
