"""PISR, stage 1: the network is shown the ground truth, and its encoder's output resembles the low-quality image."""

import copy

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model

from kdsr.errors import UserError
from tests.conftest import network_opt

DECODER = {'type': 'FSRCNN', 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
TEACHER = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': DECODER, 'num_feat': 8, 'num_shrink': 4}
IMITATION = {'type': 'L1Loss', 'loss_weight': 1e-4, 'reduction': 'mean'}


def options(workspace, imitation=IMITATION, **changes):
    changes = {'network_g': TEACHER, 'color': 'y', **changes}
    opt = workspace.options(model_type='PrivilegedTeacherModel', **changes)
    opt['train']['imitation_opt'] = imitation
    return copy.deepcopy(opt)


def built(workspace, **changes):
    torch.manual_seed(0)
    more = {'dist': False, 'rank': 0, 'world_size': 1, 'is_train': True}
    return build_model({**options(workspace, **changes), **more})


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {'lq': torch.rand(2, 1, 16, 16, generator=generator), 'gt': torch.rand(2, 1, 32, 32, generator=generator)}


def step(model):
    model.feed_data(batch())
    model.optimize_parameters(1)


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def moved(module, before):
    return {k.split('.')[0] for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


def test_the_terms_are_the_papers(workspace):
    model = built(workspace)
    network = copy.deepcopy(model.net_g)
    data = batch()
    step(model)
    log = model.get_current_log()
    with torch.no_grad():
        encoding = network.encoder(data['gt'])
        image = network.decoder(encoding)
    assert set(log) == {'l_pix', 'l_im'}
    assert log['l_pix'] == pytest.approx((image - data['gt']).abs().mean().item(), rel=1e-6)
    assert log['l_im'] == pytest.approx(1e-4 * (encoding - data['lq']).abs().mean().item(), rel=1e-6)


def test_the_imitation_loss_alone_moves_the_encoder_and_without_it_all_moves(workspace):
    model = built(workspace)
    model.cri_pix = None
    before = weights(model.net_g)
    step(model)
    assert moved(model.net_g, before) == {'encoder'}
    model = built(workspace, imitation=None)
    before = weights(model.net_g)
    step(model)
    assert moved(model.net_g, before) == {'encoder', 'decoder'}
    assert set(model.get_current_log()) == {'l_pix'}


def luminance(path):
    return (cv2.imread(str(path)).astype(np.float64) @ [24.966, 128.553, 65.481] / 255 + 16) / 255


def test_it_is_validated_on_the_ground_truth(workspace):
    metrics = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}}
    opt = options(workspace, val={'val_freq': 2, 'save_img': True, 'metrics': metrics})
    opt['train']['ema_decay'] = 0
    folder = workspace.train(opt)
    network = build_network(TEACHER)
    network.load_state_dict(torch.load(folder / 'models' / 'net_g_2.pth', weights_only=True)['params'])
    expected = []
    for i in range(4):
        y = luminance(workspace.root / 'photos' / 'gt' / f'{i:03d}.png')
        with torch.no_grad():
            image = network(torch.from_numpy(y).float()[None, None])[0, 0].clamp(0, 1).mul(255).round().numpy()
        expected.append(10 * np.log10(255**2 / np.mean((image - 255 * y)[2:-2, 2:-2] ** 2)))
        assert cv2.imread(str(folder / 'visualization' / f'{i:03d}' / f'{i:03d}_2.png')).shape == (48, 48, 3)
    log = next(folder.glob('train_*.log')).read_text()
    scored = float(next(line for line in log.splitlines() if '# psnr' in line).split('psnr:')[1].split()[0])
    assert scored == pytest.approx(np.mean(expected), abs=1e-3)
    assert 'l_im: ' in log


def test_ground_truths_of_any_size_are_padded(workspace):
    model = built(workspace)
    model.lq, model.gt = torch.rand(1, 1, 9, 7), torch.rand(1, 1, 19, 15)
    model.test()
    assert model.output.shape == model.gt.shape


def test_ground_truth_of_another_batch_is_never_shown(workspace):
    model = built(workspace)
    model.feed_data(batch())
    model.feed_data({'lq': batch()['lq']})
    with pytest.raises(UserError, match='this batch has none'):
        model.test()


def test_a_teacher_without_hourglass_is_a_network_that_keeps_the_size(workspace):
    model = built(workspace, network_g={**DECODER, 'upscale': 1}, imitation=None)
    step(model)
    assert model.output.shape == (2, 1, 32, 32)


@pytest.mark.parametrize(('changes', 'words'), [
    ({'network_g': {**DECODER, 'upscale': 1}}, 'FSRCNN has no `encoder`'),
    ({'network_g': {**TEACHER, 'upscale': 4}}, r'\(2, 1, 32, 32\) into \(2, 1, 8, 8\) where \(2, 1, 16, 16\)'),
    ({'network_g': {**DECODER, 'upscale': 2}, 'imitation': None}, r'into \(2, 1, 64, 64\) where \(2, 1, 32, 32\)'),
    ({'network_g': {**TEACHER, 'decoder': network_opt('EDSR')}}, r'into \(2, 3, 32, 32\) where \(2, 1, 32, 32\)'),
    ({'network_g': {**TEACHER, 'decoder': {'type': 'CARN'}}}, r'PISRTeacher does not take.*\(2, 1, 32, 32\)'),
    ({'imitation': {'type': 'L1Los'}}, r'train.imitation_opt.type.*L1Loss'),
    ({'imitation': 1e-4}, 'train.imitation_opt: must be a mapping'),
    ({'scale': 3}, r'gt_size: 32 is not a multiple of `scale: 3`; 33 is'),
])  # fmt: skip
def test_mistakes_are_told_before_the_first_iteration(workspace, changes, words):
    with pytest.raises(UserError, match=words):
        built(workspace, **changes)
