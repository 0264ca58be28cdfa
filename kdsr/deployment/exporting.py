"""The work of `kdsr export`: every format written only when it gives what PyTorch gives, and one page about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kdsr.archs.spandrel_arch import Spandrel
from kdsr.deployment import formats
from kdsr.deployment.calibration import read_inputs, read_truths
from kdsr.deployment.card import Card, markdown
from kdsr.deployment.exportable import exportable
from kdsr.deployment.quantisation import psnr_report, quantise
from kdsr.deployment.sources import card_for, read_model
from kdsr.deployment.timing import time_in_turns, timing_report
from kdsr.deployment.verification import Difference, random_images, verify
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError, check_choice
from kdsr.networks.candidates import Candidate

_LONGEST_NAME = 150
_SPANDREL_FILE = 'A network of spandrel stays in its own file, which kdsr reads as it is.'
TIMED_SIDES = (128, 96, 64, 48, 32)  # the largest that PyTorch does in about a second


@dataclass(frozen=True)
class Wishes:
    """What is to be exported, and how.

    Attributes:
        formats: Of `kdsr.deployment.formats.SUFFIXES`.
        network: Options of the network where the file does not tell.
        int8: Folder of low-resolution images to calibrate an int8 ONNX file with; None for none.
        gt: Folder of their ground truths, of the same names, for the report.
        images: Folder of low-resolution images to verify with, beside noise.
        size: (h, w): only for images of this size; None for any.
        data_licence: Of the training data.
        repeats: Turns of the timing; 0 for none.
    """

    formats: Sequence[str] = ('onnx', 'safetensors')
    network: str | None = None
    int8: str | None = None
    gt: str | None = None
    images: str | None = None
    size: tuple[int, int] | None = None
    data_licence: str | None = None
    repeats: int = 5


def export(checkpoint: str, out: str, wishes: Wishes, say: Callable[[str], object] = print) -> list[Path]:
    """Export a checkpoint.

    Args:
        checkpoint: See :func:`kdsr.deployment.sources.read_model`.
        out: Folder.
        wishes: What is to be exported.
        say: Called with lines of progress.

    Returns:
        The files that were written, the page about them last.

    Raises:
        UserError: something is missing, or an exported network differs from its original; that file is not written,
            those before it are.
    """
    _check(wishes)
    one, card = read_model(checkpoint, wishes.network)
    if one.network is None:
        raise UserError('bicubic has no network to export.')
    card = card or card_for(one, one.source)
    card = replace(card, name=file_name(card.name))
    card = replace(card, data_licence=wishes.data_licence) if wishes.data_licence else card
    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(one.network, Spandrel) and set(wishes.formats) <= {'safetensors'}:
        raise UserError(f'safetensors: {_SPANDREL_FILE} Name --formats onnx.')
    job = _Job(one, card, wishes, folder, say)
    for kind in wishes.formats:
        job.write(kind)
    if wishes.int8:
        job.write_int8(wishes.int8, wishes.gt)
    if wishes.repeats and job.timed:
        job.time(wishes.repeats)
    page = markdown(card, job.sections)
    job.written.append(formats.write(page.encode(), folder / f'{card.name}.md'))
    return job.written


def file_name(name: str) -> str:
    """Return a name that comes out of a file as the name of a file in the folder of the results, never a path.

    Example:
        >>> file_name('../../etc/cron.d/x')
        'x'
    """
    last = re.split(r'[/\\]', name)[-1]
    cleaned = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', '_', last).lstrip('.').strip()
    return cleaned[:_LONGEST_NAME] or 'network'


def _check(wishes: Wishes) -> None:
    for kind in wishes.formats:
        check_choice('--formats', kind, tuple(formats.SUFFIXES))
    if wishes.int8 and 'onnx' not in wishes.formats:
        raise UserError('--int8 is made from the ONNX file: name onnx among --formats.')
    if wishes.gt and not wishes.int8:
        raise UserError('--gt belongs to --int8.')


class _Job:
    """One checkpoint's exports, and what was measured of them."""

    def __init__(self, one: Candidate, card: Card, wishes: Wishes, folder: Path, say: Callable[[str], object]) -> None:
        assert one.network is not None
        self.card, self.folder, self.say = card, folder, say
        self.network: nn.Module = one.network
        self.size = wishes.size
        self.original = partial(run_padded, one.network, multiple=one.multiple)
        self.exportable = exportable(one.network, one.multiple, one.scale)
        self.channels = 1 if one.luminance else 3
        self.example = formats.example(self.channels, self.size)
        self.images = random_images(self.channels, self.size)
        if wishes.images:
            self.images += read_inputs(wishes.images, one.luminance, 5, self.size)
        self.timed: dict[str, Callable[[Tensor], Tensor]] = {}
        self.sections: dict[str, str] = {}
        self.written: list[Path] = []
        self.onnx = b''

    def write(self, kind: str) -> None:
        """Export to one format, verify it, and write it."""
        path = self.folder / f'{self.card.name}{formats.SUFFIXES[kind]}'
        fixed = self.size is not None
        if kind == 'safetensors':
            self._write_weights(path)
            return
        if kind == 'onnx':
            self.onnx = formats.onnx_bytes(self.exportable, self.example, fixed)
            content = formats.with_card(self.onnx, self.card)
            run = self.timed['onnxruntime'] = formats.onnx_runner(content)
        elif kind == 'torchscript':
            content = formats.torchscript_bytes(self.exportable, self.example, self.card)
            run = formats.torchscript_runner(content)
        else:
            content = formats.pt2_bytes(self.exportable, self.example, fixed, self.card)
            run = formats.pt2_runner(content)
        found = verify(path.name, run, self.original, self.images)
        self._done(path, content, found)

    def _write_weights(self, path: Path) -> None:
        if isinstance(self.network, Spandrel):  # its own file is the only one from which spandrel builds it again
            self.say(f'{path.name}: not written. {_SPANDREL_FILE}')
            return
        content = formats.safetensors_bytes(self.network.state_dict(), self.card)
        self._done(path, content, [])

    def _done(self, path: Path, content: bytes, found: Sequence[Difference]) -> None:
        self.written.append(formats.write(content, path))
        told = f'{path} ({len(content) / 1e6:.2f} MB)'
        if found:
            largest = max(one.largest for one in found)
            self.say(f'{told}: at most {largest:.1e} from PyTorch on {len(found)} images')
            rows = '\n'.join(f'| {one.what} | {one.largest:.1e} |' for one in found)
            self.sections[f'{path.name}: largest difference to PyTorch, images in [0, 1]'] = (
                f'| image | difference |\n|---|---|\n{rows}'
            )
        else:
            self.say(told)

    def write_int8(self, folder: str, truths: str | None) -> None:
        """Quantise the ONNX model, report what it costs, and write it."""
        images = read_inputs(folder, self.channels == 1, 32, self.size)
        content = formats.with_card(quantise(self.onnx, [image for _, image in images]), self.card)
        run = self.timed['onnxruntime int8'] = formats.onnx_runner(content)
        names, sizes = [name for name, _ in images], [(image.shape[2], image.shape[3]) for _, image in images]
        known = read_truths(truths, names, self.channels == 1, self.card.scale, sizes) if truths else None
        report = psnr_report(run, self.original, images, known)
        path = self.folder / f'{self.card.name}_int8.onnx'
        self._done(path, content, [])
        what = 'the Y channel' if self.channels == 1 else 'RGB'
        self.sections[f'{path.name}: PSNR in dB, {what}, on the calibration images'] = report
        self.say(f'PSNR in dB, {what}:\n{report}')

    def _timed_size(self) -> tuple[int, int]:
        smallest = TIMED_SIDES[-1]
        image = torch.rand((1, self.channels, smallest, smallest))
        seconds = time_in_turns({'PyTorch': self.original}, image, 1)['PyTorch'][0]
        side = next((s for s in TIMED_SIDES if seconds * (s / smallest) ** 2 < 1), smallest)
        return side, side

    def time(self, repeats: int) -> None:
        """Time PyTorch and onnxruntime in turns."""
        image = torch.rand((1, self.channels, *(self.size or self._timed_size())))
        times = time_in_turns({'PyTorch': self.original, **self.timed}, image, repeats)
        report = timing_report(times, image, repeats)
        self.sections['Latency'] = report
        self.say(report)
