"""Metrics of pyiqa, by a package that stands in for it; where pyiqa is installed, by itself too."""

import csv
import importlib
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric

from kdsr import options, pyiqa_metric
from kdsr.checks.experiment import find_problems
from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.options.metrics import direction_of_metric, fill_direction, find_metric_problems
from kdsr.pyiqa_facts import read_pyiqa_facts
from kdsr.pyiqa_metric import calculate_pyiqa, prepare_metrics
from tests.conftest import network_opt
from tests.helpers import pyiqa_stand_in

LPIPS = {'type': 'calculate_pyiqa', 'metric': 'lpips'}


@pytest.fixture
def pyiqa(tmp_path, monkeypatch):
    pyiqa_stand_in.install(tmp_path / 'site', monkeypatch)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    pyiqa_metric._build.cache_clear()
    yield
    pyiqa_metric._build.cache_clear()
    for name in [name for name in sys.modules if name.split('.')[0] == 'pyiqa']:
        del sys.modules[name]


@pytest.fixture
def no_pyiqa(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyiqa', None)
    pyiqa_metric._build.cache_clear()


def problems_of(metric, kind='PairedImageDataset'):
    opt = {'datasets': {'val': {'name': 'Set5', 'type': kind}}, 'val': {'metrics': {'m': metric}}}
    return {problem.path: problem.text for problem in find_metric_problems(opt)}


def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (24, 20, 3), np.uint8) for _ in range(2)]


def test_pyiqa_itself_says_the_direction(pyiqa):
    assert fill_direction(dict(LPIPS))['better'] == 'lower'
    assert direction_of_metric({'type': 'calculate_pyiqa', 'metric': 'loaded'}) == 'higher'  # its name does not
    assert fill_direction({**LPIPS, 'metric': 'musiq'}) == {**LPIPS, 'metric': 'musiq'}
    assert 'worst network' in problems_of({**LPIPS, 'better': 'higher'})['val', 'metrics', 'm', 'better']


def test_what_pyiqa_cannot_do_is_found_in_the_option_file(pyiqa):
    assert problems_of(LPIPS) == {}
    assert "Did you mean 'lpips'" in problems_of({**LPIPS, 'metric': 'lpip'})['val', 'metrics', 'm', 'metric']
    assert 'whole sets' in problems_of({**LPIPS, 'metric': 'fid'})['val', 'metrics', 'm', 'metric']
    assert 'has no ground truth' in problems_of(LPIPS, 'SingleImageDataset')['datasets', 'val', 'type']
    assert problems_of({**LPIPS, 'metric': 'musiq'}, 'SingleImageDataset') == {}


def test_without_pyiqa_there_is_the_line_that_installs_it(no_pyiqa):
    assert read_pyiqa_facts() is None
    assert 'pip install -e ".[pyiqa]"' in problems_of(LPIPS)['val', 'metrics', 'm']
    assert direction_of_metric(LPIPS) == 'lower'
    with pytest.raises(UserError, match=r'pip install -e "\.\[pyiqa\]"'):
        calculate_pyiqa(images()[0], 'musiq')


def test_images_arrive_as_rgb_in_0_to_1_without_their_border(pyiqa):
    image, gt = images()
    inside = np.abs(image.astype(float) - gt)[3:-3, 3:-3].mean((0, 1)) / 255  # blue, green, red
    expected = inside @ [100, 10, 1]
    found = calculate_metric({'img': image, 'img2': gt}, {**LPIPS, 'crop_border': 3, 'better': 'lower'})
    assert found == pytest.approx(expected, rel=1e-5)
    luminance = [one[..., 0].astype(np.float32) for one in (image, gt)]
    grey = np.abs(luminance[0] - luminance[1]).mean() / 255 * 111
    assert calculate_pyiqa(luminance[0], 'lpips', luminance[1]) == pytest.approx(grey, rel=1e-5)
    with pytest.raises(UserError, match='compares with a ground truth'):
        calculate_pyiqa(image, 'lpips')


def test_random_numbers_of_the_training_stay_and_equal_images_have_equal_values(pyiqa):
    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    expected = draw()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    image = images()[0]
    first = calculate_pyiqa(image, 'musiq')  # builds it, too
    assert draw() == expected
    assert calculate_pyiqa(image, 'musiq') == first


def test_missing_weights_are_named_with_their_source_and_place_and_never_fetched(pyiqa, tmp_path, monkeypatch, capfd):
    metric = {**LPIPS, 'metric': 'loaded'}
    ((name, text),) = prepare_metrics({'m': metric, 'other': LPIPS, 'psnr': {'type': 'calculate_psnr'}})
    place = tmp_path / 'hub' / 'hub' / 'checkpoints' / 'net-1234abcd.pth'
    assert name == 'm'
    assert f'Place it as {place} (TORCH_HOME' in text
    assert pyiqa_stand_in.URL in text
    assert 'download: true' in text
    assert 'Downloading' not in ''.join(capfd.readouterr())

    def fetch(url, dst, *args, **kwargs):
        raise OSError('no route to host')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    with pytest.raises(UserError, match=r'net-1234abcd.*The download failed: no route to host'):
        calculate_pyiqa(images()[0], 'loaded', download=True)


def test_a_file_of_weights_runs_no_code(pyiqa, tmp_path):
    class Code:
        def __reduce__(self):
            return Path.touch, (tmp_path / 'ran',)

    (tmp_path / 'bad.pth').write_bytes(pickle.dumps(Code()))
    with pytest.raises(UserError, match="pyiqa cannot build 'loaded'"):
        calculate_pyiqa(images()[0], 'loaded', weights=str(tmp_path / 'bad.pth'))
    assert not (tmp_path / 'ran').exists()
    torch.save({}, tmp_path / 'good.pth')
    assert 0 < calculate_pyiqa(images()[0], 'loaded', weights=str(tmp_path / 'good.pth')) < 1
    with pytest.raises(UserError, match=r'gone\.pth, are missing'):
        calculate_pyiqa(images()[0], 'loaded', weights='gone.pth')
    with pytest.raises(UserError, match='KeyError'):
        calculate_pyiqa(images()[0], 'musiq', settings={'net': 'impossible'})


def test_a_check_finds_missing_weights_and_wrong_arguments_before_a_run(pyiqa, workspace):
    opt = workspace.options()
    opt['val']['metrics'] = {'a': {**LPIPS, 'metric': 'loaded'}, 'b': dict(LPIPS)}
    found = find_problems(options.read(workspace.write(opt)), is_train=True)
    assert [p.path for p in found if p.kind != options.WARNING] == [('val', 'metrics', 'a')]
    assert [p.kind for p in found if p.path == ('val', 'metrics', 'a')] == [options.MISSING]
    opt['val']['metrics'] = {'a': {**LPIPS, 'weigths': 'x.pth'}, 'b': {'type': 'calculate_pyiqa'}}
    texts = [problem.text for problem in find_problems(options.read(workspace.write(opt)), is_train=True)]
    assert any("Did you mean 'weights'" in text for text in texts)
    assert any('needs `metric:`' in text for text in texts)


@pytest.mark.parametrize('model_type', ['StudentModel', 'SRModel'])
def test_a_training_keeps_the_network_with_the_lowest_value(pyiqa, workspace, model_type, monkeypatch):
    """The values of the three validations are made up: the second is the lowest."""
    values = iter([0.5, 0.5, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9])  # the last one is validated again at the end
    monkeypatch.setattr(importlib.import_module('pyiqa').Metric, 'forward', lambda self, *images: next(values))
    opt = workspace.options(iterations=3)
    opt['model_type'] = model_type
    if model_type == 'SRModel':  # distilled: kdsr wraps its step
        opt['distillation'] = {'teachers': [workspace.teacher('RCAN')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    opt['datasets']['val'] = workspace.images(count=2, name='two')
    opt['val'] = {'val_freq': 1, 'metrics': {'lpips': LPIPS}}
    folder = workspace.train(opt)
    log = next(folder.glob('train_*.log')).read_text()
    assert 'lpips 0.2000 at iteration 2' in log
    best, second = (torch.load(folder / 'models' / f'net_g_{n}.pth', weights_only=True)['params'] for n in ('best', 2))
    assert all(torch.equal(best[key], second[key]) for key in second)


def test_a_benchmark_measures_more_metrics_with_their_direction(pyiqa, workspace):
    sets = workspace.images(count=2, size=40)['dataroot_gt']
    network, weights = network_opt('EDSR'), workspace.weights(network_opt('EDSR'), 'w')
    command = ['benchmark', 'bicubic', weights, '--network', str(network), '--sets', sets, '--scale', '2']
    main([*command, '--metrics', 'lpips', 'musiq', '--out', 'scores', '--lr-cache', 'lr'])
    report = Path('scores/benchmark.md').read_text()
    assert '| x2, lpips (lower is better) |' in report
    assert '| x2, musiq (higher is better) |' in report
    assert 'lpips: lpips of pyiqa 9.9' in report
    rows = list(csv.DictReader(Path('scores/benchmark.csv').read_text().splitlines()))
    of_images = [float(row['lpips']) for row in rows if row['model'] == 'bicubic' and row['image'] != 'mean']
    mean = next(float(row['lpips']) for row in rows if row['model'] == 'bicubic' and row['image'] == 'mean')
    assert mean == pytest.approx(sum(of_images) / len(of_images))
    assert mean > 0
    with pytest.raises(SystemExit):
        main([*command, '--metrics', 'loaded', '--out', 'more', '--lr-cache', 'lr'])


class TestWithPyiqa:
    """Run where pyiqa is installed."""

    @pytest.fixture(autouse=True)
    def _installed(self, tmp_path, monkeypatch):
        pytest.importorskip('pyiqa')
        monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
        monkeypatch.setattr('pyiqa.utils.download_util.DEFAULT_CACHE_DIR', str(tmp_path / 'hub' / 'pyiqa'))
        pyiqa_metric._build.cache_clear()

    def test_its_own_facts_are_read(self):
        facts = read_pyiqa_facts()
        assert (facts['lpips'].lower_is_better, facts['lpips'].needs_gt) == (True, True)
        assert (facts['musiq'].lower_is_better, facts['musiq'].needs_gt) == (False, False)
        assert facts['fid'].of_sets

    def test_psnr_of_the_colours_is_that_of_its_definition(self):
        image, gt = images()
        error = np.mean((image.astype(float) - gt) ** 2)
        assert calculate_pyiqa(image, 'psnr', gt) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)

    def test_every_missing_file_is_named_and_lpips_runs_when_they_are_placed(self, tmp_path):
        from torchvision.models import squeezenet1_1

        image, gt = images()
        settings = {'net': 'squeeze'}
        files = []
        for _ in range(3):
            try:
                value = calculate_pyiqa(image, 'lpips', gt, settings=settings)
            except UserError as error:
                place = Path(str(error).split('Place it as ')[1].split(' (TORCH_HOME')[0])
                files.append(place.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                lins = {f'lin{i}.model.1.weight': torch.rand(1, n, 1, 1) for i, n in enumerate(
                    (64, 128, 256, 384, 384, 512, 512))}  # fmt: skip
                torch.save(lins if 'LPIPS' in place.name else squeezenet1_1(weights=None).state_dict(), place)
        assert files == ['squeezenet1_1-b8a52dc0.pth', 'LPIPS_v0.1_squeeze-4a5350f2.pth']
        assert value > 0
        assert calculate_pyiqa(image, 'lpips', image, settings=settings) == pytest.approx(0, abs=1e-6)
