#!/bin/bash
# onnxruntime's quantiser also rounds for operators that it was asked to leave alone.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, Python 3.11, Linux x86-64 (CPU).
#
# Guess of an expert: `quantize_static(..., op_types_to_quantize=['Conv'])` puts QuantizeLinear/DequantizeLinear pairs
# in front of convolutions and behind them. An Add that is not in the list and takes the long skip of a residual
# network goes on reading the float tensor.
#
# Behaviour: the pair is put into the tensor, not in front of the convolution. Every reader of that tensor gets the
# copy that was rounded to 8 bits, also the Add, also where the convolution that made the tensor is excluded
# (`nodes_to_exclude`). The file runs and nothing is said. In a super-resolution network the skip carries the image.
#
# Output seen:
#   float skip: False, rounded skip: True
#   largest error of the skip alone: 1.96e-03
#   after wiring the Add back to its tensor: 0.00e+00
#
# Exit status 0: still so. Otherwise something changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet onnx==1.23.2 onnxruntime==1.31.1
cat > finding.py <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

# t = conv_first(x), the identity;  y = t + conv(t), where conv has zero weights: y is x if the skip is exact
one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32)
nodes = [
    helper.make_node('Conv', ['x', 'one'], ['t'], name='conv_first'),
    helper.make_node('Conv', ['t', 'zero'], ['c'], name='conv'),
    helper.make_node('Add', ['t', 'c'], ['y'], name='skip'),
]
shape = [1, 1, 'h', 'w']
graph = helper.make_graph(
    nodes, 'residual',
    [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info('y', TensorProto.FLOAT, shape)],
    [numpy_helper.from_array(one, 'one'), numpy_helper.from_array(zero, 'zero')],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
onnx.save(model, 'float.onnx')
image = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(1, 1, 48, 64)


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = [{'x': image}]

    def get_next(self):
        return self.left.pop() if self.left else None


quantize_static('float.onnx', 'int8.onnx', Images(), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=['Conv'], nodes_to_exclude=['conv_first'])


def error(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return float(np.abs(session.run(None, {'x': image})[0] - image).max())


quantised = onnx.load('int8.onnx')
skip = next(node for node in quantised.graph.node if node.op_type == 'Add')
rounded = any(name.startswith('t_') for name in skip.input)
print(f'float skip: {"t" in skip.input}, rounded skip: {rounded}')
before = error('int8.onnx')
print(f'largest error of the skip alone: {before:.2e}')
for i, name in enumerate(skip.input):
    if name.startswith('t_'):
        skip.input[i] = 't'
onnx.save(quantised, 'wired.onnx')
after = error('wired.onnx')
print(f'after wiring the Add back to its tensor: {after:.2e}')
raise SystemExit(not (rounded and before > 1e-3 and after < 1e-6))
PY
env/bin/python finding.py
