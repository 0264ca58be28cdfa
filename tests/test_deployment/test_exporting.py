"""`kdsr export`: every network in every format gives what PyTorch gives, at every size, and says what it is."""

import contextlib
import json
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinTransformerBlock, window_partition, window_reverse
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from kdsr.archs.transposed_conv import EnlargingConvTranspose2d
from kdsr.cli import main
from kdsr.deployment import exportable as graph
from kdsr.deployment import formats
from kdsr.deployment.card import ModelCard
from kdsr.deployment.quantisation import psnr
from kdsr.deployment.sources import read_last_scores, read_model
from kdsr.deployment.verification import random_images, verify
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError
from kdsr.export_targets.exporting import ExportSettings, export
from kdsr.networks.candidates import find_candidates
from tests.conftest import NETWORKS
from tests.helpers.networks import LUMINANCE, TINY

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

ALL = {**TINY, **NETWORKS}
ANY_SIZE = [
    'FSRCNN', 'VDSR', 'RFDN', 'E-RFDN', 'IMDN', 'IDN', 'CARN', 'CARN-M', 'EDSR', 'RCAN', 'SwinIRLight', 'RLFN', 'BSRN',
    'PAN', 'EFDN', 'FMEN', 'LapSRN',
]  # fmt: skip
FSRCNN = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
EDSR = {**NETWORKS['EDSR'], 'upscale': 2}


def built(name, scale=2):
    torch.manual_seed(0)
    network = build_network({**ALL[name], 'upscale': scale}).eval()
    for parameter in network.parameters():  # attention starts near zero, where no mistake would show
        if parameter.ndim == 2:
            parameter.data *= 10
    return network


def exported(name, kind, scale=2):
    """Return what runs the file, its original, and images for both."""
    network, channels, multiple = built(name, scale), 1 if name in LUMINANCE else 3, 4 if 'Swin' in name else 1
    prepared, example = graph.exportable(network, multiple, scale), formats.example(channels, None)
    if kind == 'onnx':
        run = formats.onnx_runner(formats.onnx_bytes(prepared, example, False))
    else:
        run = formats.torchscript_runner(formats.torchscript_bytes(prepared, example, card(name)))
    return run, lambda x: run_padded(network, x, multiple), random_images(channels, None)


def card(name):
    return ModelCard(name, {**ALL[name], 'upscale': 2}, 2)


@pytest.mark.parametrize('name', ANY_SIZE)
def test_onnx_takes_any_size_and_batch(name):
    assert all(one.largest < 1e-5 for one in verify(name, *exported(name, 'onnx')))


@pytest.mark.parametrize('name', ['SwinIRLight', 'E-RFDN'])
def test_torchscript_takes_any_size_and_batch(name):
    assert all(one.largest < 1e-5 for one in verify(name, *exported(name, 'torchscript')))


def test_swinir_as_basicsr_has_it_is_scrambled_by_a_trace_and_caught(monkeypatch):
    monkeypatch.setattr(formats, 'traceable_windows', contextlib.nullcontext)
    with pytest.raises(UserError, match='differs from PyTorch'):
        verify('SwinIRLight', *exported('SwinIRLight', 'onnx'))


@pytest.mark.parametrize('shift', [0, 2])
def test_masks_and_windows_are_those_of_basicsr(shift):
    block = SwinTransformerBlock(8, (16, 16), 2, 4, shift)
    for size in ((16, 8), (4, 12)):
        ours, theirs = graph.shifted_window_mask(4, shift, size), block.calculate_mask(size)
        assert torch.equal(ours.expand_as(theirs), theirs)
        image = torch.rand(3, *size, 5)
        windows = window_partition(image, 4)
        assert torch.equal(graph._window_reverse(windows, 4, *size), window_reverse(windows, 4, *size))


@pytest.mark.parametrize(('kernel', 'stride'), [(9, 2), (9, 3), (9, 4), (17, 4), (3, 2)])
def test_the_folded_transposed_convolution_is_the_same(kernel, stride):
    layer, image = EnlargingConvTranspose2d(3, 2, kernel, stride), torch.rand(2, 3, 7, 9)
    torch.testing.assert_close(graph.FoldedTransposedConv(layer)(image), nn.ConvTranspose2d.forward(layer, image))


def experiment(workspace, network=EDSR):
    """A run as BasicSR leaves it: weights, option file, log."""
    folder = workspace.root / 'experiments/photos_x2'
    (folder / 'models').mkdir(parents=True)
    weights = torch.load(workspace.weights(network, 'w'))['params']
    torch.save({'params': weights, 'params_ema': weights}, folder / 'models/net_g_latest.pth')
    opt = {
        'name': 'photos_x2', 'network_g': network,
        'path': {'experiments_root': '/home/me/a', 'pretrain_network_g': '/home/me/start.pth', 'strict_load_g': True},
        'datasets': {'train': {'dataroot_gt': '/home/me/photos'}},
    }  # fmt: skip
    (folder / 'photos_x2.yml').write_text(yaml.safe_dump(opt))
    (folder / 'train_photos_x2_1.log').write_text(
        '2026-01-01 10:00:00,000 INFO: Validation Set5\n\t # psnr: 20.0000\tBest: 20.0000 @ 1 iter\n\n'
        '2026-01-01 10:00:00,000 INFO: Validation Set5\n\t # psnr: 31.5000\tBest: 32.0000 @ 1 iter\n'
        '\t # ssim: 0.9000\tBest: 0.9100 @ 1 iter\n\n2026-01-01 10:00:00,000 INFO: Saving.\n'
    )
    return str(folder / 'models/net_g_latest.pth')


def test_one_slope_for_all_channels_is_exported_as_what_runtimes_fuse():
    """onnxruntime computes LeakyRelu together with a convolution, PRelu not."""
    onnx = pytest.importorskip('onnx')
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.PReLU(1, 0.5), nn.Conv2d(2, 2, 1), nn.PReLU(2, 0.125))
    file = formats.onnx_bytes(graph.exportable(network, 1, 1), formats.example(1, None), False)
    assert [node.op_type for node in onnx.load_from_string(file).graph.node] == ['Conv', 'LeakyRelu', 'Conv', 'PRelu']
    x = torch.linspace(-2, 2, 24).view(1, 1, 4, 6)
    with torch.no_grad():
        y = network[0](x)
        y = network[2](torch.where(y > 0, y, 0.5 * y))
        expected = torch.where(y > 0, y, 0.125 * y)
    assert float((formats.onnx_runner(file)(x) - expected).abs().max()) < 1e-6


def test_every_file_says_what_it_is(workspace, capsys):
    checkpoint = experiment(workspace)
    formats_wanted = ['onnx', 'safetensors', 'torchscript', 'pt2']
    main(['export', checkpoint, '--out', 'files', '--formats', *formats_wanted, '--repeats', '1',
          '--data-licence', 'CC0', '--purpose', 'scans'])  # fmt: skip
    told = capsys.readouterr().out
    assert '| onnxruntime |' in told
    folder = workspace.root / 'files'
    assert {p.name for p in folder.iterdir()} == {
        'photos_x2.onnx', 'photos_x2.safetensors', 'photos_x2.torchscript.pt', 'photos_x2.pt2', 'photos_x2.md'
    }  # fmt: skip
    metadata = {p.key: p.value for p in onnx.load(folder / 'photos_x2.onnx').metadata_props}
    with safe_open(folder / 'photos_x2.safetensors', framework='pt') as file:
        assert file.metadata() == metadata
    extra = {'card.json': ''}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch says that TorchScript is old
        torch.jit.load(folder / 'photos_x2.torchscript.pt', _extra_files=extra)
    assert json.loads(extra['card.json']) == metadata
    assert json.loads(metadata['network']) == EDSR
    assert json.loads(metadata['metrics']) == {'Set5': {'psnr': 31.5, 'ssim': 0.9}}
    assert (metadata['scale'], metadata['colour'], metadata['data_licence']) == ('2', 'RGB', 'CC0')
    assert metadata['purpose'] == 'scans'
    assert int(metadata['parameters']) == sum(p.numel() for p in build_network(EDSR).parameters())
    page = (folder / 'photos_x2.md').read_text()
    assert '| Set5 | 31.5000 | 0.9000 |' in page
    assert '| for | scans |' in page
    for text in (page, *metadata.values()):
        assert '/home/me' not in text
    training = yaml.safe_load(metadata['training'])
    assert training['datasets']['train']['dataroot_gt'] == 'photos'
    assert training['path'] == {'pretrain_network_g': 'start.pth', 'strict_load_g': True}


def test_safetensors_come_back_as_the_same_network(workspace):
    export(experiment(workspace), 'files', ExportSettings(['safetensors'], repeats=0), lambda line: None)
    one, card = read_model('files/photos_x2.safetensors')
    original, _ = read_model('experiments/photos_x2/models/net_g_latest.pth')
    assert (one.name, card.metrics) == ('photos_x2', {'Set5': {'psnr': 31.5, 'ssim': 0.9}})
    for name, tensor in original.network.state_dict().items():
        assert torch.equal(one.network.state_dict()[name], tensor)
    (tested,) = find_candidates(['files/photos_x2.safetensors'])
    assert (tested.scale, tested.network_opt) == (2, one.network_opt)


def test_an_option_file_stands_for_its_run(workspace):
    experiment(workspace)
    opt = workspace.options(name='photos_x2')
    written = export(
        workspace.write(opt, 'photos.yml'), 'files', ExportSettings(['safetensors'], repeats=0), lambda line: None
    )
    assert [p.name for p in written] == ['photos_x2.safetensors', 'photos_x2.md']
    assert '| Set5 | 31.5000 | 0.9000 |' in written[1].read_text()


def test_a_damaged_safetensors_file_is_one_message(workspace):
    (workspace.root / 'bad.safetensors').write_bytes(b'12345678 nothing')
    with pytest.raises(UserError, match='cannot be read'):
        read_model('bad.safetensors')


def test_scores_of_runs_without_a_log():
    assert read_last_scores('nowhere') == {}


def test_a_wrong_file_is_not_written(workspace, monkeypatch):
    right = formats.onnx_runner
    monkeypatch.setattr(formats, 'onnx_runner', lambda model: lambda x: right(model)(x) + 1e-3)
    with pytest.raises(UserError, match=r'(?s)differs from PyTorch by 1\.0e-03.*not written'):
        export(experiment(workspace), 'files', ExportSettings(['onnx'], repeats=0), lambda line: None)
    assert not list((workspace.root / 'files').iterdir())


def test_one_size_only(workspace):
    path = workspace.weights({**TINY['SAN'], 'upscale': 2}, 'san')
    network = json.dumps({**TINY['SAN'], 'upscale': 2})
    export(path, 'files', ExportSettings(['onnx'], network, size=(20, 24), repeats=0), lambda line: None)
    sides = onnx.load('files/san.onnx').graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [1, 3, 20, 24]


def photos(folder, count, height, width):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        small = cv2.resize(rng.integers(0, 256, (5, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{i}.png'), small)


@pytest.mark.parametrize('network', [EDSR, FSRCNN], ids=['RGB', 'Y'])
def test_int8_is_close_and_its_cost_is_told(workspace, network):
    path = workspace.weights(network, 'net')
    photos(workspace.root / 'lr', 2, 24, 30)
    photos(workspace.root / 'hr', 2, 48, 60)
    wishes = ExportSettings(['onnx'], json.dumps(network), int8='lr', gt='hr', images='lr', repeats=0)
    told = []
    export(path, 'files', wishes, told.append)
    nodes = {node.op_type for node in onnx.load('files/net_int8.onnx').graph.node}
    assert 'QuantizeLinear' in nodes
    row = next(line for line in '\n'.join(told).splitlines() if line.startswith('| **mean** |'))
    to_fp32, fp32, int8 = (float(cell) for cell in row.split('|')[2:5])
    assert 35 < to_fp32 < 100
    assert abs(fp32 - int8) < 1
    assert row in (workspace.root / 'files/net.md').read_text()


def test_psnr_is_that_of_8_bits():
    one = torch.rand(1, 3, 9, 9, dtype=torch.float64)
    other = (one + 0.1 * torch.rand_like(one)).clamp(0, 1)
    a, b = (np.rint(255 * x.numpy()) for x in (one, other))
    assert psnr(one, other) == pytest.approx(10 * np.log10(255**2 / np.mean((a - b) ** 2)))
    assert psnr(one, one + 1e-4) > 60


@pytest.mark.parametrize(('wishes', 'message'), [
    ({'formats': ['onxx']}, "'onnx'"),
    ({'formats': ['safetensors'], 'int8': 'lr'}, 'name onnx'),
    ({'gt': 'hr'}, '--gt belongs to --int8'),
    ({'images': 'nowhere'}, "'nowhere' holds no images"),
])  # fmt: skip
def test_mistakes_are_one_message(workspace, wishes, message):
    with pytest.raises(UserError, match=message):
        export(
            workspace.weights(EDSR, 'w'), 'files', ExportSettings(**wishes, network=json.dumps(EDSR)), lambda line: None
        )


def test_missing_packages_are_one_message(workspace, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(UserError, match=r'needs onnx .*\.\[export\]'):
        export(experiment(workspace), 'files', ExportSettings(repeats=0), lambda line: None)


@pytest.mark.parametrize(('name', 'file'), [
    ('../../outside', 'outside'), ('/tmp/absolute', 'absolute'), ('..\\..\\windows', 'windows'), ('..', 'network'),
    ('a\nb', 'a_b'), ('.hidden', 'hidden'), ('n' * 300, 'n' * 200), ('C:x', 'C_x'),
    ('', 'network'), ('dir/', 'network'),
])  # fmt: skip
def test_names_inside_files_are_never_paths(workspace, name, file):
    export(experiment(workspace), 'files', ExportSettings(['safetensors'], repeats=0), lambda line: None)
    with safe_open('files/photos_x2.safetensors', framework='pt') as source:
        metadata = {**source.metadata(), 'name': name}
        save_file({key: source.get_tensor(key) for key in source.keys()}, 'evil.safetensors', metadata)  # noqa: SIM118
    before = set(workspace.root.parent.rglob('*'))
    written = export('evil.safetensors', 'out', ExportSettings(['safetensors'], repeats=0), lambda line: None)
    assert [path.name for path in written] == [f'{file}.safetensors', f'{file}.md']
    new = set(workspace.root.parent.rglob('*')) - before
    assert {path.relative_to(workspace.root).parts[0] for path in new} == {'out'}


def test_safetensors_are_the_same_bytes_every_time(workspace):
    path = experiment(workspace)
    contents = set()
    for i in range(8):
        export(path, f'files{i}', ExportSettings(['safetensors'], repeats=0), lambda line: None)
        contents.add((workspace.root / f'files{i}/photos_x2.safetensors').read_bytes())
    assert len(contents) == 1
    assert find_candidates(['files0/photos_x2.safetensors'])[0].scale == 2


@pytest.mark.parametrize('kinds', [['safetensors'], ['onnx']])
def test_weights_that_are_not_finite_are_not_exported(workspace, kinds):
    path = workspace.weights(EDSR, 'w')
    weights = torch.load(path)['params']
    weights['conv_first.weight'][0, 0, 0, 0] = float('nan')
    torch.save({'params': weights, 'network': EDSR}, path)
    with pytest.raises(UserError, match=r'conv_first\.weight.*not finite'):
        export(path, 'files', ExportSettings(kinds, repeats=0), lambda line: None)
    with pytest.raises(UserError, match='not finite'):
        formats.safetensors_bytes(weights, ModelCard('x', EDSR, 2))


def test_a_network_of_spandrel_is_exported_as_far_as_possible(workspace):
    pytest.importorskip('spandrel')
    network = build_network({'type': 'SRVGGNetCompact', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2,
                             'upscale': 2})  # fmt: skip
    torch.save({'params': network.state_dict()}, 'compact.pth')
    told = []
    written = export('compact.pth', 'files', ExportSettings(repeats=0), told.append)
    assert [path.name for path in written] == ['compact.onnx', 'compact.md']
    assert any('compact.safetensors: not written' in line for line in told)
    with pytest.raises(UserError, match='--formats onnx'):
        export('compact.pth', 'files', ExportSettings(['safetensors'], repeats=0), told.append)
