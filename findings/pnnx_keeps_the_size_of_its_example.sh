#!/bin/bash
# pnnx exits 0 with a network that serves the size of its example only, and ncnn runs it at any size without complaint.
#
# Versions: pnnx 20261020, ncnn 1.0.20261020, onnx 1.23.2, Python 3.11, Linux x86-64.
#
# Guess of an expert: a network whose ONNX file has free height and width, and which reads the size from its input, is
# converted for every size, or refused with an exit status. `inputshape=` is an example for the shapes of the graph.
#
# Behaviour: y = resize(pool(x), size of x) converts with exit status 0. The size of the example is written into the
# resize layer. At another size ncnn ends with status 0 and gives an image of the size of the example. In a network
# the next layer then adds or multiplies maps of different sizes (also with status 0). Giving a second size
# (`inputshape2=`) does not help for ONNX files: then layers are written that ncnn does not have, with exit status 0.
#
# Output seen:
#   one size: exit status 0, ncnn loads it: True
#   at 24x24: status 0, shape (3, 24, 24), error 6.0e-08
#   at 16x12: status 0, shape (3, 24, 24)
#   two sizes: exit status 0, ncnn loads it: False
#
# Exit status 0: still so. Otherwise something changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet onnx==1.23.2 ncnn==1.0.20261020
env/bin/pip install --quiet --no-deps pnnx==20261020   # its program reads ONNX files without torch
cat > finding.py <<'PY'
import subprocess
import sys
from pathlib import Path

import ncnn
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PNNX = next(Path(sys.prefix).glob('lib/python*/site-packages/pnnx/pnnx'))
SHAPE = [1, 3, 'h', 'w']


def save(name, nodes, constants):
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 3, 'H', 'W'])],
        [numpy_helper.from_array(np.array(value), key) for key, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10), f'{name}.onnx')


def convert(name, *shapes):
    command = [str(PNNX), f'{name}.onnx', *shapes, 'fp16=0']
    return subprocess.run(command, capture_output=True, timeout=120).returncode


def load(name):
    net = ncnn.Net()
    loaded = net.load_param(f'{name}.ncnn.param') == 0 and net.load_model(f'{name}.ncnn.bin') == 0
    return net, loaded


def run(net, x):
    with net.create_extractor() as extractor:
        extractor.input('in0', ncnn.Mat(x).clone())
        status, y = extractor.extract('out0')
        return status, np.array(y)


def expected(x):
    """The mean of each 2x2 square, repeated."""
    c, h, w = x.shape
    small = x.reshape(c, h // 2, 2, w // 2, 2).mean((2, 4))
    return small.repeat(2, 1).repeat(2, 2)


save('resize', [
    helper.make_node('AveragePool', ['x'], ['small'], kernel_shape=[2, 2], strides=[2, 2]),
    helper.make_node('Shape', ['x'], ['size']),
    helper.make_node('Resize', ['small', '', '', 'size'], ['y'], mode='nearest', nearest_mode='floor',
                     coordinate_transformation_mode='asymmetric'),
], {})
status = convert('resize', 'inputshape=[1,3,24,24]')
net, loaded = load('resize')
print(f'one size: exit status {status}, ncnn loads it: {loaded}')
rng = np.random.default_rng(0)
x = rng.random((3, 24, 24), np.float32)
ended, y = run(net, x)
error = float(np.abs(y - expected(x)).max())
print(f'at 24x24: status {ended}, shape {y.shape}, error {error:.1e}')
ended_other, other = run(net, rng.random((3, 16, 12), np.float32))
print(f'at 16x12: status {ended_other}, shape {other.shape}')
status_two = convert('resize', 'inputshape=[1,3,24,24]', 'inputshape2=[1,3,16,12]')
loaded_two = Path('resize.ncnn.param').is_file() and load('resize')[1]
print(f'two sizes: exit status {status_two}, ncnn loads it: {loaded_two}')
one = loaded and (status, ended, ended_other, other.shape) == (0, 0, 0, (3, 24, 24)) and error < 1e-5
raise SystemExit(not (one and status_two == 0 and not loaded_two))
PY
env/bin/python finding.py
