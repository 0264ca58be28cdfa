"""Random changes of values, bytes, tensors and ONNX files, for `fuzz.py`."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import torch

from kdsr import options

ODD = (
    None, True, -1, 0, 1, 7, 2**31, 2**53 + 1, 10**30, 0.5, -1e300, float('nan'), float('inf'), '', 'x', '..', '../x',
    'a/b', '\0', 'é' * 90, '~', 'none', '1e999', [], [1], ['x'], [[]], [None], {}, {'x': 1}, {'type': 'x'},
    {'type': ['EDSR']},
)  # fmt: skip


def change(value: Any, rng: random.Random) -> Any:
    """Change a copy of nested values in one place."""
    value = copy.deepcopy(value)
    node: Any = value
    while True:
        if not isinstance(node, (dict, list)) or not node:
            return rng.choice(ODD)
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        act = rng.random()
        if act < 0.7:
            node[key] = copy.deepcopy(rng.choice(ODD))
        elif act < 0.85:
            del node[key]
        elif isinstance(node, dict):
            node[rng.choice(('x', '', '<<', 'type', 'name', '1'))] = node[key]
        else:
            node.append(node[key])
        return value


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, remove or repeat bytes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if not data:
            break
        place = rng.randrange(len(data))
        act = rng.random()
        if act < 0.6:
            data[place] ^= 1 << rng.randrange(8)
        elif act < 0.8:
            del data[place : place + rng.randint(1, 40)]
        elif act < 0.9:
            data[place:place] = data[place : place + rng.randint(1, 40)]
        else:
            data = data[:place]
    return bytes(data)


def several(value: Any, rng: random.Random) -> Any:
    """Change nested values in one to three places."""
    for _ in range(rng.randint(1, 3)):
        value = change(value, rng)
    return value


def dump(content: Any) -> str:
    """Return YAML, also of values that options cannot have."""
    return options.dump(content) if isinstance(content, dict) else json.dumps(content)


def odd_tensor(tensor: torch.Tensor, rng: random.Random) -> Any:
    """Return a tensor of another kind, size or type."""
    flat = tensor.reshape(-1)
    makers: list[Callable[[], Any]] = [
        lambda: tensor.to_sparse(),
        lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        lambda: tensor.to('meta'),
        lambda: torch.nested.nested_tensor([flat, flat[:1]]),
        lambda: flat[:1].expand(1000, 1000),
        lambda: tensor.to(rng.choice((torch.int64, torch.bool, torch.complex64, torch.float64, torch.bfloat16))),
        lambda: tensor * float('nan'),
        lambda: tensor[..., :0],
        lambda: tensor.unsqueeze(0),
        lambda: [tensor],
    ]
    return rng.choice(makers)()


def odd_onnx(card: dict[str, str], rng: random.Random) -> bytes:
    """Return an ONNX file that enlarges by repetition, with something odd about it."""
    from onnx import TensorProto, helper

    scales = [1.0, 1.0, 2.0, 2.0]
    scales[rng.randrange(4)] = rng.choice((1.0, 2.0, 3.0, 1.5))
    kind = rng.choice((TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.UINT8, TensorProto.DOUBLE))
    sides = rng.choice(
        (['n', 3, 'h', 'w'], ['n', 1, 'h', 'w'], [1, 3, 8, 8], ['n', 'h', 'w'], ['n', 3, 'h', 8], [0, 3, 8, 8])
    )
    inputs = [helper.make_tensor_value_info('lq', kind, sides)]
    outputs = [helper.make_tensor_value_info('sr', kind, ['n', rng.choice((1, 3)), 'H', 'W'][: len(sides)])]
    nodes = [helper.make_node('Resize', ['lq', '', 'scales'], ['sr'], mode='nearest')]
    initial = [helper.make_tensor('scales', TensorProto.FLOAT, [4], scales)]
    if rng.random() < 0.2:
        nodes = [helper.make_node('ReduceMean', ['lq'], ['sr'], axes=[1], keepdims=1)]
    graph = helper.make_graph(nodes, 'g', inputs if rng.random() < 0.9 else [], outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)])
    model.ir_version = 8
    metadata = dict(card)
    key = rng.choice(list(metadata))
    metadata[key] = rng.choice(('', '-1', '1000000', '9' * 40, '[]', '{}', 'null', '2'))
    helper.set_model_props(model, metadata if rng.random() < 0.7 else {})
    return bytes(model.SerializeToString())
