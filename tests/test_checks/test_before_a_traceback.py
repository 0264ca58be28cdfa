"""Mistakes of real option files that `kdsr check` passed, and that ended in a traceback or in wrong numbers."""

import pytest
import torch

from kdsr import options
from kdsr.authoring.distil import distil
from kdsr.authoring.option_check import check_option_files
from kdsr.checks.experiment import find_problems
from kdsr.errors import UserError
from tests.helpers.real_world import VGG_STYLE, with_discriminator


def problems(workspace, opt, is_train=None, *overrides):
    """Return texts by key."""
    found = find_problems(options.read(workspace.write(opt), overrides), is_train)
    return {'.'.join(map(str, p.path)): p.text for p in found if 'milestones' not in p.path}


def test_niqe_on_small_images(workspace):
    opt = workspace.options()
    opt['val']['metrics'] = {'niqe': {'type': 'calculate_niqe', 'crop_border': 2}}
    text = problems(workspace, opt)['datasets.val']
    assert 'two blocks of 96x96 pixels' in text
    assert "'000.png' has 48x48, with a `crop_border` of 2 (4 such images)" in text
    opt['datasets']['val'] = workspace.images(size=192, name='cropped')
    assert '192x192' in problems(workspace, opt)['datasets.val']  # 188x188 pixels are one block
    opt['datasets']['val'] = workspace.images(size=196, name='large')
    assert 'datasets.val' not in problems(workspace, opt)


def test_a_perceptual_loss_whose_file_is_not_there(workspace, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(workspace.root / 'hub'))
    opt = workspace.options()
    opt['train']['perceptual_opt'] = {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1.0}}
    assert 'put it into experiments/pretrained_models/' in problems(workspace, opt)['train.perceptual_opt']
    (workspace.root / 'experiments' / 'pretrained_models').mkdir(parents=True)
    (workspace.root / 'experiments' / 'pretrained_models' / 'vgg19-dcbb9e9d.pth').touch()
    assert 'train.perceptual_opt' not in problems(workspace, opt)


@pytest.mark.parametrize(('crop', 'fits'), [(128, True), (32, False)])
def test_a_vgg_style_discriminator_of_another_size(workspace, crop, fits):
    opt = with_discriminator({**workspace.options(), 'model_type': 'SRGANModel'}, VGG_STYLE)
    opt['datasets']['train'] = {**opt['datasets']['train'], **workspace.images(size=128), 'gt_size': crop}
    found = problems(workspace, opt)
    assert ('takes crops of 128 pixels' in found.get('network_d.input_size', '')) != fits


def test_an_average_of_nothing_is_no_average(workspace):
    """`ema_decay: ~` is compared with 0 by BasicSR: a TypeError."""
    opt = workspace.options()
    opt['train']['ema_decay'] = None
    assert problems(workspace, opt) == {}
    folder = workspace.train(opt)
    assert list(torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)) == ['params']


def options_of_a_test(workspace, **path):
    opt = workspace.options()
    dataset = opt['datasets'].pop('val')
    return {
        **{key: opt[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'network_g', 'val')},
        'datasets': {'test_1': dataset},
        'path': {'strict_load_g': True, **path},
    }


def test_a_test_without_weights(workspace):
    """Random weights were scored without a word."""
    opt = options_of_a_test(workspace, pretrain_network_g=None)
    assert 'random weights' in problems(workspace, opt, False)['path.pretrain_network_g']
    with pytest.raises(UserError, match='random weights'):
        workspace.test(opt)


@pytest.mark.parametrize('template', ['{}', '{0}', '{:s}'])
def test_templates_of_every_legal_form(workspace, template):
    opt = workspace.options()
    opt['datasets']['train']['filename_tmpl'] = template
    assert problems(workspace, opt) == {}
    assert 'datasets.train.filename_tmpl' in problems(workspace, opt, None, 'datasets:train:filename_tmpl=x4')
    del opt['datasets']['train']['filename_tmpl']
    assert problems(workspace, opt, None, f'datasets:train:filename_tmpl={template}') == {}


def test_a_template_with_a_number_finds_its_files(workspace):
    opt = workspace.options()
    for file in (workspace.root / 'photos' / 'lq2').iterdir():
        file.rename(file.with_name(f'{file.stem}x2.png'))
    for phase in ('train', 'val'):
        opt['datasets'][phase]['filename_tmpl'] = '{0}x2'
    assert problems(workspace, opt) == {}
    workspace.train(opt)


def test_a_template_on_the_command_line_is_text(workspace):
    """YAML reads `{}` as an empty mapping."""
    opt = options.read(workspace.write(workspace.options()), ['datasets:val:filename_tmpl={}']).opt
    assert opt['datasets']['val']['filename_tmpl'] == '{}'


# Images of another scale, wherever a run may meet them: 10.95 dB were printed without a word.


@pytest.fixture
def of_scale_4(workspace):
    """Sets of x4; the networks of the workspace are x2."""
    return workspace.images(scale=4, name='other')


def test_validation_images_of_another_scale_stop_a_training(workspace, of_scale_4):
    opt = workspace.options()
    opt['datasets']['val'] = of_scale_4
    assert 'not of scale 2' in problems(workspace, opt)['datasets.val']
    with pytest.raises(UserError, match=r"datasets\.val: the sets are not of scale 2 .*'000\.png'.*which is x4"):
        workspace.train(opt)
    assert not (workspace.root / 'experiments').exists()


def test_test_images_of_another_scale_stop_a_test(workspace, of_scale_4):
    network = workspace.options()['network_g']
    opt = options_of_a_test(workspace, pretrain_network_g=workspace.weights(network, 'student'))
    assert problems(workspace, opt, False) == {}
    opt['datasets']['test_1'] = of_scale_4
    assert 'not of scale 2' in problems(workspace, opt, False)['datasets.test_1']
    with pytest.raises(UserError, match=r"datasets\.test_1: the sets are not of scale 2 .*'000\.png'.*which is x4"):
        workspace.test(opt)


# Taps and model classes.


def distilled(workspace, student_point, teacher_point):
    opt = {**workspace.options(), 'model_type': 'DistillationModel'}
    point = {'student': student_point, 'teacher': teacher_point}
    block = {'teachers': [workspace.teacher('EDSR')], 'features': {'only': point}, 'health_check': False}
    block['losses'] = {'l_fit': {'type': 'FitNetLoss'}}
    return workspace.write({**opt, 'distillation': block})


@pytest.mark.parametrize(('point', 'fits'), [('body.0', True), ('upsample', False)])
def test_the_sizes_of_tapped_maps_are_compared_by_the_check(workspace, point, fits):
    """It said "1 file is fine", and the first iteration ended with maps of two sizes."""
    report, fine = check_option_files([distilled(workspace, 'body.0', point)])
    assert fine == fits, report
    assert ('(2, 8, 16, 16) in the student and (2, 8, 32, 32) in the teacher' in report) != fits


DERIVED = """
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY

@MODEL_REGISTRY.register()
class ModelOfAnotherPackage(SRModel):
    pass
"""


def test_a_model_class_that_derives_from_srmodel_is_distilled(workspace, monkeypatch):
    """HATModel and DATModel were refused: "more than an image loss"."""
    monkeypatch.syspath_prepend(workspace.root)
    (workspace.root / 'derived_model.py').write_text(DERIVED)
    opt = {**workspace.options(), 'model_type': 'ModelOfAnotherPackage', 'import_modules': ['derived_model']}
    network = opt['network_g']
    path = workspace.weights(network, 'teacher')
    torch.save({**torch.load(path, weights_only=True), 'network': network}, path)
    distil(workspace.write(opt, 'mine.yml'), [path], 'kd')
    written = str(workspace.root / 'mine_kd.yml')
    assert options.load(written)['distillation']['losses']['l_kd']['type'] == 'ResponseLoss'
    workspace.train(written, '--force_yml', 'distillation:health_check=false')


def test_keys_that_other_projects_write_are_warnings(workspace):
    """They were errors, in about 110 of 1,010 public files."""
    opt = {**workspace.options(), 'task': 'sr', 'print_network': True, 'x-common': {'a': 1}}
    opt['val']['use_chop'] = True
    opt['logger']['wandb'] = {'project': None, 'resume_id': None, 'entity': 'us'}
    found = [p for p in find_problems(options.read(workspace.write(opt))) if 'milestones' not in p.path]
    assert {p.kind for p in found} == {options.WARNING}
    keys = {'.'.join(map(str, p.path)) for p in found}
    assert keys == {'task', 'print_network', 'x-common', 'val.use_chop', 'logger.wandb.entity'}
