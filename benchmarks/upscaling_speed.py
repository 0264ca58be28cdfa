"""What a photo costs in processor time: `kdsr upscale` with each engine, beside an older kdsr and the runtimes alone.

    git worktree add ../kdsr_before 3ae1254
    OMP_NUM_THREADS=1 python benchmarks/upscaling_speed.py --before ../kdsr_before

Writes benchmarks/results/upscaling_speed_cpu.md. Every contender is a process of its own; they take turns, and seconds
are those of the process, on one thread. "Whole" is reading the file, conversion, network, and handing over the rows to
an encoder, which itself is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CASES = {'fsrcnn_x2': 1024, 'rfdn_tiny_x4': 512, 'rfdn_small_x2': 512}  # network to side of the photo
WHOLE = {
    'before': 'whole, before (PyTorch)',
    'kdsr torch': 'whole, PyTorch',
    'kdsr onnx': 'whole, onnxruntime',
    'kdsr openvino': 'whole, OpenVINO',
    'kdsr openvino bf16': 'whole, OpenVINO bf16',
}
ALONE = {
    'torch': 'network alone, PyTorch',
    'onnxruntime': 'network alone, onnxruntime',
    'opencv': 'network alone, OpenCV dnn',
    'openvino f32': 'network alone, OpenVINO',
    'openvino bf16': 'network alone, OpenVINO bf16',
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--before', help='checkout of an older kdsr')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--cases', nargs='+', default=list(CASES), choices=list(CASES))
    parser.add_argument('--contenders', nargs='+', default=[*WHOLE, *ALONE])
    parser.add_argument('--worker', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(*args.worker)
        return
    from side_by_side import keep, machine

    from kdsr.markdown import markdown_table

    rows = []
    for case in args.cases:
        seconds = _take_turns(case, args)
        first = 'before' if 'before' in seconds else next(iter(seconds))
        for name, values in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds[first], values))
            label = {**WHOLE, **ALONE}[name]
            spread = f'{min(values):.3f} / {statistics.median(values):.3f} / {max(values):.3f}'
            rows.append([f'{case}, {CASES[case]}x{CASES[case]}', label, spread, f'{ratio:.2f}'])
    lines = [
        '# What a photo costs',
        '',
        'Processor seconds of one photo, min / median / max, and the median of the ratios to the first line,',
        f'{args.rounds} rounds in turns after one that does not count. "Whole" leaves out the encoder. {machine()}',
        '',
        markdown_table(['network, photo', 'what', 'seconds', 'times as fast'], rows, numbers=[2, 3]),
    ]
    keep('upscaling_speed', lines)


def _take_turns(case: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each round, by contender."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        photo = str(Path(folder) / 'photo.jpg')
        _draw_photo(photo, CASES[case])
        workers = {name: _start(name, case, photo, args.before) for name in args.contenders}
        workers = {name: worker for name, worker in workers.items() if worker is not None}
        for turn in range(args.rounds + 1):
            for name, worker in workers.items():
                value = _ask(worker)
                if turn:
                    seconds.setdefault(name, []).append(value)
        for worker in workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()
    return seconds


def _draw_photo(path: str, side: int) -> None:
    import numpy as np
    from PIL import Image
    from skimage import data

    tiles = -(-side // 512)
    photo = np.tile(data.astronaut(), (tiles, tiles, 1))[:side, :side]
    Image.fromarray(photo).save(path, quality=95)


def _start(name: str, case: str, photo: str, before: str | None) -> subprocess.Popen[str] | None:
    """Start a contender; None where its package or checkout is missing."""
    if name == 'before' and before is None:
        return None
    root = os.path.abspath(before) if name == 'before' and before else str(Path(__file__).parents[1])
    python_path = os.pathsep.join([root, os.environ.get('PYTHONPATH', '')])
    env = {**os.environ, 'PYTHONPATH': python_path, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, str(Path(__file__)), '--worker', name, case, photo]
    worker = subprocess.Popen(command, env=env, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    if worker.stdout.readline().strip() == 'ready':
        return worker
    print(f'{name}: left out')
    worker.wait()
    return None


def _ask(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write('go\n')
    worker.stdin.flush()
    return float(worker.stdout.readline())


def _work(name: str, case: str, photo: str) -> None:
    """Be one contender: run once for each line that comes in."""
    out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what libraries print must not reach the other side
    try:
        run = _run_of(name, case, photo)
    except ImportError as error:
        print(f'{name}: {error}', file=sys.stderr)
        return
    print('ready', file=out, flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        run()
        print(time.process_time() - start, file=out, flush=True)


def _run_of(name: str, case: str, photo: str) -> Callable[[], object]:
    import torch

    torch.set_num_threads(1)
    if name == 'before':
        from kdsr.deployment.pictures import read_picture as read_before

        from kdsr.deployment.upscaler import Upscaler as Before

        before = Before(case)
        return lambda: before(read_before(Path(photo)).pixels)
    if name.startswith('kdsr'):
        return _whole(case, photo, name.split()[1], 'bf16' if name.endswith('bf16') else 'fp32')
    return _network_alone(name, case, photo)


def _whole(case: str, photo: str, engine: str, precision: str) -> Callable[[], object]:
    import importlib

    from kdsr.deployment.upscaler import Upscaler
    from kdsr.image_files.reading import read_picture

    importlib.import_module({'onnx': 'onnxruntime'}.get(engine, engine))
    upscaler = Upscaler(case, engine=engine, precision=precision)  # type: ignore[arg-type]

    def run() -> None:
        for _ in upscaler.rows(read_picture(Path(photo)).pixels):
            pass

    return run


def _network_alone(name: str, case: str, photo: str) -> Callable[[], object]:
    import numpy as np
    import torch
    from PIL import Image

    from kdsr.deployment import formats
    from kdsr.deployment.exportable import exportable
    from kdsr.deployment.sources import read_model
    from kdsr.networks.onnx_network import compile_openvino, open_onnx_session

    one, _ = read_model(case)
    assert one.network is not None
    channels = 1 if one.luminance else 3
    image = np.asarray(Image.open(photo)).astype(np.float32)[None, ..., :channels].transpose(0, 3, 1, 2) / 255
    image = np.ascontiguousarray(image)
    if name == 'torch':
        network, given = one.network, torch.from_numpy(image)

        def run() -> object:
            with torch.inference_mode():
                return network(given)

        return run
    model = formats.onnx_bytes(exportable(one.network, 1, one.scale), formats.example(channels, None), False)
    if name == 'onnxruntime':
        session = open_onnx_session(model, 'cpu', case)
        return lambda: session.run(None, {'lq': image})
    if name == 'opencv':
        import cv2

        cv2.setNumThreads(1)
        # OpenCV fixes the size when it reads the file
        fixed = formats.onnx_bytes(exportable(one.network, 1, one.scale), torch.from_numpy(image), True)
        net = cv2.dnn.readNetFromONNX(np.frombuffer(fixed, np.uint8))

        def forward() -> object:
            net.setInput(image)
            return net.forward()

        return forward
    request = compile_openvino(model, 'bf16' if name.endswith('bf16') else 'f32')
    return lambda: request.infer([image], share_inputs=True, share_outputs=True)


if __name__ == '__main__':
    main()
