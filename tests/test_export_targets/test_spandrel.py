"""Weights under spandrel's names: it recognises them without any hint, and computes what BasicSR's network computes."""

import pytest
import torch
from basicsr.archs import build_network
from safetensors.torch import load_file

from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.export_targets.spandrel_files import spandrel_runner, to_spandrel
from tests.helpers.exports import built
from tests.helpers.networks import known

pytest.importorskip('spandrel')
RCAN = {
    'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 2, 'num_block': 3, 'squeeze_factor': 4,
}  # fmt: skip
RRDB = {
    'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': 4, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 32,
}  # fmt: skip
COMPACT = {'type': 'SRVGGNetCompact', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2}


@pytest.mark.parametrize(
    'options',
    [
        {**RCAN, 'upscale': 2},
        {**RCAN, 'upscale': 3, 'img_range': 1.0, 'rgb_mean': [0.1, 0.2, 0.3]},
        {**RCAN, 'upscale': 4},
        {**COMPACT, 'upscale': 2},
        RRDB,
    ],
)
def test_spandrel_builds_the_same_network(options):
    torch.manual_seed(0)
    network = build_network(dict(options)).eval()
    image = torch.rand(2, 3, 19, 26)
    with torch.no_grad():
        expected = network(image)
    given = spandrel_runner(to_spandrel(network))(image)
    torch.testing.assert_close(given, expected, atol=2e-6, rtol=0)


def test_arguments_that_spandrel_does_not_read_from_weights_are_refused():
    with pytest.raises(UserError, match='cannot read its arguments'):
        spandrel_runner(to_spandrel(build_network({**RRDB, 'num_grow_ch': 16})))


def test_the_command_writes_what_spandrel_reads(workspace):
    path = known(workspace, {**RCAN, 'upscale': 2})
    main(['export', path, '--formats', 'safetensors', '--spandrel', '--out', 'out', '--repeats', '0'])
    weights = load_file(next((workspace.root / 'out').glob('*_spandrel.safetensors')))
    assert spandrel_runner(weights)(torch.rand(1, 3, 9, 8)).shape == (1, 3, 18, 16)


@pytest.mark.parametrize('name', ['EDSR', 'RFDN', 'FSRCNN'])
def test_what_spandrel_does_not_have_is_sent_to_onnx(name):
    with pytest.raises(UserError, match=f'spandrel has no {name}.* ONNX or the ncnn file'):
        to_spandrel(built(name, 2))
