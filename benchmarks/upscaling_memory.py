"""How much memory `kdsr upscale` takes for large images, beside an older kdsr and the whole float image of spandrel.

    git worktree add ../kdsr_before 3ae1254
    python benchmarks/upscaling_memory.py --before ../kdsr_before

Writes benchmarks/results/upscaling_memory_cpu.md. Every run is a process of its own; the peak is that of its resident
memory, as the operating system counts it. "Whole" runs the network as many programs do: the image in floating point,
tiles of it through a network of spandrel, and the whole result in floating point until it is written.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = {2: 'fsrcnn_x2', 4: 'rfdn_tiny_x4'}
SIZES = {
    2: ((1000, 1500), (4000, 1500), (8000, 1500), (4000, 6000)),
    4: ((750, 1000), (3000, 1000), (6000, 1000), (3000, 4000)),
}
WAYS = ('now', 'before', 'whole')
_LARGEST_FOR_OTHERS = 100e6  # pixels of a result; the other ways need 10 GB and more for larger ones


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--before', help='checkout of an older kdsr')
    parser.add_argument('--scale', type=int, nargs='+', default=[2, 4])
    parser.add_argument('--ways', nargs='+', default=list(WAYS), choices=WAYS, help='builds to measure')
    parser.add_argument('--formats', nargs='+', default=['jpg', 'png', 'tif'])
    parser.add_argument('--worker', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _enlarge_whole(*args.worker)
        return
    from side_by_side import keep, machine

    from kdsr.markdown import markdown_table

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for scale in args.scale:
            for height, width in SIZES[scale]:
                photo = str(Path(folder) / f'{height}x{width}.jpg')
                _draw_photo(photo, height, width)
                pixels = scale**2 * height * width
                for way in args.ways if pixels < _LARGEST_FOR_OTHERS else args.ways[:1]:
                    every = way == 'now' and (height, width) == SIZES[scale][-1]
                    for format_ in args.formats if every else args.formats[:1]:
                        peak = _peak(way, photo, str(Path(folder) / f'out.{format_}'), scale, args.before)
                        cells = ['', ''] if peak is None else [f'{peak / 2**20:,.0f}', f'{peak / pixels:.1f}']
                        rows.append([f'{width}x{height} x{scale}', f'{pixels / 1e6:.0f}', way, format_, *cells])
                        print(rows[-1], flush=True)
    lines = [
        '# Peak memory of enlarging one photo',
        '',
        'MB of 2^20 bytes, and bytes for each pixel of the result, of the whole process: Python and the libraries take',
        'about 450 MB of it. "Now" and "before" are `kdsr upscale`; "whole" keeps image and result in floating point,',
        f'as many programs do. With {MODELS[2]} and {MODELS[4]}. {machine()}',
        '',
        markdown_table(
            ['photo', 'result, megapixels', 'build', 'format', 'peak MB', 'bytes a pixel'], rows, numbers=[1, 4, 5]
        ),
    ]
    keep('upscaling_memory', lines)


def _draw_photo(path: str, height: int, width: int) -> None:
    import numpy as np
    from PIL import Image
    from skimage import data

    photo = np.tile(data.astronaut(), (-(-height // 512), -(-width // 512), 1))[:height, :width]
    Image.fromarray(photo).save(path, quality=92)


def _peak(way: str, photo: str, out: str, scale: int, before: str | None) -> int | None:
    """Return the peak of the resident memory in bytes; None if the way is missing or fails."""
    if way == 'before' and before is None:
        return None
    root = os.path.abspath(before) if way == 'before' and before else str(Path(__file__).parents[1])
    python_path = os.pathsep.join([root, os.environ.get('PYTHONPATH', '')])
    env = {**os.environ, 'PYTHONPATH': python_path, 'PYTHONWARNINGS': 'ignore'}
    if way == 'whole':
        command = [sys.executable, str(Path(__file__)), '--worker', photo, out, str(scale)]
    else:
        command = [sys.executable, '-m', 'kdsr', 'upscale', photo, '-o', out, '-m', MODELS[scale]]
    Path(out).unlink(missing_ok=True)
    process = subprocess.Popen(command, env=env, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(text[-500:], file=sys.stderr)
        return None
    return usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def _enlarge_whole(photo: str, out: str, scale: str) -> None:
    """Enlarge with the image and the result in floating point as a whole, the network in tiles of 512."""
    import numpy as np
    import torch
    from PIL import Image

    from kdsr.deployment.sources import read_model

    one, _ = read_model(MODELS[int(scale)])
    assert one.network is not None
    image = np.asarray(Image.open(photo)).astype(np.float32) / 255
    given = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    large = torch.zeros(1, 3, *(one.scale * side for side in given.shape[2:]))
    with torch.inference_mode():
        for top in range(0, given.shape[2], 512):
            for left in range(0, given.shape[3], 512):
                tile = given[..., top : top + 512, left : left + 512]
                part = one.network(tile[:, :1]).expand(-1, 3, -1, -1) if one.luminance else one.network(tile)
                rows, columns = (slice(one.scale * at, one.scale * (at + 512)) for at in (top, left))
                large[..., rows, columns] = part
    pixels = (large[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(out)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)


if __name__ == '__main__':
    main()
