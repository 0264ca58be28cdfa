"""The results of `kdsr benchmark` with their protocol: Markdown for people, CSV and JSON for programs."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

import kdsr
from kdsr.benchmark.protocol import Protocol
from kdsr.benchmark.results import ImageScore, SetScores
from kdsr.benchmark.tasks import OVERLAP
from kdsr.data.benchmark_sets import describe_crop
from kdsr.distillation.photo_probe import BICUBIC_LIKE, EXCUSE
from kdsr.environment import commit, processor
from kdsr.markdown import markdown_table
from kdsr.pyiqa_facts import PYIQA
from kdsr.pyiqa_metric import read_pyiqa_version
from kdsr.wording import counted

QUADRANTS = '†'
ROUNDED = {False: 'not rounded', True: 'rounded'}


@dataclasses.dataclass(frozen=True)
class About:
    """How the numbers were made.

    Attributes:
        protocol: How networks were run and scored.
        device: torch's name of the device.
        decimals: Of PSNR in the table.
    """

    protocol: Protocol
    device: str
    decimals: int = 2

    def lines(self, results: Sequence[SetScores]) -> list[str]:
        """Return the protocol in words.

        Args:
            results: The results, for what was different between them.
        """
        chosen = self.protocol
        channels = 'R, G and B' if chosen.rgb else 'the Y channel (BT.601, 16..235)'
        border = 'S' if chosen.crop_border is None else str(chosen.crop_border)
        lines = [
            f'PSNR [dB] / SSIM on {channels}; super-resolved images rounded to 8 bits; {border} pixels cut from each '
            "border; mean over the images of a set; BasicSR's `calculate_psnr` and `calculate_ssim`.",
        ]
        if chosen.metrics:
            kinds = (f'{name}: {_describe_metric(metric)}' for name, metric in chosen.metrics.items())
            lines.append(f'In colour, with the same border: {"; ".join(kinds)}.')
        y_networks = sorted({r.model for r in results if r.luminance})
        if y_networks and not chosen.rgb:
            rounding = ROUNDED[chosen.round_gt]
            lines.append(f'Luminance networks ({", ".join(y_networks)}): the ground truth is {rounding}.')
        privileged = sorted({r.model for r in results if r.privileged})
        if privileged:
            lines.append(
                f'Networks whose input is the ground truth ({", ".join(privileged)}): their numbers are not those of '
                'networks for users.'
            )
        cut = f'tiles of {chosen.tile} LR pixels, overlap {OVERLAP}' if chosen.tile else 'no tiles'
        quarters = 'where marked †' if any(r.quadrants for r in results) else 'no'
        ensemble = 'mean of 8 orientations' if chosen.self_ensemble else 'no'
        lines.append(f'Self-ensemble: {ensemble}; quadrants: {quarters}; {cut}.')
        origins = {f'{r.set_name} x{r.scale} {r.lr_origin}': None for r in results}
        lines.append(f'LR images: {"; ".join(origins)}.')
        lines.append(f'{_describe_crops(results)}.')
        lines.append(f'{self.machine()}, fp32; torch {torch.__version__}; kdsr {kdsr.__version__} ({commit()}).')
        return lines

    def machine(self) -> str:
        """Return the device in words."""
        device = torch.device(self.device)
        if device.type == 'cuda' and torch.cuda.is_available():
            return torch.cuda.get_device_name(device)
        return f'{processor()}, {counted(torch.get_num_threads(), "thread")}'


def _describe_crops(results: Sequence[SetScores]) -> str:
    """Return how the ground truth was cropped, with the names of the sets where they differ."""
    sets: dict[str, dict[str, None]] = {}
    for r in results:
        sets.setdefault(describe_crop(r.crop, r.scale), {})[r.set_name] = None
    if len(sets) == 1:
        return next(iter(sets))
    return '; '.join(f'{crop}: {", ".join(names)}' for crop, names in sets.items())


def _describe_metric(metric: Mapping[str, Any]) -> str:
    if metric['type'] != PYIQA:
        return f"BasicSR's `{metric['type']}`"
    return f'{metric["metric"]} of pyiqa {read_pyiqa_version()}'


def format_markdown(results: Sequence[SetScores], about: About) -> str:
    """Return the protocol, one table per scale, and the files of the weights.

    Args:
        results: The results, in the order of the rows.
        about: How they were made.
    """
    blocks = ['# Benchmark', '\n'.join(f'* {line}' for line in about.lines(results))]
    for scale in sorted({r.scale for r in results}):
        of_scale = [r for r in results if r.scale == scale]
        blocks.append(_format_table(of_scale, f'x{scale}', partial(_format_cell, decimals=about.decimals)))
        for name, metric in about.protocol.metrics.items():
            head = f'x{scale}, {name} ({metric.get("better") or "higher"} is better)'
            blocks.append(_format_table(of_scale, head, partial(_format_other, metric=name)))
    blocks += [f'**WARNING: {warning}**' for warning in map(warn_if_below_bicubic, results) if warning]
    files = {(f'{r.model} x{r.scale}', r.source, r.fingerprint[:16] or '-'): None for r in results}
    blocks.append(markdown_table(['model', 'weights', 'sha256'], list(files)))
    return '\n\n'.join(blocks) + '\n'


def warn_if_below_bicubic(result: SetScores) -> str | None:
    """Return a warning if bicubic upsampling is better than a result, else None."""
    if not result.lost_to_bicubic > BICUBIC_LIKE:
        return None
    lost = f'{result.lost_to_bicubic:.2f} dB below bicubic upsampling'
    return f'{result.model} x{result.scale} is {lost} on {result.set_name}. {EXCUSE}'


def _format_table(results: Sequence[SetScores], title: str, cell: Callable[[SetScores], str]) -> str:
    sets = list(dict.fromkeys(r.set_name for r in results))
    counts = {r.set_name: len(r.images) for r in results}
    head = [title, 'parameters', *(f'{name} ({counts[name]})' for name in sets)]
    rows = []
    for model in dict.fromkeys(r.model for r in results):
        own = {r.set_name: r for r in results if r.model == model}
        size = next(iter(own.values())).parameters
        cells = [cell(own[name]) if name in own else '-' for name in sets]
        rows.append([model, '-' if size is None else f'{size:,}', *cells])
    return markdown_table(head, rows, numbers=range(1, len(head)))


def _format_cell(result: SetScores, decimals: int) -> str:
    return f'{result.psnr:.{decimals}f} / {result.ssim:.4f}' + (f' {QUADRANTS}' if result.quadrants else '')


def _format_other(result: SetScores, metric: str) -> str:
    return f'{result.mean_of(metric):.4f}'


def format_csv(results: Sequence[SetScores]) -> str:
    """Return one line per image, and one per set, where `image` is `mean`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    others = list(results[0].images[0].others) if results else []
    writer.writerow(['model', 'scale', 'set', 'image', 'psnr', 'ssim', *others])
    for r in results:
        mean = ImageScore('mean', r.psnr, r.ssim, others={name: r.mean_of(name) for name in others})
        for i in (*r.images, mean):
            more = [f'{i.others[name]:.8f}' for name in others]
            writer.writerow([r.model, r.scale, r.set_name, i.image, f'{i.psnr:.6f}', f'{i.ssim:.8f}', *more])
    return text.getvalue()


def format_json(results: Sequence[SetScores], about: About) -> str:
    """Return everything: protocol, versions, device, and the results with the scores of every image."""
    names = list(about.protocol.metrics)
    content = {
        'kdsr': kdsr.__version__,
        'commit': commit(),
        'torch': torch.__version__,
        'device': about.machine(),
        'precision': 'fp32',
        'date': datetime.date.today().isoformat(),
        'protocol': dataclasses.asdict(about.protocol),
        'protocol_in_words': about.lines(results),
        'results': [
            {**dataclasses.asdict(r), 'psnr': r.psnr, 'ssim': r.ssim, **{name: r.mean_of(name) for name in names}}
            for r in results
        ],
    }
    return json.dumps(content, indent=1) + '\n'
