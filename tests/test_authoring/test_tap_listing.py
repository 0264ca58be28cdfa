import re

import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from kdsr import options
from kdsr.authoring.paper_points import find_paper_points
from kdsr.authoring.tap_listing import Tappable, _shorten_paths, build_candidate, explore, list_taps
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.teacher import FrozenNetwork, build_teachers
from kdsr.errors import UserError
from tests.conftest import network_opt

SAN = {'type': 'SAN', 'upscale': 2, 'num_feat': 8, 'num_group': 6, 'num_block': 1, 'squeeze_factor': 4}


def option_file(workspace, student='EDSR', **teachers):
    """A file without weights, data or losses; keywords: teacher name to network options."""
    listed = [{'name': name, 'network': network} for name, network in teachers.items()]
    return workspace.write({'scale': 2, 'network_g': network_opt(student), 'distillation': {'teachers': listed}})


def look_into(network_opt):
    return explore(build_candidate('student', 'network_g', network_opt))


def pasted(text):
    """The block at the end of a listing, read as YAML reads it below `distillation:`."""
    return yaml.safe_load('distillation:\n' + text.split('To paste below `distillation:`\n\n')[1])['distillation']


def marked(network_opt):
    """The papers' points of a network with these options."""
    return tuple(look_into(network_opt).points.values())


# The papers' points.


def edsr(blocks):
    return {**network_opt('EDSR'), 'num_block': blocks}


def rcan(groups):
    return {**network_opt('RCAN'), 'num_group': groups}


def swinir(blocks):
    return {**network_opt('SwinIR'), 'depths': [1] * blocks, 'num_heads': [2] * blocks}


@pytest.mark.parametrize(
    ('network', 'expected'),
    [
        (edsr(32), ('body.9', 'body.20', 'upsample:input')),
        (edsr(16), ('body.4', 'body.9', 'upsample:input')),
        (rcan(10), ('body.2', 'body.6', 'upsample:input')),
        (rcan(12), ('body.3', 'body.7', 'upsample:input')),
        (swinir(6), ('layers.1', 'layers.3', 'conv_after_body')),
        (swinir(4), ('layers.0', 'layers.1', 'conv_after_body')),
        ({**SAN, 'num_group': 20}, ('body.6', 'body.13', 'non_local')),
        (SAN, ('body.1', 'body.3', 'non_local')),
    ],
    ids=lambda v: v['type'] if isinstance(v, dict) else '',
)
def test_points_of_the_papers(network, expected):
    assert marked(network) == expected


class Attributes(nn.Module):
    """Blocks as attributes B1..B6 behind one wrapper, an upsampler in two steps, and a heavier single module."""

    def __init__(self, grows=True):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        for i in range(6):
            setattr(self, f'B{i + 1}', nn.Conv2d(4, 4, 3, padding=1))
        self.fusion = nn.Conv2d(4, 12, 7, padding=3)
        self.enlarge = nn.Sequential(nn.Upsample(scale_factor=2)) if grows else nn.Identity()

    def forward(self, x):
        x = self.head(x)
        for i in range(6):
            x = getattr(self, f'B{i + 1}')(x)
        return self.enlarge(self.fusion(x))


class Authors(nn.Module):
    """EDSR in its authors' layout: the convolution after the body is the last of the row."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3)) for _ in range(6)), nn.Conv2d(4, 4, 3))
        self.tail = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3))


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


def test_rule_for_other_networks():
    """6 blocks: the second and the fourth; what goes into the module that makes the map larger."""
    ran = ['model.head', *(f'model.B{i}' for i in range(1, 7)), 'model.fusion', 'model.enlarge.0', 'model.enlarge']
    grows = ['model.enlarge.0', 'model.enlarge']
    points = find_paper_points(Wrapper(Attributes()), ran, grows)
    assert points == {'early': 'model.B2', 'middle': 'model.B4', 'late': 'model.enlarge:input'}
    assert find_paper_points(Wrapper(Attributes(grows=False)), ran)['late'] == 'model.B6'
    assert find_paper_points(Wrapper(Attributes()), ['model.enlarge', *ran[:7]], grows)['late'] == 'model.B6'
    assert find_paper_points(Attributes().head, []) == {}
    ran = [*(f'body.{i}' for i in range(7)), 'body', 'tail.0', 'tail.1', 'tail']
    points = find_paper_points(Authors(), ran, ['tail.0', 'tail'])
    assert points == {'early': 'body.1', 'middle': 'body.3', 'late': 'tail:input'}


class OneGroup(nn.Module):
    """As DAT-light: one group of many blocks, then a short row of small convolutions."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Wrapper(nn.Sequential(*(nn.Conv2d(9, 9, 3) for _ in range(18))))])
        self.conv_after_body = nn.Sequential(*(nn.Conv2d(9, 9, 1) for _ in range(3)))


def test_a_short_row_of_small_layers_is_not_taken_for_the_trunk():
    """DAT-light: the points were three convolutions after the body."""
    blocks = [f'layers.0.model.{i}' for i in range(18)]
    points = find_paper_points(OneGroup(), [*blocks, 'layers.0', *(f'conv_after_body.{i}' for i in range(3))])
    assert points == {'early': blocks[5], 'middle': blocks[11], 'late': blocks[17]}


class Padding(nn.Module):
    """As spandrel's CRAFT: it always pads to the next window of 8, by a whole one where the image fits."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6)))

    def forward(self, x):
        height, width = x.shape[-2:]
        padded = nn.functional.pad(x, (0, 8 - width % 8, 0, 8 - height % 8), 'reflect')
        enlarged = self.body(padded).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return enlarged[..., : 2 * height, : 2 * width]


def test_networks_that_pad_are_tapped_at_the_size_of_the_image():
    """CRAFT: "1 file is fine", then maps of two sizes at the first iteration."""
    network = Padding().eval()
    explored = explore(Tappable('teacher', 'teachers.0', network, 8))
    assert explored.points == {'early': 'body.1', 'middle': 'body.3', 'late': 'body.5'}
    assert {explored.shapes[point] for point in explored.points.values()} == {(3, 16, 16)}
    image = torch.rand(1, 3, 13, 22)
    to_16x24, by_a_window = (0, 2, 0, 3), (0, 8, 0, 8)
    for multiple, paddings in ((1, [to_16x24]), (4, [to_16x24, by_a_window])):  # inside alone; by kdsr, then inside
        teacher = FrozenNetwork(network, multiple, {'late': 'body.5'})
        teacher.calibrate(image)
        padded = image
        for padding in paddings:
            padded = nn.functional.pad(padded, padding, 'reflect')
        with torch.no_grad():
            expected = network.body(padded)[..., :13, :22]
        torch.testing.assert_close(teacher(image).features['late'], expected)


def test_a_wrapped_network_has_its_own_points():
    network = build_network(network_opt('SwinIR'))
    ran = [n for n, _ in network.named_modules() if n]
    points = find_paper_points(Wrapper(network), [f'model.{n}' for n in ran], ['model.upsample'])
    assert points == {k: f'model.{v}' for k, v in find_paper_points(network, ran, ['upsample']).items()}
    assert points['late'] == 'model.conv_after_body'


@pytest.mark.parametrize('name', ['IMDN', 'RFDN', 'FSRCNN', 'VDSR', 'CARN', 'RLFN', 'BSRN', 'PAN', 'EFDN', 'FMEN'])
def test_points_of_other_registered_networks_exist(name):
    if name not in ARCH_REGISTRY:
        pytest.skip(f'needs {name}')
    network = {'type': name, 'upscale': 2}
    explored = look_into(network)
    assert list(explored.points) == ['early', 'middle', 'late']
    FeatureTap(build_network(network), explored.points)


# The listing.


def test_shapes_and_tensors_changed_in_place():
    explored = look_into(network_opt('RCAN'))
    assert explored.shapes['body.0'] == explored.shapes['conv_after_body'] == (8, 16, 16)
    assert explored.shapes['upsample'] == (8, 32, 32)
    assert explored.shapes['conv_last'] == (3, 32, 32)
    assert explored.shapes['upsample:input'] == (8, 16, 16)
    assert 'conv_after_body' in explored.copied  # res += x
    assert 'body.0.residual_group.0.rcab.0' in explored.copied  # before an in-place ReLU
    assert not explored.copied & {'body.0', 'conv_first', 'upsample:input'}


def test_tokens_are_listed_as_maps_and_tokens_of_windows_are_not():
    shapes = look_into(network_opt('SwinIR')).shapes
    assert shapes['layers.0'] == shapes['layers.1.residual_group.blocks.0'] == (8, 16, 16)
    assert 'layers.0.residual_group.blocks.0.attn' not in shapes


def test_everything_listed_can_be_tapped():
    for name in ('EDSR', 'RCAN', 'SwinIR', 'SwinIRLight'):
        network = build_network(network_opt(name)).eval()
        explored = look_into(network_opt(name))
        tap = FeatureTap(network, {p: p for p in explored.shapes})
        image = torch.rand(1, 3, 16, 16)
        with torch.no_grad():
            tap.calibrate(lambda run=network, image=image: run(image))
            with tap as features:
                network(image)
        assert {p: tuple(f.shape[1:]) for p, f in features.items()} == explored.shapes
        assert tap.copied == explored.copied


def test_student_and_teachers_stand_side_by_side_without_weights(workspace):
    text = list_taps(option_file(workspace, 'EDSR', big=network_opt('RCAN'), san=SAN))
    header, *lines = text.split('\n\n')[0].split('\n')
    assert [c.strip() for c in header.split('|')] == ['student (EDSR)', 'teacher big (RCAN)', 'teacher san (SAN)']
    rows = [[cell.strip() for cell in (line + '||').split('|')][:3] for line in lines]
    columns = list(zip(*rows))
    for wanted, column in (
        (r'conv_after_body +8x16x16 +copied', 0),
        (r'body\.0 +8x16x16 +early', 0),
        (r'upsample:input +8x16x16 +late', 0),
        (r'body\.\{0\.\.2\}\.residual_group\.0\.rcab\.0 +8x16x16 +copied', 1),
        (r'non_local +8x16x16 +late', 2),
        (r'body\.\{0,2,4\.\.5\} +8x16x16', 2),
    ):
        assert any(re.fullmatch(wanted, cell) for cell in columns[column]), wanted


def test_lines_stand_for_each_path_once(workspace):
    text = list_taps(option_file(workspace, 'RCAN', big=network_opt('RCAN')))
    cells = [line.split('|')[0].split()[0] for line in text.split('\n\n')[0].split('\n')[1:]]
    paths = []
    for cell in cells:
        expanded = ['']
        for part in re.split(r'(\{[^}]*\})', cell):
            numbers = [part]
            if part.startswith('{'):
                numbers = []
                for piece in part[1:-1].split(','):
                    first, _, last = piece.partition('..')
                    numbers += [str(n) for n in range(int(first), int(last or first) + 1)]
            expanded = [e + n for e in expanded for n in numbers]
        paths += expanded
    assert sorted(paths) == sorted(look_into(network_opt('RCAN')).shapes)


def test_paths_are_put_together_only_where_that_says_no_more_than_they_do():
    assert _shorten_paths(['a.0.b.1', 'a.0.b.2', 'a.4.b.1', 'a.4.b.2']) == ['a.{0,4}.b.{1..2}']
    assert _shorten_paths(['a.0.b.1', 'a.4.b.2']) == ['a.0.b.1', 'a.4.b.2']


def test_the_block_of_one_teacher_can_be_pasted(workspace):
    path = option_file(workspace, 'EDSR', big=network_opt('SwinIR'))
    block = pasted(list_taps(path))
    assert block == {
        'features': {
            'early': {'student': 'body.0', 'teacher': 'layers.0'},  # two layers: early and middle are one point
            'late': {'student': 'upsample:input', 'teacher': 'conv_after_body'},
        }
    }


def test_the_block_of_several_teachers_can_be_pasted_and_built(workspace):
    path = option_file(workspace, 'EDSR', edsr=network_opt('EDSR'), rcan=network_opt('RCAN'))
    opt = options.load(path)
    opt['distillation'].update(pasted(list_taps(path)), losses={'l_x': {'type': 'X'}})
    opt['distillation']['teachers'] = [workspace.teacher('EDSR'), workspace.teacher('RCAN')]
    options.check(opt)
    features = build_teachers(opt)
    assert [list(m.tap.points) for m in features.members] == [
        ['edsr_early', 'edsr_middle', 'edsr_late'],
        ['rcan_early', 'rcan_middle', 'rcan_late'],
    ]


def test_one_network_alone(workspace):
    text = list_taps(workspace.write({'network_g': network_opt('EDSR')}))
    assert text.startswith('student (EDSR)\n')
    assert 'features:' not in text
    assert list_taps(workspace.write({'distillation': {'teachers': [{'name': 't', 'network': network_opt('EDSR')}]}}))


def test_all_networks_get_the_same_image(workspace):
    """Windows of 12 and 8: two of each, and whole ones, are 24 a side."""
    wide = {**network_opt('SwinIR'), 'window_size': 12, 'img_size': 24}
    text = list_taps(option_file(workspace, 'EDSR', a=wide, b={**network_opt('SwinIR'), 'window_size': 8}))
    assert len(re.findall(r'conv_first +8x24x24', text)) == 3


def test_a_privileged_teacher_gets_a_large_image(workspace):
    teacher = {'name': 't', 'network': network_opt('EDSR'), 'input': 'gt'}
    text = list_taps(workspace.write({'scale': 2, 'distillation': {'teachers': [teacher]}}))
    assert re.search(r'conv_first +8x32x32', text)


def test_the_points_of_pisrs_teacher_are_those_of_its_decoder():
    network = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': {'type': 'IDN', 'num_in_ch': 1, 'upscale': 2}}
    points = explore(build_candidate('student', 'network_g', network, 2)).points
    expected = explore(build_candidate('student', 'network_g', network['decoder'])).points
    assert points == {stage: f'decoder.{point}' for stage, point in expected.items()}
    assert len(points) == 3


def test_so_is_one_that_is_trained(workspace):
    network = {'type': 'PISRTeacher', 'upscale': 2}
    text = list_taps(workspace.write({'model_type': 'PrivilegedTeacherModel', 'scale': 2, 'network_g': network}))
    assert re.search(r'encoder +1x16x16', text)
    assert re.search(r'decoder\.expanding +56x16x16', text)


def test_networks_of_other_packages(workspace, monkeypatch):
    (workspace.root / 'foreign_networks.py').write_text(
        'from basicsr.archs.edsr_arch import EDSR\n'
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        '@ARCH_REGISTRY.register()\n'
        'class Foreign(EDSR):\n'
        '    pass\n'
    )
    monkeypatch.syspath_prepend(str(workspace.root))
    network = {**network_opt('EDSR'), 'type': 'Foreign'}
    try:
        text = list_taps(workspace.write({'import_modules': ['foreign_networks'], 'network_g': network}))
    finally:
        ARCH_REGISTRY._obj_map.pop('Foreign', None)
    assert text.startswith('student (Foreign)')


def test_random_numbers_are_left_alone(workspace):
    path, state = option_file(workspace, 'EDSR', t=network_opt('EDSR')), torch.get_rng_state()
    list_taps(path)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ('opt', 'message'),
    [
        ({'scale': 2}, 'network_g: missing'),
        ({'distillation': {'teachers': [{'name': 'x'}]}}, r'distillation\.teachers\[0\]\.network: missing'),
        ({'distillation': {'teachers': [{'name': 'x', 'network': network_opt('EDSR')}] * 2}}, 'the same name'),
        ({'network_g': {**network_opt('EDSR'), 'blocks': 1}}, "network_g: EDSR has no option 'blocks'"),
        ({'network_g': network_opt('DCTSwin')}, 'network_g: does not take an image of the shape'),
    ],
)
def test_mistakes_are_reported_plainly(workspace, opt, message):
    with pytest.raises(UserError, match=message):
        list_taps(workspace.write(opt))


def test_an_aggregator_is_run_on_the_images_of_its_teachers(workspace):
    teachers = [{'name': name.lower(), 'network': network_opt(name)} for name in ('EDSR', 'RCAN')]
    opt = {'scale': 2, 'model_type': 'AggregationModel', 'network_g': network_opt('DCTSwin')}
    text = list_taps(workspace.write({**opt, 'distillation': {'teachers': teachers}}))
    assert re.search(r'conv_last +3x32x32 ', text)  # twice the low-resolution side


@pytest.mark.parametrize(
    'options',
    [
        {'type': 'MSRResNet', 'upscale': 4, 'num_feat': 8, 'num_block': 6},  # its one upsampler runs twice
        {'type': 'CARN', 'upscale': 4, 'num_feat': 8},
        {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 6, 'upscale': 4},
    ],
    ids=lambda options: options['type'],
)
def test_only_points_of_the_low_resolution_are_proposed(options):
    """MSRResNet's late point was the upsampler's second input, twice as large: no loss could compare it."""
    tapped = explore(build_candidate('student', 'network_g', options), 16)
    assert list(tapped.points) == ['early', 'middle', 'late']
    assert len(set(tapped.points.values())) == 3
    assert {tapped.shapes[point][1:] for point in tapped.points.values()} == {(16, 16)}
