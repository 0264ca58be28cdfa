"""Score networks of the zoo as `kdsr benchmark` does, and write the scores on their cards.

    python scripts/score_zoo.py datasets/Set5 datasets/Set14 [--names rfdn_small_x2 ...] [--purpose TEXT]

`kdsr export` takes the scores of a network from the log of its training, which may have validated on other crops.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import kdsr
from kdsr import zoo

# isort: split
from safetensors.torch import load_file

from kdsr.benchmark.protocol import Protocol, Resources
from kdsr.benchmark.scoring import benchmark
from kdsr.deployment import formats
from kdsr.deployment.card import format_card, read_card
from kdsr.metadata import safetensors_metadata

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
PROTOCOL = (
    'PSNR in dB and SSIM on luminance, S pixels of border left out, GT cropped to a multiple of the scale: '
    '`kdsr benchmark`.'
)


def measure(name: str, sets: list[str]) -> dict[str, dict[str, float]]:
    """Return set to metric to value."""
    with tempfile.TemporaryDirectory() as folder:
        _, found = benchmark([name], sets, Path(folder), Protocol(), Resources())
    return {
        one.set_name: {
            metric: round(statistics.fmean(getattr(image, metric) for image in one.images), 4)
            for metric in ('psnr', 'ssim')
        }
        for one in found
    }


def main() -> None:
    """Score and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('sets', nargs='*', metavar='SET', help='none: leave the scores as they are')
    parser.add_argument('--names', nargs='+', default=zoo.list_names())
    parser.add_argument('--purpose', help='the images that these networks are for')
    args = parser.parse_args()
    for name in args.names:
        path = Path(zoo.find_file(name))
        card = read_card(safetensors_metadata(str(path)), str(path))
        assert card is not None
        if args.sets:
            card = replace(card, metrics=measure(name, args.sets), protocol=PROTOCOL)
        if args.purpose:
            card = replace(card, purpose=args.purpose)
        formats.write(formats.safetensors_bytes(load_file(str(path)), card), path)
        formats.write(format_card(card, {}).encode(), path.with_suffix('.md'))
        sys.stdout.write(f'{name}: {dict(card.metrics)}\n')


if __name__ == '__main__':
    main()
