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
    with pytest.raises(UserError, match="'a' is shown the ground truth"):
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
    with pytest.raises(UserError, match=r"trained for the teachers \['rcan', 'edsr'\].*names \['edsr', 'rcan'\]"):
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
    assert output.features['early'].shape == (2, 12, 16, 16)


def test_other_teachers_still_need_their_path():
    opt = {'scale': 2, 'distillation': {'teachers': [{'name': 'e', 'network': network_opt('EDSR')}]}}
    with pytest.raises(UserError, match=r'distillation.teachers\[0\].path: missing'):
        kdsr_options.check(opt)
    with pytest.raises(UserError, match=r'path: missing; EDSR brings no weights'):
        build_teachers(opt)
