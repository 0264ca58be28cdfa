"""OpenVINO's files give what PyTorch gives at any size in single precision, and keep the card."""

import pytest
import torch

from kdsr.cli import main
from kdsr.deployment import formats
from kdsr.deployment.exportable import exportable
from kdsr.export_targets.openvino_files import openvino_runner, to_openvino
from tests.helpers.exports import built
from tests.helpers.networks import LUMINANCE, known

openvino = pytest.importorskip('openvino')
pytest.importorskip('onnx')


@pytest.mark.parametrize('name', ['FSRCNN', 'RFDN', 'E-RFDN', 'EDSR'])
def test_openvino_gives_what_pytorch_gives(name):
    network, channels = built(name, 2), 1 if name in LUMINANCE else 3
    onnx = formats.onnx_bytes(exportable(network, 1, 2), formats.example(channels, None), False)
    run = openvino_runner(*to_openvino(onnx, {}), 'f32')
    for shape in ((1, channels, 37, 91), (2, channels, 64, 48)):
        image = torch.rand(shape)
        with torch.no_grad():
            assert float((run(image) - network(image)).abs().max()) < 2e-5


def test_the_command_states_the_default_precision_too(workspace, capsys):
    path = known(workspace, {'type': 'RFDN', 'upscale': 2, 'num_feat': 8, 'num_block': 1})
    main(['export', path, '--formats', 'safetensors', '--openvino', '--out', 'out', '--repeats', '0'])
    assert 'with the default settings of its runtime on this processor' in capsys.readouterr().out
    file = next((workspace.root / 'out').glob('*.xml'))
    model = openvino.Core().read_model(file)
    assert model.get_rt_info(['kdsr', 'scale']).astype(str) == '2'
    assert model.input(0).partial_shape.to_string() == '[?,3,?,?]'
