"""Core ML packages: free sizes, the right names, the weights inside. Nothing here can run them."""

import re

import numpy as np
import pytest

from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.export_targets.coreml_files import to_coreml
from kdsr.export_targets.plain import plain_network
from tests.helpers.exports import built
from tests.helpers.networks import LUMINANCE, known

ct = pytest.importorskip('coremltools')


@pytest.mark.parametrize('name', ['FSRCNN', 'RFDN', 'EDSR'])
def test_the_package_holds_the_weights_of_the_network(name):
    network = plain_network(built(name, 2), 1, 2, name in LUMINANCE)
    files = to_coreml(network, 2)
    stored = next(content for path, content in files.items() if path.endswith('weight.bin'))
    largest = max(network.state_dict().values(), key=lambda tensor: tensor.numel()).numpy()
    assert re.search(re.escape(np.ascontiguousarray(largest).tobytes()), stored)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # coremltools' own temporary folder
def test_a_network_that_cannot_be_converted_is_refused():
    with pytest.raises(UserError, match='coremltools cannot convert'):
        to_coreml(plain_network(built('E-RFDN', 2), 1, 2, False), 2)


def test_the_command_says_that_the_file_was_not_run(workspace, capsys):
    path = known(workspace, {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1})
    main(['export', path, '--formats', 'safetensors', '--coreml', '--out', 'out', '--repeats', '0'])
    package = next((workspace.root / 'out').glob('*.mlpackage'))
    spec = ct.utils.load_spec(str(package))
    assert [one.name for one in spec.description.input] == ['lq']
    assert 'not run here' in capsys.readouterr().out
