"""ncnn files give what PyTorch gives on odd sizes that were not traced, and carry the names that programs ask for."""

import numpy as np
import pytest
import torch

from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.export_targets.ncnn_files import ncnn_name, ncnn_runner, to_ncnn
from kdsr.export_targets.plain import plain_network
from tests.helpers.exports import built, in_rgb, photo
from tests.helpers.networks import LUMINANCE, known

PLAIN = ['FSRCNN', 'VDSR', 'RFDN', 'E-RFDN', 'IMDN', 'IDN', 'CARN', 'CARN-M', 'EDSR', 'RCAN', 'SRVGG']


@pytest.mark.parametrize('scale', [2, 3])
@pytest.mark.parametrize('name', PLAIN)
def test_the_plain_form_is_the_same_network_on_rgb(name, scale):
    network, image = built(name, scale), photo(31, 18)
    with torch.no_grad():
        given = plain_network(network, 1, scale, name in LUMINANCE)(image)
        torch.testing.assert_close(given.clamp(0, 1), in_rgb(network, name, scale, image), atol=2e-6, rtol=0)


@pytest.mark.parametrize('name', PLAIN)
def test_ncnn_gives_what_pytorch_gives_at_sizes_that_were_not_traced(name):
    pytest.importorskip('ncnn')
    pytest.importorskip('pnnx')
    network = built(name, 2)
    run = ncnn_runner(to_ncnn(plain_network(network, 1, 2, name in LUMINANCE)))
    for size in ((37, 91), (113, 75), (64, 48)):
        image = photo(*size)
        with torch.no_grad():
            expected = in_rgb(network, name, 2, image)
        assert float((run(image).clamp(0, 1) - expected).abs().max()) < 2e-5, size


@pytest.mark.parametrize('name', ['SwinIRLight', 'SAN'])
def test_a_network_that_ncnn_cannot_hold_is_refused_with_the_layers_that_it_lacks(name):
    pytest.importorskip('ncnn')
    pytest.importorskip('pnnx')
    with pytest.raises(UserError, match=r'ncnn has no layer for .*(index_select|Expression)'):
        to_ncnn(plain_network(built(name, 2), 4 if 'Swin' in name else 1, 2, False))


@pytest.mark.parametrize(
    ('name', 'scale', 'expected'),
    [('rfdn_tiny_x4', 4, 'rfdn_tiny-x4'), ('net', 3, 'net-x3'), ('2xHome_x4', 4, 'Home-x4'), ('x2', 2, 'network-x2')],
)
def test_the_name_carries_the_scale_and_no_other(name, scale, expected):
    assert ncnn_name(name, scale) == expected


def test_the_command_writes_both_precisions_with_the_blobs_of_upscayl(workspace, capsys):
    ncnn = pytest.importorskip('ncnn')
    pytest.importorskip('pnnx')
    path = known(workspace, {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1})
    main(['export', path, '--formats', 'safetensors', '--ncnn', '--out', 'out', '--repeats', '0'])
    folder = workspace.root / 'out/ncnn'
    names = sorted(file.name for file in folder.iterdir())
    stem = names[0].split('-fp16')[0]
    assert names == sorted(f'{stem}{mark}-x2.{kind}' for mark in ('', '-fp16') for kind in ('bin', 'param'))
    whole, half = ((folder / f'{stem}{mark}-x2.bin').stat().st_size for mark in ('', '-fp16'))
    assert half < 0.75 * whole
    text = (folder / f'{stem}-x2.param').read_text()
    assert ' data' in text
    assert ' output' in text
    assert 'in0' not in text.split()
    assert 'out0' not in text.split()
    net = ncnn.Net()
    assert net.load_param(str(folder / f'{stem}-x2.param')) == 0
    assert net.load_model(str(folder / f'{stem}-x2.bin')) == 0
    image = np.random.default_rng(0).random((3, 21, 17), np.float32)
    with net.create_extractor() as extractor:
        extractor.input('data', ncnn.Mat(image).clone())
        assert np.array(extractor.extract('output')[1]).shape == (3, 42, 34)
    page = next((workspace.root / 'out').glob('*.md')).read_text()
    assert 'blob `data`: (3, h, w) RGB' in page
    assert 'fp16' in capsys.readouterr().out
