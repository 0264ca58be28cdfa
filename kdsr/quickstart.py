"""`kdsr quickstart`: three teachers, an aggregator and two students on sample photos, in minutes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from basicsr.archs import build_network
from torch import Tensor

from kdsr import options
from kdsr.data.matlab_bicubic import upsample_bicubic
from kdsr.data.prepare import prepare_benchmark_set, prepare_training_set
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.teacher import FrozenNetwork, build_teachers
from kdsr.errors import UserError
from kdsr.experiment import window_of
from kdsr.markdown import markdown_table
from kdsr.metrics import score
from kdsr.pictures.crops import crop_comparison
from kdsr.pictures.images import read_image, super_resolve
from kdsr.pictures.photo_rows import Row
from kdsr.progress_bars import ProgressBar

SCALE = 2
TRAIN_PHOTOS = ('coffee', 'hubble_deep_field', 'immunohistochemistry', 'retina', 'rocket', 'motorcycle')
UNSEEN_PHOTOS = ('astronaut', 'cat')
DATA = Path('datasets/quickstart')
RESULTS = Path('results/quickstart')
OPTIONS = Path('options/quickstart')
LANES = (('teacher_swinir', 'student_alone'), ('teacher_rcan', 'teacher_edsr'))
THEN = ('aggregator', 'student_distilled')
WHAT_IT_SHOWS = (
    'Both students were trained on the same images, in the same order, for the same iterations. A run of minutes on '
    'six photos shows that every part works. Two photos and one seed do not show how much teachers help. The files in '
    'options/ are the runs of the papers, with their data and budgets.'
)


def quickstart() -> None:
    """Prepare sample photos, train three teachers, an aggregator and two students, and compare the students.

    One student is trained alone, the other one with the teachers. The command writes `results/quickstart/table.md` and
    `comparison.png`. Runs that are trained already, with the same option file, are not trained again.

    Raises:
        UserError: the current folder is not a checkout, or a training stopped.
    """
    if not OPTIONS.is_dir():
        raise UserError(f'{OPTIONS}/ is missing: run quickstart in the folder of the checkout.')
    start = time.time()
    print('Nothing is downloaded: the photos are part of scikit-image.', flush=True)
    _say('1/4  Sample photos (from scikit-image): sub-images, bicubic LR, LMDB')
    _prepare()
    _say('2/4  Three teachers and the student alone; all are trained by `kdsr train FILE`')
    fresh = _train_in_lanes(LANES)
    _say('3/4  The aggregator (MTKD, stage 1), then the student with its teachers (stage 2)')
    for run in THEN:
        fresh = _train_in_lanes([(run,)], again=fresh)
    _say('4/4  Results on photos that no run was trained on')
    table = _report()
    print(f'\n{table}\n\nTable: {RESULTS}/table.md   Picture: {RESULTS}/comparison.png   {time.time() - start:.0f} s')
    print(f'\n{describe_next_steps()}')


def describe_next_steps() -> str:
    """Return what to do after the quickstart, with the command that makes `kdsr` known to the shell if it is not."""
    folder = Path(sys.executable).parent
    activate = folder / 'activate'
    known = shutil.which('kdsr') is not None or not activate.is_file()
    lines = [] if known else [f'  . {os.path.relpath(activate)}']
    lines += [
        '  kdsr upscale YOUR_PHOTOS --out large              # make them larger, with a network that comes with kdsr',
        '  kdsr distil YOUR_FILE.yml --teacher TEACHER.pth   # add a teacher to your own BasicSR file',
    ]
    return '\n'.join(
        [
            'Next: your own photos. docs/tutorial.md goes from a folder of them to a small network in ONNX. In short:',
            *lines,
        ]
    )


def _say(text: str) -> None:
    print(f'\n{text}', flush=True)


def _photo(name: str) -> np.ndarray:
    from skimage import data

    image = data.stereo_motorcycle()[0] if name == 'motorcycle' else getattr(data, name)()
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def _prepare() -> None:
    for folder, names in (('train_HR', TRAIN_PHOTOS), ('unseen/HR', UNSEEN_PHOTOS)):
        (DATA / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            file = DATA / folder / f'{name}.png'
            if not file.exists():
                cv2.imwrite(str(file), _photo(name))
    prepare_training_set(DATA / 'train_HR', DATA, scales=(SCALE,), crop_size=120, step=120)
    prepare_benchmark_set(DATA / 'unseen' / 'HR', DATA / 'unseen', scales=(SCALE,), gtmod12=True)


def _train_in_lanes(lanes: Sequence[Sequence[str]], again: bool = False) -> bool:
    """Train the runs of each lane in order, and the lanes at the same time; return whether anything was trained."""
    workers = len(lanes) if (os.cpu_count() or 1) > 1 else 1
    with ThreadPoolExecutor(workers) as pool:
        trained = list(pool.map(lambda lane: [_train(run, again) for run in lane], lanes))
    return any(any(lane) for lane in trained)


def _train(run: str, again: bool) -> bool:
    """Train one run with a progress bar, unless it is trained already; return whether it was trained now."""
    file = OPTIONS / f'{run}.yml'
    opt = options.load(str(file))
    folder = Path('experiments') / opt['name']
    kept = folder / file.name
    done = (folder / 'models' / 'net_g_latest.pth').exists() and kept.exists()
    if done and not again and kept.read_text(encoding='utf-8').endswith(file.read_text(encoding='utf-8')):
        ProgressBar.write(f'  {run}: already trained ({folder}); `make clean` removes it.')
        return False
    command = [sys.executable, 'kdsr/train.py', '-opt', str(file)]
    total, lines = int(opt['train']['total_iter']), []
    bar = ProgressBar(total=total, desc=f'  {run:18}', unit='it', mininterval=1, dynamic_ncols=True)
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': os.environ.get('CUDA_VISIBLE_DEVICES', '0').split(',')[0]}  # one GPU
    with (
        bar,
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        for line in process.stdout or ():
            lines.append(line)
            iteration = re.search(r', iter: *([\d,]+)', line)
            if iteration:
                bar.update(int(iteration[1].replace(',', '')) - bar.n)
    if process.returncode:
        raise UserError(f'{" ".join(command)} stopped:\n{"".join(lines[-30:])}')
    return True


def _report() -> str:
    """Score all networks on the unseen photos, write the table and the picture, and return the table."""
    methods = _methods()
    rows: list[Row] = []
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for photo in UNSEEN_PHOTOS:
        gt = read_image(str(DATA / 'unseen' / 'GTmod12' / f'{photo}.png'))
        lq = read_image(str(DATA / 'unseen' / f'LRbicx{SCALE}' / f'{photo}.png'))
        images = {name: method(lq) for name, method in methods.items()}
        for name, image in images.items():
            scores[name].append(score(image, gt, SCALE))
        captions = {name: f'{scores[name][-1][0]:.2f} dB / {scores[name][-1][1]:.4f}' for name in methods}
        shown = {n: i for n, i in images.items() if not n.startswith('teacher')}
        rows.append(Row(photo, gt, shown, captions))
    crop_comparison(rows, str(RESULTS / 'comparison.png'), size=72)
    table = _table(scores)
    (RESULTS / 'table.md').write_text(table + '\n', encoding='utf-8')
    return table


def _methods() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    distilled = options.load(str(OPTIONS / 'student_distilled.yml'))
    teachers = build_teachers(distilled)
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {'bicubic': lambda lq: upsample_bicubic(lq, SCALE)}
    for name, member in zip(teachers.names, teachers.members):
        methods[f'teacher {name}'] = _shown_by(member)
    methods['fused teachers'] = lambda lq: super_resolve(lambda x: teachers(Batch(x)).image, lq)
    methods['student alone'] = _student('student_alone')
    methods['student distilled'] = _student('student_distilled')
    return methods


def _shown_by(teacher: FrozenNetwork) -> Callable[[np.ndarray], np.ndarray]:
    return lambda lq: super_resolve(lambda x: teacher(x).image, lq)


def _student(run: str) -> Callable[[np.ndarray], np.ndarray]:
    opt = options.load(str(OPTIONS / f'{run}.yml'))
    network = build_network(opt['network_g']).eval()
    load_weights(network, f'experiments/{opt["name"]}/models/net_g_latest.pth', name=run)

    def call(image: Tensor) -> Tensor:
        with torch.no_grad():
            return run_padded(network, image, window_of(opt['network_g']))

    return lambda lq: super_resolve(call, lq)


def _table(scores: dict[str, list[tuple[float, float]]]) -> str:
    mean = {name: float(np.mean([p for p, _ in values])) for name, values in scores.items()}
    rows = [[name, *(f'{p:.2f} / {s:.4f}' for p, s in values), f'{mean[name]:.2f}'] for name, values in scores.items()]
    head = [f'x{SCALE}, Y channel', *(f'{photo} PSNR / SSIM' for photo in UNSEEN_PHOTOS), 'mean PSNR']
    gain = mean['student distilled'] - mean['student alone']
    lead = min(mean['student alone'], mean['student distilled']) - mean['bicubic']
    text = (
        f'Distilled minus alone: {gain:+.2f} dB on average; both students are at least {lead:+.2f} dB over bicubic. '
        f'{WHAT_IT_SHOWS}'
    )
    return f'{markdown_table(head, rows)}\n\n{text}'
