"""The files that a network is exported to: ONNX, safetensors, TorchScript, torch.export; each carries its card."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from kdsr.deployment.card import ModelCard
from kdsr.deployment.exportable import traceable_windows
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.networks.onnx_network import OnnxNetwork
from kdsr.optional_packages import import_optional

OPSET = 20
CARD_FILE = 'card.json'  # inside TorchScript and torch.export files
SUFFIXES = {'onnx': '.onnx', 'safetensors': '.safetensors', 'torchscript': '.torchscript.pt', 'pt2': '.pt2'}
ExportedRun = Callable[[Tensor], Tensor]


def example(channels: int, size: tuple[int, int] | None) -> Tensor:
    """Return an image (N, C, h, w) to trace with: of the one size that is wanted, or of one that nothing is tuned to.

    No window fits into it, and its sides differ, so that what a trace takes for a constant shows at other sizes.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, 23, 26) if size is None else (1, channels, *size)
    return torch.rand(shape, generator=generator)


def onnx_bytes(network: nn.Module, image: Tensor, fixed: bool) -> bytes:
    """Export to ONNX.

    The exporter is torch's tracing one. The other (`dynamo=True`) gives the same numbers, but needs onnxscript, and
    for SwinIR many times the time (docs/deployment.md).

    Args:
        network: Made by :func:`kdsr.deployment.exportable.exportable`.
        image: (N, C, h, w), what to trace with.
        fixed: Only for images of this size; otherwise batch, height and width are free.
    """
    import_optional('onnx', 'an ONNX file')
    axes = None if fixed else {'lq': {0: 'n', 2: 'h', 3: 'w'}, 'sr': {0: 'n', 2: 'height', 3: 'width'}}
    file = io.BytesIO()
    with _exporting('ONNX'):
        torch.onnx.export(
            network,
            (image,),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=['lq'],
            output_names=['sr'],
            dynamic_axes=axes,
        )
    return file.getvalue()


def with_card(model: bytes, card: ModelCard) -> bytes:
    """Return an ONNX file that carries a card as its metadata, checked."""
    onnx = import_optional('onnx', 'an ONNX file')
    proto = onnx.load_from_string(model)
    onnx.helper.set_model_props(proto, card.metadata())
    proto.producer_name, proto.doc_string = 'kdsr', card.name
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def torchscript_bytes(network: nn.Module, image: Tensor, card: ModelCard | None = None) -> bytes:
    """Export to TorchScript, by tracing; without a card for a converter that reads it on."""
    file = io.BytesIO()
    with _exporting('TorchScript'):
        traced = torch.jit.trace(network, (image,), check_trace=False)
        extra = {CARD_FILE: json.dumps(card.metadata())} if card else {}
        torch.jit.save(traced, file, _extra_files=extra)
    return file.getvalue()


def pt2_bytes(network: nn.Module, image: Tensor, fixed: bool, card: ModelCard) -> bytes:
    """Export with `torch.export`; batch, height and width are free unless `fixed`."""
    file = io.BytesIO()
    with _exporting('torch.export'):
        free = torch.export.Dim.DYNAMIC
        shapes = None if fixed else ({0: free, 2: free, 3: free},)
        program = torch.export.export(network, (image,), dynamic_shapes=shapes)
        torch.export.save(program, file, extra_files={CARD_FILE: json.dumps(card.metadata())})
    return file.getvalue()


def safetensors_bytes(weights: Mapping[str, Tensor], card: ModelCard) -> bytes:
    """Return the weights in the names of the network, with the card as metadata; the same bytes every time.

    Raises:
        UserError: weights are not finite.
    """
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    bad = [name for name, tensor in own.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise UserError(f'{card.name}: the weights in {bad[0]!r} are not finite; the run that saved them diverged.')
    content = save(own, metadata=card.metadata())
    length = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + length])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))  # safetensors orders it by chance
    ordered = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
    ordered += b' ' * (-len(ordered) % 8)
    return len(ordered).to_bytes(8, 'little') + ordered + content[8 + length :]


def onnx_runner(model: bytes) -> ExportedRun:
    """Return what runs an ONNX model in onnxruntime.

    Raises:
        UserError: onnxruntime is missing or refuses the model.
    """
    return OnnxNetwork(model)


def torchscript_runner(model: bytes) -> ExportedRun:
    """Return what runs a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.jit.load(io.BytesIO(model))


def pt2_runner(model: bytes) -> ExportedRun:
    """Return what runs a `torch.export` file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.export.load(io.BytesIO(model)).module()


def write(content: bytes, path: Path) -> Path:
    """Write a whole file or none; return its path.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_durably(path, content)
    except OSError as error:
        raise UserError(f'{str(path)!r} cannot be written: {error}') from None
    return path


@contextmanager
def _exporting(what: str) -> Iterator[None]:
    """Keep the exporters' warnings to developers back, and tell their failures in one message."""
    try:
        with warnings.catch_warnings(), torch.no_grad(), traceable_windows():
            warnings.simplefilter('ignore')
            yield
    except UserError:
        raise
    except Exception as error:  # exporters end in one of dozens of errors
        first = str(error).strip().split('\n')[0]
        raise UserError(f'the network cannot be exported to {what} ({type(error).__name__}: {first}).') from error
