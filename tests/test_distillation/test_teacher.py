import pytest
import torch
from torch import nn

from kdsr import options as kdsr_options
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble, build_teachers
from kdsr.errors import UserError
from tests.conftest import network_opt


def options(workspace, *names, **block):
    return {'scale': 2, 'distillation': {'teachers': [workspace.teacher(n) for n in names], **block}}


class Double(nn.Module):
    """Nearest upsampling times a factor: a network whose output is known."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, image):
        return image.repeat_interleave(2, -1).repeat_interleave(2, -2) * self.factor


@pytest.mark.parametrize('name', ['EDSR', 'RCAN', 'SwinIR'])
def test_a_teacher_is_frozen_in_eval_without_graph_and_answers_the_same_twice(workspace, name):
    teacher = build_teachers(options(workspace, name)).train()
    teacher.train(True)
    batch = Batch(torch.rand(2, 3, 8, 8, requires_grad=True))
    first, second = teacher(batch), teacher(batch)
    assert torch.equal(first.sr, second.sr)
    assert not first.sr.requires_grad
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


def test_several_teachers_without_aggregator_give_their_mean():
    teacher = TeacherEnsemble({'a': FrozenNetwork(Double(1)), 'b': FrozenNetwork(Double(0.5))})
    lq = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(teacher(Batch(lq)).sr, Double(0.75)(lq).detach())


def test_images_are_concatenated_teacher_by_teacher_in_the_order_of_the_yaml():
    teacher = TeacherEnsemble({'a': FrozenNetwork(Double(1)), 'b': FrozenNetwork(Double(0.5))})
    lq = torch.rand(1, 3, 4, 4)
    images = teacher.images(Batch(lq))
    assert torch.equal(images[:, :3], Double(1)(lq))
    assert torch.equal(images[:, 3:], Double(0.5)(lq))


def test_an_aggregator_takes_the_images_and_gives_the_target():
    class First(nn.Module):
        def forward(self, images):
            return images[:, :3]

    members = {'a': FrozenNetwork(Double(1)), 'b': FrozenNetwork(Double(0.5))}
    teacher = TeacherEnsemble(members, aggregator=FrozenNetwork(First()))
    lq = torch.rand(1, 3, 4, 4)
    assert torch.equal(teacher(Batch(lq)).sr, Double(1)(lq))


def test_a_privileged_teacher_is_shown_the_ground_truth():
    teacher = TeacherEnsemble({'a': FrozenNetwork(Double(1))}, inputs={'a': 'gt'})
    lq, gt = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8)
    assert torch.equal(teacher(Batch(lq, gt)).sr, Double(1)(gt))
    with pytest.raises(UserError, match="'a' needs the ground truth"):
        teacher(Batch(lq))


@pytest.mark.parametrize('size', [(7, 9), (8, 12), (2, 3)])
def test_window_networks_take_images_of_any_size(workspace, size):
    teacher = build_teachers(options(workspace, 'SwinIR'))
    assert teacher(Batch(torch.rand(1, 3, *size))).sr.shape[-2:] == (size[0] * 2, size[1] * 2)


def test_features_come_from_the_teacher_that_is_named(workspace):
    features = {
        'a': {'student': 'x', 'teacher': 'body.0', 'from': 'edsr'},
        'b': {'student': 'x', 'teacher': 'body.1', 'from': 'rcan'},
    }
    teacher = build_teachers(options(workspace, 'EDSR', 'RCAN', features=features))
    output = teacher(Batch(torch.rand(1, 3, 8, 8)))
    assert set(output.features) == {'a', 'b'}
    assert [list(m.tap.points) for m in teacher.members] == [['a'], ['b']]


def test_weights_are_those_of_the_file_and_a_wrong_file_is_refused(workspace):
    opt = options(workspace, 'EDSR', 'RCAN')
    teacher = build_teachers(opt)
    stored = torch.load(opt['distillation']['teachers'][1]['path'], weights_only=True)['params']
    assert all(torch.equal(v, stored[k]) for k, v in teacher.members[1].network.state_dict().items())
    opt['distillation']['teachers'][0]['path'] = opt['distillation']['teachers'][1]['path']
    with pytest.raises(UserError, match=r'teacher edsr \(EDSR\): only .* of its .* tensors match'):
        build_teachers(opt)


def test_an_aggregator_of_other_teachers_or_order_is_refused(workspace):
    network = network_opt('DCTSwin')
    block = {'aggregator': {'network': network, 'path': workspace.weights(network, 'agg', teachers=['rcan', 'edsr'])}}
    with pytest.raises(UserError, match=r'trained for the teachers rcan, edsr, in this order, but .* are edsr, rcan'):
        build_teachers(options(workspace, 'EDSR', 'RCAN', **block))
    build_teachers(options(workspace, 'RCAN', 'EDSR', **block))


def test_a_teacher_that_brings_its_weights_needs_no_path(workspace):
    pytest.importorskip('spandrel', reason='needs the optional spandrel library')
    swinir = {**network_opt('SwinIR'), 'embed_dim': 12, 'window_size': 8}
    teacher = {'name': 's', 'network': {'type': 'Spandrel', 'path': workspace.weights(swinir, 'swinir')}}
    features = {'early': {'student': 'body.0', 'teacher': 'model.layers.0'}}
    opt = {'scale': 2, 'distillation': {'teachers': [teacher], 'features': features, 'losses': {'l_x': {'type': 'X'}}}}
    kdsr_options.check(opt)
    output = build_teachers(opt)(Batch(torch.rand(2, 3, 13, 11)))
    assert output.sr.shape == (2, 3, 26, 22)
    assert output.features['early'].shape == (2, 12, 13, 11)  # of the image, not of its whole windows


def test_other_teachers_still_need_their_path():
    opt = {'scale': 2, 'distillation': {'teachers': [{'name': 'e', 'network': network_opt('EDSR')}]}}
    with pytest.raises(UserError, match=r'distillation.teachers\[0\].path: missing'):
        kdsr_options.check(opt)
    with pytest.raises(UserError, match=r'path: missing; EDSR brings no weights'):
        build_teachers(opt)


def conv_dtypes(network):
    seen = []
    network.conv_first.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    return seen


@pytest.mark.parametrize(('precision', 'dtype'), [('bf16', torch.bfloat16), ('fp16', torch.float16)])
@pytest.mark.parametrize('channels_last', [False, True])
def test_a_teacher_in_low_precision_answers_in_single_precision(workspace, precision, dtype, channels_last):
    features = {'f': {'student': 'x', 'teacher': 'body.0'}}
    opt = options(workspace, 'RCAN', features=features)
    batch = Batch(torch.rand(2, 3, 8, 8))
    exact = build_teachers(opt)(batch)
    opt['distillation']['teachers'][0].update(precision=precision, channels_last=channels_last)
    teacher = build_teachers(opt)
    teacher.calibrate(batch)
    seen = conv_dtypes(teacher.members[0].network)
    output = teacher(batch)
    assert seen == [dtype]
    assert output.sr.dtype == output.features['f'].dtype == torch.float32
    assert output.sr.is_contiguous()
    assert not torch.equal(output.sr, exact.sr)
    torch.testing.assert_close(output.sr, exact.sr, rtol=0, atol=0.02)
    assert next(teacher.parameters()).dtype == torch.float32
    assert teacher.members[0].network.conv_first.weight.stride(1) == (1 if channels_last else 9)


def test_the_aggregator_has_a_precision_of_its_own(workspace):
    network = network_opt('DCTSwin')
    block = {'aggregator': {'network': network, 'path': workspace.weights(network, 'agg'), 'precision': 'bf16'}}
    teacher = build_teachers(options(workspace, 'EDSR', 'RCAN', **block))
    assert [m.precision for m in (*teacher.members, teacher.aggregator)] == ['fp32', 'fp32', 'bf16']
    assert teacher(Batch(torch.rand(1, 3, 8, 8))).sr.dtype == torch.float32


def test_without_need_of_an_image_only_tapped_teachers_run_and_no_further_than_their_last_tap(workspace):
    network = network_opt('DCTSwin')
    block = {
        'aggregator': {'network': network, 'path': workspace.weights(network, 'agg')},
        'features': {
            'a': {'student': 'x', 'teacher': 'body.0', 'from': 'edsr'},
            'b': {'student': 'x', 'teacher': 'conv_first', 'from': 'edsr'},
        },
    }
    teacher = build_teachers(options(workspace, 'EDSR', 'RCAN', **block))
    batch = Batch(torch.rand(1, 3, 8, 8))
    teacher.calibrate(batch)
    whole = teacher(batch)
    ran = []
    for name, module in teacher.named_modules():
        module.register_forward_pre_hook(lambda module, args, name=name: ran.append(name))
    output = teacher(batch, needs_image=False)
    assert list(output.features) == ['a', 'b']
    assert all(torch.equal(feature, whole.features[name]) for name, feature in output.features.items())
    assert 'members.0.network.body.0' in ran
    assert not [n for n in ran if n.startswith(('members.0.network.body.1', 'members.1.network', 'aggregator'))]
    with pytest.raises(UserError, match='needs_teacher_image'):
        _ = output.image
    assert output.sr is None


def test_a_teacher_with_a_device_stays_there_and_the_answer_is_where_the_batch_is(workspace):
    opt = options(workspace, 'EDSR', 'RCAN')
    opt['distillation']['teachers'][1]['device'] = 'cpu'
    teacher = build_teachers(opt).to('meta')
    assert [next(m.parameters()).device.type for m in teacher.members] == ['meta', 'cpu']
    teacher.members = teacher.members[1:]  # what is on the meta device has no values to be compared
    teacher.names = teacher.names[1:]
    assert teacher(Batch(torch.rand(1, 3, 8, 8))).sr.device.type == 'cpu'


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason='has that many GPUs')
def test_a_device_that_is_not_there_or_that_several_processes_would_share_is_refused(workspace):
    opt = options(workspace, 'EDSR')
    opt['distillation']['teachers'][0]['device'] = 'cuda:7'
    with pytest.raises(UserError, match='`device: cuda:7`'):
        build_teachers(opt).to('cpu')
    with pytest.raises(UserError, match='a run of one process'):
        build_teachers({**opt, 'dist': True})
