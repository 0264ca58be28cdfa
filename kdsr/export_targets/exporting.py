"""The work of `kdsr export`: every format written only when it gives what PyTorch gives, and one page about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from kdsr.archs.spandrel_arch import Spandrel
from kdsr.deployment import formats
from kdsr.deployment.calibration import read_inputs, read_truths
from kdsr.deployment.card import ModelCard, format_card
from kdsr.deployment.formats import ExportedRun
from kdsr.deployment.quantisation import format_psnr_report, quantise
from kdsr.deployment.sources import make_card, read_model, trained_ranges
from kdsr.deployment.timing import format_timing, time_in_turns
from kdsr.deployment.verification import Difference, random_images, verify
from kdsr.errors import UserError, check_choice
from kdsr.export_targets.making import SPANDREL_FILE, Maker
from kdsr.export_targets.targets import TARGETS, writable_targets
from kdsr.networks.candidates import Candidate
from kdsr.options.names import clean_name
from kdsr.wording import counted

TIMED_SIDES = (128, 96, 64, 48, 32)  # the largest that PyTorch does in about a second


@dataclass(frozen=True)
class ExportSettings:
    """What is to be exported, and how.

    Attributes:
        formats: Of `kdsr.export_targets.targets.TARGETS`.
        network: Options of the network where the file does not tell.
        int8: Folder of low-resolution images to calibrate an int8 ONNX file with; None for none.
        gt: Folder of their ground truths, of the same names, for the report.
        images: Folders of low-resolution images to verify with, beside noise; one folder may be given as it is.
        size: (h, w): only for images of this size; None for any.
        data_licence: Of the training data.
        purpose: The images that the network is for.
        repeats: Turns of the timing; 0 for none.
        everything: Also all other targets whose packages are installed; those that fail are told, not raised.
    """

    formats: Sequence[str] = ('onnx', 'safetensors')
    network: str | None = None
    int8: str | None = None
    gt: str | None = None
    images: Sequence[str] | str = ()
    size: tuple[int, int] | None = None
    data_licence: str | None = None
    purpose: str | None = None
    repeats: int = 5
    everything: bool = False


def export(checkpoint: str, out: str, wishes: ExportSettings, say: Callable[[str], object] = print) -> list[Path]:
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
    one, card = read_model(checkpoint, wishes.network, say)
    if one.network is None:
        raise UserError('bicubic has no network to export.')
    card = card or make_card(one, one.source)
    card = replace(card, name=clean_name(card.name))
    card = replace(card, data_licence=wishes.data_licence or card.data_licence, purpose=wishes.purpose or card.purpose)
    folder = Path(out).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(one.network, Spandrel) and set(wishes.formats) <= {'safetensors'}:
        raise UserError(f'safetensors: {SPANDREL_FILE} Name --formats onnx.')
    job = _Job(one, card, wishes, folder, say)
    job.ranges = trained_ranges(checkpoint) if wishes.int8 else None
    for kind in wishes.formats:
        if kind == 'safetensors' and isinstance(one.network, Spandrel):
            job.try_to_write(kind)
        else:
            job.write(kind)
    for kind in writable_targets() if wishes.everything else ():
        if kind not in wishes.formats:
            job.try_to_write(kind)
    if wishes.int8:
        job.write_int8(wishes.int8, wishes.gt)
    if wishes.repeats and len(job.timed) > 1:
        job.time(wishes.repeats)
    job.describe_targets()
    page = format_card(card, job.sections)
    job.written.append(formats.write(page.encode(), folder / f'{card.name}.md'))
    return job.written


def _check(wishes: ExportSettings) -> None:
    for kind in wishes.formats:
        check_choice('--formats', kind, tuple(TARGETS))
    if wishes.int8 and 'onnx' not in wishes.formats:
        raise UserError('--int8 is made from the ONNX file: name onnx among --formats.')
    if wishes.gt and not wishes.int8:
        raise UserError('--gt belongs to --int8.')


class _Job:
    """One checkpoint's exports, and what was measured of them."""

    def __init__(
        self, one: Candidate, card: ModelCard, wishes: ExportSettings, folder: Path, say: Callable[[str], object]
    ) -> None:
        self.card, self.folder, self.say, self.size = card, folder, say, wishes.size
        self.maker = Maker(one, card, wishes.size)
        self.channels = self.maker.channels
        self.original = self.maker.original(rgb=False)
        folders = [wishes.images] if isinstance(wishes.images, str) else wishes.images
        self.images = {
            channels: random_images(channels, self.size)
            + [image for path in folders for image in read_inputs(path, channels == 1, 5, self.size)]
            for channels in {self.channels, 3}
        }
        self.timed: dict[str, tuple[ExportedRun, int]] = {'PyTorch': (self.original, self.channels)}
        self.sections: dict[str, str] = {}
        self.written: list[Path] = []
        self.targets: list[str] = []
        self.ranges: Mapping[str, Sequence[float]] | None = None

    def write(self, kind: str) -> None:
        """Export to one target, verify its files, and write them."""
        rgb = TARGETS[kind].rgb
        original, images = self.maker.original(rgb), self.images[3 if rgb else self.channels]
        clamped = rgb and self.channels == 1  # what enlarges colours in PyTorch gives [0, 1]
        for made in self.maker.make(kind):
            name = next(iter(made.files))
            found: list[Difference] = []
            if made.run is not None:
                found = verify(name, _clamped(made.run) if clamped else made.run, original, images, made.tolerance)
            self._done(made.files, found)
            if made.default_run is not None:
                self._tell_default(name, made.default_run, original, images)
            if made.timed and made.run is not None:
                self.timed[made.timed] = (made.run, 3 if rgb else self.channels)
        self.targets.append(kind)
        if kind == 'coreml':
            self.say('Core ML: converted, and checked in its structure; not run here.')

    def try_to_write(self, kind: str) -> None:
        """Export to one target; where the network cannot be, say why and go on."""
        try:
            self.write(kind)
        except UserError as error:
            name = f'{self.card.name}{formats.SUFFIXES.get(kind, f" for {kind}")}'
            self.say(f'{name}: not written. {error}')
            self.sections[f'{name}: not written'] = str(error)

    def _done(self, files: Mapping[str, bytes], found: Sequence[Difference]) -> None:
        name = next(iter(files))
        for path, content in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            self.written.append(formats.write(content, self.folder / path))
        told = f'{self.folder / name} ({sum(map(len, files.values())) / 1e6:.2f} MB)'
        if found:
            largest = max(one.largest for one in found)
            self.say(f'{told}: at most {largest:.1e} from PyTorch on {counted(len(found), "image")}')
            rows = '\n'.join(f'| {one.what} | {one.largest:.1e} |' for one in found)
            self.sections[f'{name}: largest difference to PyTorch, images in [0, 1]'] = (
                f'| image | difference |\n|---|---|\n{rows}'
            )
        else:
            self.say(told)

    def _tell_default(
        self, name: str, run: ExportedRun, original: ExportedRun, images: Sequence[tuple[str, Tensor]]
    ) -> None:
        """Say how far the runtime's default precision is from PyTorch."""
        with torch.no_grad():
            largest = max(float((run(image) - original(image)).abs().max()) for _, image in images)
        text = f'With the default settings of its runtime on this processor: at most {largest:.1e} from PyTorch.'
        self.say(f'{name}: {text[0].lower()}{text[1:]}')
        self.sections[f'{name}: default precision'] = text

    def write_int8(self, folder: str, truths: str | None) -> None:
        """Quantise the ONNX model, report what it costs, and write it."""
        images = read_inputs(folder, self.channels == 1, 32, self.size)
        content = formats.with_card(quantise(self.maker.onnx, [image for _, image in images], self.ranges), self.card)
        run = formats.onnx_runner(content)
        self.timed['onnxruntime int8'] = (run, self.channels)
        if self.ranges:
            self.say('int8: with the ranges of activations that the network was trained with.')
        names, sizes = [name for name, _ in images], [(image.shape[2], image.shape[3]) for _, image in images]
        known = read_truths(truths, names, self.channels == 1, self.card.scale, sizes) if truths else None
        report = format_psnr_report(run, self.original, images, known)
        name = f'{self.card.name}_int8.onnx'
        self._done({name: content}, [])
        what = 'the Y channel' if self.channels == 1 else 'RGB'
        self.sections[f'{name}: PSNR in dB, {what}, on the calibration images'] = report
        self.say(f'PSNR in dB, {what}:\n{report}')

    def _timed_size(self) -> tuple[int, int]:
        smallest = TIMED_SIDES[-1]
        image = torch.rand((1, self.channels, smallest, smallest))
        seconds = time_in_turns({'PyTorch': self.original}, image, 1)['PyTorch'][0]
        side = next((s for s in TIMED_SIDES if seconds * (s / smallest) ** 2 < 1), smallest)
        return side, side

    def time(self, repeats: int) -> None:
        """Time PyTorch and the other runtimes in turns."""
        height, width = self.size or self._timed_size()
        image = torch.rand((1, self.channels, height, width))
        runs = {
            name: run if channels == self.channels else _on_rgb(run) for name, (run, channels) in self.timed.items()
        }
        times = time_in_turns(runs, image, repeats)
        report = format_timing(times, image, repeats)
        self.sections['Latency'] = report
        self.say(report)

    def describe_targets(self) -> None:
        """Say for the page how images are given to each target."""
        rows = [
            f'| {kind} | {TARGETS[kind].reads} | {TARGETS[kind].preprocessing.format(multiple=self.card.multiple)} |'
            for kind in self.targets
        ]
        self.sections['Targets'] = '\n'.join(['| target | read by | input and output |', '|---|---|---|', *rows])


def _clamped(run: ExportedRun) -> ExportedRun:
    return lambda image: run(image).clamp(0, 1)


def _on_rgb(run: ExportedRun) -> ExportedRun:
    """Run what takes RGB on one channel, as grey; the work is that of a colour image."""
    return lambda image: run(image.expand(-1, 3, -1, -1))
