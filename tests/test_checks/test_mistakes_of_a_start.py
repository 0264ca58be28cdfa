"""`kdsr check` finds every mistake that the start of a run, or its first steps, would find."""

import random
import shutil

import numpy as np
import pytest
import torch

from kdsr import options
from kdsr.authoring.option_check import check_option_files
from kdsr.checks.experiment import find_problems
from kdsr.cli import main
from tests.conftest import network_opt


def distillation(workspace, losses=None, features=None, **changes):
    opt = workspace.options(model_type='DistillationModel')
    opt['distillation'] = {
        'teachers': [workspace.teacher('RCAN')],
        'features': features or {},
        'losses': losses or {'l_kd': {'type': 'ResponseLoss'}},
    }
    return {**opt, **changes}


def report(workspace, opt, *overrides, **how):
    """The report of a check without its warnings, and whether a run would start."""
    text, fine = check_option_files([workspace.write(opt)], overrides, **how)
    return text, fine


@pytest.mark.parametrize(
    ('loss', 'text'),
    [
        ({'type': 'ResponseLoss', 'loss_weight': '0.1'}, "not the text '0.1': write it without quotes."),
        ({'type': 'ResponseLoss', 'loss_weight': 'high'}, "`loss_weight` must be a number, not the text 'high'."),
        ({'type': 'WaveletLoss', 'loss_weight': 'half'}, "`loss_weight` must be a number, not the text 'half'."),
        ({'type': 'FitNetLoss', 'loss_weight': True}, '`loss_weight` must be a number, not True.'),
        ({'type': 'WaveletLoss', 'level': '2'}, "`level` must be a whole number, not the text '2'"),
        ({'type': 'WaveletLoss', 'level': 1.5}, '`level` must be a whole number, not 1.5.'),
        ({'type': 'ResponseLoss', 'loss_weight': -0.1}, 'must be at least 0, is -0.1: the training would enlarge'),
    ],
)
def test_a_weight_that_is_no_factor_is_named_with_its_line(workspace, loss, text):
    told, fine = report(workspace, distillation(workspace, {'l_kd': loss}), files=False)
    assert not fine
    (line,) = [line for line in told.splitlines() if text in line]
    assert line.strip().startswith('run.yml:')
    assert 'distillation.losses.l_kd.' in line


@pytest.mark.parametrize('weight', ['0.1', 'high', -1.0])
def test_the_weights_of_basicsrs_losses_are_judged_too(workspace, weight):
    opt = workspace.options()
    opt['train']['pixel_opt']['loss_weight'] = weight
    told, fine = report(workspace, opt, files=False)
    assert not fine
    assert 'train.pixel_opt.loss_weight: ' in told


def test_the_weights_of_layers_are_numbers(workspace):
    opt = workspace.options()
    opt['train']['perceptual_opt'] = {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': '1'}}
    told, fine = report(workspace, opt, files=False)
    assert not fine
    assert "`layer_weights` must hold numbers, not the text '1': write it without quotes." in told


@pytest.mark.parametrize(
    ('key', 'value', 'text'),
    [
        ('num_feat', '64', "EDSR: `num_feat` must be a number, not the text '64': write it without quotes."),
        ('num_block', [3], '`num_block` must be a number, not [3].'),
        ('num_in_ch', 'three', 'EDSR refuses its arguments'),
    ],
)
def test_an_argument_of_a_network_of_a_wrong_type_is_named(workspace, key, value, text):
    opt = workspace.options()
    opt['network_g'][key] = value
    told, fine = report(workspace, opt, files=False)
    assert not fine
    assert text in told


def test_numbers_that_basicsr_writes_otherwise_are_fine(workspace):
    """EDSR's default is `res_scale=1`, and 0.1 is what its papers use."""
    opt = workspace.options()
    opt['network_g'].update(res_scale=0.1, img_range=255)
    told, fine = report(workspace, opt, files=False)
    assert fine
    assert 'network_g' not in told


def facd(workspace, weights):
    taps = {f'f{i}': {'student': f'body.{i}', 'teacher': f'body.{i}'} for i in range(2)}
    return distillation(workspace, {'l_facd': {'type': 'FACDLoss', 'layer_weights': weights}}, taps)


def test_two_features_and_three_weights_show_in_the_trial_step(workspace):
    opt = facd(workspace, [1.0, 1.0, 1.0])
    told, fine = report(workspace, opt)
    assert not fine
    assert 'distillation.losses.l_facd: ' in told
    assert '3' in told
    assert report(workspace, opt, quick=True)[1]
    assert report(workspace, facd(workspace, [1.0, 1.0]))[1]


def test_what_the_trial_step_says_is_what_a_start_says(workspace):
    opt = facd(workspace, [1.0, 1.0, 1.0])
    told = report(workspace, opt)[0]
    with pytest.raises(ValueError) as refused:
        workspace.train(opt)
    assert str(refused.value).splitlines()[0] in told


@pytest.mark.parametrize(
    ('batch', 'accumulate', 'path'),
    [(1, 1, 'datasets.train.batch_size_per_gpu'), (2, 2, 'train.accumulate'), (2, 1, None), (4, 2, None)],
)
def test_a_batch_of_one_has_nothing_to_contrast(workspace, monkeypatch, batch, accumulate, path):
    opt = facd(workspace, [1.0, 1.0])
    opt['datasets']['train']['batch_size_per_gpu'], opt['train']['accumulate'] = batch, accumulate
    told, fine = report(workspace, opt, files=False)
    assert fine == (path is None)
    if path is not None:
        assert f'{path}: FACDLoss contrasts the samples of a batch with each other, and 1 sample at a time' in told
        monkeypatch.setenv('WORLD_SIZE', '2')  # it gathers the samples of all processes
        assert report(workspace, opt, files=False)[1]


def test_a_batch_of_one_is_little_for_csd(workspace):
    opt = distillation(workspace, {'l_csd': {'type': 'CSDLoss', 'extractor': 'identity'}})
    opt['datasets']['train']['batch_size_per_gpu'] = 1
    told, fine = report(workspace, opt, files=False)
    assert fine
    assert 'CSDLoss contrasts the samples' in told


def test_weights_of_another_architecture_are_named_and_quick_leaves_them_out(workspace):
    opt = distillation(workspace)
    opt['distillation']['teachers'][0]['path'] = workspace.weights(network_opt('EDSR'), 'other')
    told, fine = report(workspace, opt)
    assert not fine
    assert 'distillation.teachers[0].path: ' in told
    assert report(workspace, opt, quick=True)[1]


def test_weights_of_other_settings_are_named(workspace):
    opt = distillation(workspace)
    smaller = {**network_opt('RCAN'), 'num_feat': 4, 'squeeze_factor': 2}
    opt['distillation']['teachers'][0]['path'] = workspace.weights(smaller, 'smaller')
    told, fine = report(workspace, opt)
    assert not fine
    assert 'rcan (RCAN): only ' in told
    assert 'of another size' in told


def test_first_weights_of_other_settings_are_named_unless_they_may_differ(workspace):
    path = workspace.weights({**network_opt('EDSR'), 'num_block': 5}, 'deeper')
    opt = workspace.options(path={'pretrain_network_g': path, 'strict_load_g': True})
    assert not report(workspace, opt)[1]
    opt['path']['strict_load_g'] = False
    assert report(workspace, opt)[1]


def test_an_official_file_is_sent_to_kdsr_convert(workspace):
    """E-RFDN's official names, as far as they are recognised, in the place of RFDN's."""
    from kdsr.archs import official_checkpoints

    assert official_checkpoints.FAMILIES
    official = {f'body.{i}.body.{j}.{kind}': torch.zeros(shape) for i in range(2) for j in (0, 2)
                for kind, shape in (('weight', (8, 8, 3, 3)), ('bias', (8,)))}  # fmt: skip
    official |= {'head.0.weight': torch.zeros(8, 3, 3, 3), 'head.0.bias': torch.zeros(8),
                 'body.2.weight': torch.zeros(8, 8, 3, 3), 'body.2.bias': torch.zeros(8),
                 'tail.0.0.weight': torch.zeros(32, 8, 3, 3), 'tail.0.0.bias': torch.zeros(32),
                 'tail.1.weight': torch.zeros(3, 8, 3, 3), 'tail.1.bias': torch.zeros(3),
                 'sub_mean.weight': torch.eye(3)[..., None, None], 'sub_mean.bias': torch.zeros(3),
                 'add_mean.weight': torch.eye(3)[..., None, None], 'add_mean.bias': torch.zeros(3)}  # fmt: skip
    torch.save(official, 'EDSR_official.pt')
    opt = distillation(workspace)
    network = {**network_opt('EDSR'), 'num_block': 2}
    opt['distillation']['teachers'] = [{'name': 'edsr', 'network': network, 'path': 'EDSR_official.pt'}]
    told, fine = report(workspace, opt)
    assert not fine
    assert 'It is an EDSR in the names of its authors: run `kdsr convert EDSR_official.pt --out NEW.pth`' in told


def test_keys_of_other_distillation_code_are_sent_to_kdsr_distil(workspace):
    told, fine = report(workspace, {**workspace.options(), 'network_t': network_opt('RCAN')}, files=False)
    assert not fine
    assert '`kdsr distil FILE` translates files of other distillation code' in told


@pytest.mark.parametrize('kind', ['folders', 'raw'])
def test_swapped_sets_are_called_swapped(workspace, kind):
    opt = workspace.options()
    train = opt['datasets']['train']
    train['dataroot_gt'], train['dataroot_lq'] = train['dataroot_lq'], train['dataroot_gt']
    if kind == 'raw':
        folder = workspace.root / 'photos' / 'HR'
        shutil.copytree(workspace.root / 'photos' / 'gt', folder)
        cut = ['--crop-size', '24', '--step', '24', '--workers', '1']
        main(['prepare', str(folder), '--out', 'data', '--scale', '2', '--raw', *cut])
        train.update(type='RawPairedImageDataset', gt_size=8, dataroot_lq='data/HR_sub.raw',
                     dataroot_gt='data/LR_bicubic_X2_sub.raw')  # fmt: skip
        del train['io_backend']
    told, fine = report(workspace, opt)
    assert not fine
    assert 'dataroot_lq and dataroot_gt are swapped: ' in told
    assert 'Exchange the two folders.' in told


def test_another_scale_is_not_called_swapped(workspace):
    opt = workspace.options()
    opt['datasets']['train']['dataroot_lq'] = workspace.images(scale=4, name='x4')['dataroot_lq']
    told, fine = report(workspace, opt)
    assert not fine
    assert 'swapped' not in told


def scale_line(workspace, top, *overrides):
    base = workspace.write(workspace.options(), 'base.yml')
    (workspace.root / 'top.yml').write_text(f'base: {base}\n{top}')
    found = find_problems(options.read(str(workspace.root / 'top.yml'), overrides), files=False)
    return [str(problem.place) for problem in found if 'make them agree' in problem.text]


def test_a_scale_that_does_not_fit_is_shown_where_the_user_wrote_it(workspace):
    assert scale_line(workspace, 'name: top\nscale: 4\n') == ['top.yml:3']
    assert scale_line(workspace, 'network_g: {upscale: 4}\n') == ['top.yml:2']
    assert scale_line(workspace, 'name: top\n', 'scale=4') == ['--force_yml']
    assert scale_line(workspace, 'name: top\n', 'network_g:upscale=4') == ['--force_yml']


def test_the_command_has_a_quick_form(workspace, capsys):
    opt = facd(workspace, [1.0, 1.0, 1.0])
    for words, status in (([], 1), (['--quick'], 0), (['--options-only'], 0)):
        with pytest.raises(SystemExit) as done:
            main(['check', workspace.write(opt), *words])
        assert done.value.code == status
    assert '1 file is fine' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['colour', 'luminance'])
def test_a_teacher_that_is_worse_than_bicubic_is_named_as_a_start_names_it(workspace, kind):
    """A teacher with random weights, as a file of another task would be."""
    opt = distillation(workspace)
    if kind == 'luminance':
        opt['color'] = 'y'
        network = {'type': 'FSRCNN', 'upscale': 2, 'num_in_ch': 1}
        opt['network_g'] = network
        opt['distillation']['teachers'] = [
            {'name': 'rcan', 'network': network, 'path': workspace.weights(network, 'grey')}
        ]
    opt['distillation']['health_check'] = True
    told, fine = report(workspace, opt)
    assert not fine
    assert "run.yml: teacher 'rcan' reaches " in told
    assert 'less than bicubic upsampling' in told
    assert report(workspace, opt, quick=True)[1]
    opt['distillation']['health_check'] = False
    assert report(workspace, opt)[1]


def test_a_good_teacher_is_fine_and_the_trial_changes_no_random_numbers(workspace, monkeypatch):
    monkeypatch.setattr('kdsr.distillation.health._refuse_worse_than_bicubic', lambda errors, slack: None)
    opt = distillation(workspace)
    opt['distillation']['health_check'] = True
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert report(workspace, opt)[1]
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_a_missing_file_is_named_with_the_close_names_beside_it(workspace):
    opt = workspace.options()
    opt['datasets']['train']['dataroot_gt'] = str(workspace.root / 'photos' / 'lq')
    opt['path']['pretrain_network_g'] = 'EDSR_x3.pth'
    workspace.weights(network_opt('EDSR'), 'EDSR_x2')
    told, fine = report(workspace, opt)
    assert not fine
    assert "photos/lq (did you mean 'lq2'?)" in told
    assert "EDSR_x3.pth (did you mean 'EDSR_x2.pth'?)" in told
