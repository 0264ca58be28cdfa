"""A student without teachers: bit for bit BasicSR's SRModel in colour; on luminance, what PISR's authors do."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.options import parse_options
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from kdsr.errors import UserError
from kdsr.models.saving import SavedModel
from kdsr.models.student_model import StudentModel
from kdsr.models.validation import colour_image

FSRCNN = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}


@ARCH_REGISTRY.register()
class WithBatchNorm(nn.Module):
    """A small network with running statistics, and a constant that is drawn when it is built."""

    def __init__(self, upscale=2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3 * upscale**2, 3, 1, 1), nn.BatchNorm2d(3 * upscale**2))
        self.upsample = nn.PixelShuffle(upscale)
        self.register_buffer('drawn', torch.rand(2))

    def forward(self, x):
        return self.upsample(self.body(x))


def luminance(bgr):
    """Y of BT.601 from 8-bit BGR, in 16..235, not rounded."""
    return bgr.astype(np.float64) @ [24.966 / 255, 128.553 / 255, 65.481 / 255] + 16


def trained(workspace, model_type, **changes):
    folder = workspace.train(workspace.options(name=model_type, model_type=model_type, iterations=3, **changes))
    return torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True), next(folder.glob('train_*.log'))


def test_in_colour_it_is_bit_identical_to_basicsrs_model_in_weights_and_validation(workspace):
    (ours, our_log), (theirs, their_log) = (trained(workspace, m) for m in ('StudentModel', 'SRModel'))
    for key in ('params', 'params_ema'):
        assert all(torch.equal(ours[key][n], theirs[key][n]) for n in theirs[key])
    scores = [[line for line in log.read_text().splitlines() if '# psnr' in line] for log in (our_log, their_log)]
    assert scores[0] == scores[1] != []


def test_the_averaged_network_has_averaged_statistics(workspace):
    """BasicSR leaves mean 0 and variance 1 in it: 23.90 dB were reported where the network had 38.15 dB."""
    opt = workspace.options(model_type='StudentModel', network_g={'type': 'WithBatchNorm', 'upscale': 2})
    opt['train']['ema_decay'] = 0.5
    opt.update(dist=False, rank=0, world_size=1, is_train=True)
    model = build_model(opt)
    expected = {name: value.clone() for name, value in model.net_g.state_dict().items()}
    for iteration in (1, 2, 3):
        model.feed_data({'lq': torch.rand(2, 3, 8, 8) + 3, 'gt': torch.rand(2, 3, 16, 16)})
        model.optimize_parameters(iteration)
        for name, value in model.net_g.state_dict().items():
            averaged = 'drawn' not in name and 'num_batches' not in name
            expected[name] = 0.5 * expected[name] + 0.5 * value if averaged else value.clone()
    saved = model.net_g_ema.state_dict()
    assert saved['body.1.num_batches_tracked'] == 3
    assert saved['body.1.running_mean'].abs().min() > 0
    for name, value in expected.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-5, atol=1e-7)


def test_a_student_that_changes_its_input_leaves_the_batch_as_it_is(workspace, monkeypatch):
    opt = workspace.options(model_type='StudentModel', network_g={'type': 'WithBatchNorm', 'upscale': 2})
    opt.update(dist=False, rank=0, world_size=1, is_train=True)
    model = build_model(opt)
    monkeypatch.setattr(WithBatchNorm, 'forward', lambda self, x: self.upsample(self.body(x.mul_(255))))
    images = torch.rand(2, 3, 8, 8)
    model.feed_data({'lq': images.clone(), 'gt': torch.rand(2, 3, 16, 16)})
    model.optimize_parameters(1)
    model.test()
    assert torch.equal(model.lq, images)


def parsed(workspace, monkeypatch, **changes):
    options = workspace.options(model_type='StudentModel', color='y', network_g=FSRCNN, **changes)
    monkeypatch.setattr('sys.argv', ['train.py', '-opt', workspace.write(options)])
    return parse_options(str(workspace.root), is_train=True)[0]


def test_rgb_becomes_unrounded_studio_range_luminance(workspace, monkeypatch):
    model = build_model(parsed(workspace, monkeypatch))
    rng = np.random.default_rng(0)
    bgr = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    bgr[0, 0, 0] = 255
    rgb = torch.from_numpy(bgr[..., ::-1].copy()).permute(0, 3, 1, 2)
    for images in (rgb, rgb.float() / 255):
        model.feed_data({'lq': images, 'gt': images, 'lq_path': ['a', 'b']})
        np.testing.assert_allclose(model.gt[:, 0].numpy(), luminance(bgr) / 255, atol=2e-7)
        assert torch.equal(model.lq, model.gt)
    assert model.gt[0, 0, 0, 0] == pytest.approx(235 / 255)
    y = torch.rand(1, 1, 8, 8)
    model.feed_data({'lq': y, 'gt': y})
    assert torch.equal(model.gt, y)


def test_uint8_batches_give_the_same_bits_as_basicsrs_floats(workspace, monkeypatch):
    model = build_model(parsed(workspace, monkeypatch))
    model.experiment = replace(model.experiment, luminance=False)
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    model.feed_data({'lq': values})
    assert torch.equal(model.lq, torch.from_numpy(values.numpy().astype(np.float32) / 255.0))


@pytest.mark.parametrize('round_gt', [False, True])
def test_luminance_is_scored_against_the_unrounded_ground_truth_and_written_in_colour(workspace, monkeypatch, round_gt):
    metrics = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}}
    val = {'val_freq': 2, 'save_img': True, 'metrics': metrics, 'round_gt': round_gt}
    opt = parsed(workspace, monkeypatch, val=val)
    folder = workspace.train(str(workspace.root / 'run.yml'))
    weights = torch.load(folder / 'models' / 'net_g_2.pth', weights_only=True)['params_ema']
    network = build_model(opt).net_g_ema.eval()
    network.load_state_dict(weights)
    expected = []
    for i in range(4):
        lq, gt = (cv2.imread(str(workspace.root / 'photos' / kind / f'{i:03d}.png')) for kind in ('lq2', 'gt'))
        y = torch.from_numpy(luminance(lq) / 255).float()[None, None]
        with torch.no_grad():
            sr = network(y)[0, 0].clamp(0, 1).mul(255).round().numpy().astype(np.float64)
        reference = np.round(luminance(gt)) if round_gt else luminance(gt)
        expected.append(10 * np.log10(255**2 / np.mean((sr - reference)[2:-2, 2:-2] ** 2)))
        written = cv2.imread(str(folder / 'visualization' / f'{i:03d}' / f'{i:03d}_2.png'))
        assert written.shape == gt.shape
        assert np.ptp(written.astype(int), axis=2).max() > 20  # in colour
    log = next(folder.glob('train_*.log')).read_text()
    scored = float(next(line for line in log.splitlines() if '# psnr' in line).split('psnr:')[1].split()[0])
    assert scored == pytest.approx(np.mean(expected), abs=1e-3)


class Enlarge(torch.nn.Module):
    """Repeats every pixel."""

    def __init__(self, upscale, num_in_ch=1):
        super().__init__()
        self.upscale = upscale
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.nn.functional.interpolate(self.factor * x, scale_factor=self.upscale)


@pytest.mark.parametrize(('round_gt', 'expected'), [(True, float('inf')), (False, None)])
def test_a_perfect_network_differs_from_the_ground_truth_by_the_rounding_that_is_asked_for(
    workspace, monkeypatch, round_gt, expected
):
    """A network that is right but for its own rounding: only then does the ground truth's rounding show."""
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Enlarge', Enlarge)
    opt = workspace.options(model_type='StudentModel', color='y', network_g={'type': 'Enlarge', 'upscale': 2})
    squares = []
    for i in range(4):
        lq = cv2.imread(str(workspace.root / 'photos' / 'lq2' / f'{i:03d}.png'))
        cv2.imwrite(str(workspace.root / 'photos' / 'gt' / f'{i:03d}.png'), lq.repeat(2, 0).repeat(2, 1))
        y = luminance(lq)[1:-1, 1:-1]  # two pixels are left out at each border
        squares.append(np.mean((y - np.round(y)) ** 2))
    test_set = {**opt['datasets']['val'], 'name': 'set'}
    opt.update(datasets={'test_1': test_set}, val={'round_gt': round_gt, 'metrics': opt['val']['metrics']})
    opt['path']['pretrain_network_g'] = str(workspace.root / 'enlarge.pth')
    torch.save({'params': Enlarge(2).state_dict()}, 'enlarge.pth')
    folder = workspace.test(opt)
    log = next(folder.glob('test_*.log')).read_text()
    scored = float(next(line for line in log.splitlines() if '# psnr' in line).split('psnr:')[1].split()[0])
    expected = expected or np.mean([10 * np.log10(255**2 / square) for square in squares])
    assert scored == pytest.approx(expected, abs=2e-3)


def test_a_batch_without_ground_truth_does_not_keep_that_of_the_batch_before(workspace, monkeypatch):
    model = build_model(parsed(workspace, monkeypatch))
    model.feed_data({'lq': torch.rand(1, 1, 8, 8), 'gt': torch.rand(1, 1, 16, 16)})
    assert model.batch().gt is not None
    model.feed_data({'lq': torch.rand(1, 1, 8, 8)})
    assert model.batch().gt is None


def test_the_best_checkpoint_is_that_of_the_first_validation_set(monkeypatch):
    model = SavedModel.__new__(SavedModel)
    sets = {'train': {'name': 'photos'}, 'val': {'name': 'first'}, 'val_2': {'name': 'second'}}
    model.opt = {'datasets': sets, 'val': {'metrics': {'psnr': {}, 'ssim': {}}}}
    model.best_metric_results = {
        'first': {'psnr': {'iter': 10}, 'ssim': {'iter': 20}},
        'second': {'psnr': {'iter': 20}, 'ssim': {'iter': 20}},
    }
    saved = []
    monkeypatch.setattr(model, 'save_networks', saved.append)
    for name in ('first', 'second'):
        model.keep_if_best(name, 20)
    assert saved == []  # neither for another metric nor for another set
    model.keep_if_best('first', 10)
    assert saved == ['best']


def test_a_colour_image_has_the_luminance_and_the_chroma_that_it_was_given():
    lq = torch.tensor([0.6, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    bgr = np.array([0.3, 0.4, 0.6]) * 255
    image = colour_image(torch.full((1, 1, 8, 8), float(luminance(bgr)) / 255), lq)
    np.testing.assert_allclose(image, np.broadcast_to(bgr, (8, 8, 3)), atol=1)
    brighter = colour_image(torch.full((1, 1, 8, 8), float(luminance(bgr)) / 255 + 0.1), lq)
    np.testing.assert_allclose(brighter.astype(float) - image, 0.1 * 255 * 255 / 219, atol=1.5)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'color': 'yuv'}, "color: must be one of y, is 'yuv'"),
        ({'color': 'y', 'network_g': {**FSRCNN, 'num_in_ch': 3}}, 'network_g.num_in_ch: .*set `num_in_ch: 1`'),
        ({'val': {'round_gt': 'yes', 'metrics': None}}, 'val.round_gt: must be true or false'),
    ],
)
def test_mistakes_are_told(workspace, changes, words):
    with pytest.raises((UserError, SystemExit), match=words):
        workspace.train(workspace.options(model_type='StudentModel', **changes))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_images_that_are_not_finite_are_neither_scored_nor_written(workspace, monkeypatch, value):
    """Rounded to 8 bits they would be black or white images with a PSNR of their own."""
    plain = StudentModel.test
    count = itertools.count()

    def broken(self):
        plain(self)
        if next(count) % 4 == 1:
            self.output[..., 0, 0] = value

    monkeypatch.setattr(StudentModel, 'test', broken)
    metrics = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}}
    options = workspace.options(
        model_type='StudentModel', val={'val_freq': 2, 'save_img': True, 'metrics': metrics}, iterations=2
    )
    folder = workspace.train(options)
    log = next(folder.glob('train_*.log')).read_text()
    assert '# psnr: nan' in log
    assert 'Best: nan' not in log
    assert '001.png is not finite' in log
    written = {path.parent.name for path in folder.glob('visualization/*/*.png')}
    assert written == {'000', '002', '003'}
