"""Experiments that between them come by every part of a training, for the stand-in device."""

from basicsr.models.base_model import BaseModel

from kdsr.data.teacher_cache import make_cache
from kdsr.distillation.views import VIEW_REGISTRY
from kdsr.models.student_model import StudentModel
from tests.conftest import network_opt
from tests.helpers import stand_in

DEVICE = stand_in.register()
ITERATIONS = 3
POINTS = {
    'early': {'student': 'body.0', 'teacher': 'body.1', 'from': 'rcan'},
    'trunk': {'student': 'conv_after_body', 'teacher': 'conv_after_body', 'from': 'edsr'},
}
IMAGES = {
    'l_kd': {'type': 'ResponseLoss'}, 'l_dwt': {'type': 'WaveletLoss'}, 'l_dct': {'type': 'DCTLoss'},
    'l_fft': {'type': 'FFTLoss'}, 'l_csd': {'type': 'CSDLoss', 'extractor': 'identity'},
}  # fmt: skip
FEATURES = {
    'l_fit': {'type': 'FitNetLoss'}, 'l_at': {'type': 'AttentionTransferLoss'}, 'l_fakd': {'type': 'FAKDLoss'},
    'l_lsfd': {'type': 'LSFDLoss'}, 'l_vid': {'type': 'VIDLoss'},
    'l_facd': {'type': 'FACDLoss', 'layer_weights': [0.6, 0.4]},
}  # fmt: skip
DECODER = {'type': 'FSRCNN', 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
HOURGLASS = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': DECODER, 'num_feat': 8, 'num_shrink': 4}


def record_steps(monkeypatch):
    """Return a list that collects what the steps of a training wait for and upload.

    That is in the steps after the first one, and in the passes of validations on sizes that were there before."""
    found, seen = [], set()
    original, run = StudentModel.optimize_parameters, StudentModel.test

    def optimize_parameters(self, current_iter):
        with stand_in.recorded() as events:
            original(self, current_iter)
        if current_iter > 1:
            found.extend([*events[0], *events[1]])

    def test(self):
        with stand_in.recorded() as events:
            run(self)
        if self.lq.shape in seen:  # a network may keep what belongs to a size
            found.extend([*events[0], *events[1]])
        seen.add(self.lq.shape)

    monkeypatch.setattr(StudentModel, 'optimize_parameters', optimize_parameters)
    monkeypatch.setattr(StudentModel, 'test', test)
    return found


def on_device(monkeypatch, device):
    monkeypatch.setattr(BaseModel, 'device', property(lambda self: device, lambda self, chosen: None), raising=False)


def distilled(workspace, names=('EDSR',), student='EDSR', **block):
    opt = workspace.options(student, model_type='DistillationModel', iterations=ITERATIONS)
    teachers = [workspace.teacher(name) for name in names]
    opt['distillation'] = {'health_check': False, 'teachers': teachers, 'losses': IMAGES, **block}
    return opt


def all_image_losses(workspace):
    views = {
        'in': {'type': 'ZoomIn', 'count': 2, 'consistency': 0.5},
        'out': {'type': 'ZoomOut', 'consistency': 0.5},
    }
    assert {view['type'] for view in views.values()} == {name for name, _ in VIEW_REGISTRY}
    return distilled(workspace, ['EDSR', 'SwinIR'], views=views)


def all_feature_losses(workspace):
    return distilled(workspace, ['EDSR', 'RCAN'], features=POINTS, losses=FEATURES)


def features_without_images(workspace):
    return distilled(workspace, ['EDSR', 'RCAN'], features=POINTS, losses={'l_fit': {'type': 'FitNetLoss'}})


def teacher_options(workspace):
    opt = distilled(workspace, features=None, losses=IMAGES)
    opt['distillation'].pop('features')
    opt['distillation']['teachers'] = [
        workspace.teacher('EDSR', precision='bf16', channels_last=True),
        workspace.teacher('RCAN', device='standin:0', precision='fp16'),
    ]
    return opt


def fused(workspace):
    network = network_opt('DCTSwin')
    weights = workspace.weights(network, 'fusion', teachers=['edsr', 'swinir'])
    return distilled(workspace, ['EDSR', 'SwinIR'], aggregator={'network': network, 'path': weights})


def stage_one(workspace):
    opt = distilled(workspace, ['EDSR', 'RCAN'], losses=None)
    opt.update(model_type='AggregationModel', network_g=network_opt('DCTSwin'))
    return opt


def cached(workspace):
    opt = distilled(workspace, ['EDSR', 'RCAN'], cache={'path': 'cache.raw', 'margin': 2})
    opt['datasets']['train'].update(gt_size=48)
    make_cache(opt, progress=False)
    return opt


def privileged(workspace):
    opt = workspace.options(model_type='PrivilegedTeacherModel', network_g=HOURGLASS, color='y', iterations=ITERATIONS)
    opt['train']['imitation_opt'] = {'type': 'L1Loss', 'loss_weight': 1e-4, 'reduction': 'mean'}
    return opt


def pisr(workspace):
    opt = workspace.options(
        model_type='DistillationModel', network_g={**DECODER, 'upscale': 2}, color='y', iterations=ITERATIONS
    )
    teacher = {'name': 't', 'network': HOURGLASS, 'path': workspace.weights(HOURGLASS, 'hourglass'), 'input': 'gt'}
    opt['distillation'] = {
        'health_check': False,
        'teachers': [teacher],
        'init_from': {'teacher': 't', 'module': 'decoder'},
        'features': {'f': {'student': 'shrinking', 'teacher': 'decoder.shrinking'}},
        'losses': {'l_vid': {'type': 'VIDLoss'}},
    }
    return opt


def pisr_from_codes(workspace):
    opt = pisr(workspace)
    opt['distillation']['cache'] = 'codes.raw'
    opt['datasets']['train'].update(gt_size=48, use_hflip=False, use_rot=False)
    make_cache(opt, progress=False)
    return opt


def faster(workspace, **train):
    opt = all_feature_losses(workspace)
    opt['train'].update(train)
    return opt


def careful(workspace):
    """Everything that looks at numbers and gradients."""
    opt = faster(workspace, accumulate=2, clip_grad_norm=0.5, skip_nonfinite=2)
    opt['datasets']['train']['batch_size_per_gpu'] = 4  # a contrast needs two samples in each part
    return opt


def low_precision(workspace):
    return faster(workspace, amp='bf16', channels_last=True)


def half_precision(workspace):
    return faster(workspace, amp='fp16')


def window_transformer(workspace):
    opt = distilled(workspace, ['SwinIR'], student='SwinIRLight')
    opt['datasets']['val'] = workspace.images(name='odd', size=44)
    return opt


def in_quadrants(workspace):
    opt = workspace.options(model_type='StudentModel', iterations=ITERATIONS)
    opt['val']['quadrants'] = True
    return opt
