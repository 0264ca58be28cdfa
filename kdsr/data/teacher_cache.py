"""Running an experiment's teachers once over its training images, and keeping what they say."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger
from tqdm import tqdm

from kdsr import options, plugins
from kdsr.data.growing_folder import differences, read_settings
from kdsr.data.parallel import SILENCE, check_workers, count_processors, ordered_map
from kdsr.data.raw_images import RawImages, Window
from kdsr.data.raw_writer import RawWriter, check_room, gigabytes
from kdsr.data.teacher_run import OVERLAP, TeacherRun
from kdsr.data.training_images import TrainingImages, training_images
from kdsr.distillation.cached_teachers import CachedTeachers
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.distillation.teacher_key import NOT_HERE, teacher_key
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.experiment.missing_files import check_files
from kdsr.hourglass import decoder_of
from kdsr.wording import printable

_SAMPLE = 48  # side of the crops on which the teachers are checked and timed, in low-resolution pixels
_SAMPLES = 4
_SLOWER = 10  # times the estimated duration of an image, before a worker counts as stuck
LQ = 'low-resolution images'


def make_cache(
    opt: Mapping[str, Any], workers: int | None = None, tile: int | None = None, progress: bool = True
) -> Path:
    """Write the teachers' images of the whole training set to `distillation.cache`.

    Stored is what the student will be taught, clamped to [0, 1] and rounded to 8 bits: what the teachers agree on, or
    each teacher's own image for AggregationModel. Of a privileged teacher whose features are compared (PISR) it is what
    its encoder makes of the ground truth, in single precision. A killed run is continued by the
    same call. How much room and, as far as a first crop tells, how much time it takes is said before it starts.

    Args:
        opt: All options of the experiment, as `options.load_experiment` reads them.
        workers: Number of processes; one a GPU, or one on a CPU, when left out.
        tile: Side of the tiles in low-resolution pixels, 0 for whole images; when left out, only images of more than
            512x512 pixels are cut. See :func:`~kdsr.distillation.tiling.run_tiled`.
        progress: Say what is done and show a bar.

    Returns:
        The folder.

    Raises:
        UserError: no cache is named, the teachers or images cannot be used, or the folder holds another cache.
    """
    experiment = read_experiment(opt)
    cache = _checked_cache(opt, experiment, tile)
    devices = _devices(opt)
    workers = check_workers(workers, len(devices))
    with training_images(experiment) as images:
        writer = _writer(experiment, cache, images)
        if writer.complete:
            if progress:
                tqdm.write(
                    printable(f'Nothing to do: {writer.final} is there, made by these teachers from these images.')
                )
            return writer.final
        pending = [number for number, name in enumerate(images.names) if name not in writer.finished]
        run = TeacherRun(experiment, cache.self_ensemble, tile)
        run.start(devices[0], images)
        seconds = _announce(run, images, pending, writer, min(workers, len(devices)), progress)
        if workers != 1:
            run = run.not_started()  # the other processes have teachers of their own
        with contextlib.ExitStack() as stack:
            writer.open()
            stack.callback(writer.close)
            _fill(writer, run, images, pending, workers, devices, seconds, progress)
            writer.finish()
    return writer.final


def _writer(experiment: Experiment, cache: options.Cache, images: TrainingImages) -> RawWriter:
    key = teacher_key(experiment, cache)
    settings = {**key, LQ: images.digest()}
    sources = {name: 'x'.join(map(str, size)) for name, size in zip(images.names, images.sizes)}
    copies = len(experiment.teachers) if experiment.content == 'teacher_images' else 1
    dtype = 'float32' if experiment.content == 'code' else 'uint8'
    return RawWriter(Path(cache.path).expanduser(), settings, sources, experiment.channels * copies, dtype)


def _announce(
    run: TeacherRun, images: TrainingImages, pending: list[int], writer: RawWriter, devices: int, progress: bool
) -> float:
    """Check the teachers on a few crops; print the disk space and time that the rest needs.

    Returns:
        Seconds for one low-resolution pixel on one device.
    """
    experiment = run.experiment
    numbers = pending[:: max(1, len(pending) // _SAMPLES)][:_SAMPLES]
    batches = [run.batch(number, _SAMPLE) for number in numbers]
    if batches and experiment.health_check:
        get_root_logger().info(check_teacher(run.teachers, batches, experiment.scale))
    seconds = _seconds_per_pixel(run, batches)
    pixels = sum(math.prod(images.sizes[number]) for number in pending)
    needed = writer.bytes_per_pixel * run.scale**2 * pixels
    check_room(writer.final.parent, needed)
    if progress:
        done = len(images.names) - len(pending)
        before = f' ({done} done before)' if done else ''
        duration = _duration(seconds * pixels / devices)
        text = f'{len(images.names)} images{before} -> {writer.final}: {gigabytes(needed)} of disk, about {duration}.'
        tqdm.write(printable(text))
    return seconds


def _seconds_per_pixel(run: TeacherRun, batches: list[Batch]) -> float:
    """Time the second of two answers: the first also warms up."""
    seconds = 0.0
    for batch in 2 * batches[:1]:
        start = time.perf_counter()
        run.answer(batch).sum().item()  # item() waits for the device
        seconds = (time.perf_counter() - start) / math.prod(batch.lq.shape[-2:])
    return seconds


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min' if minutes else f'{seconds:.0f} s'


def _fill(
    writer: RawWriter,
    run: TeacherRun,
    images: TrainingImages,
    pending: list[int],
    workers: int,
    devices: list[str],
    seconds: float,
    progress: bool,
) -> None:
    """Run the teachers on the pending images, in this process or in several, and store their images in order."""
    pixels = [math.prod(size) for size in images.sizes]
    bar = tqdm(
        total=sum(pixels), initial=sum(pixels) - sum(pixels[n] for n in pending), unit='px', unit_scale=True,
        disable=not progress,
    )  # fmt: skip
    if workers == 1:
        results = ordered_map(run, pending, 1)
    else:
        threads = max(1, count_processors() // workers)
        setup = functools.partial(_start_in_worker, run, devices, threads)
        largest = max(pixels[number] for number in pending)
        silence = SILENCE + _SLOWER * seconds * largest * workers
        results = ordered_map(_run_in_worker, pending, workers, setup, images.names.__getitem__, silence)
    with contextlib.closing(results), bar:
        for number, image in zip(pending, results):
            windows = [Window(key, *(run.scale * n for n in place)) for key, *place in images.windows[number]]
            writer.add(images.names[number], 'x'.join(map(str, images.sizes[number])), (image, windows))
            bar.update(pixels[number])


_of_this_worker: list[TeacherRun] = []


def _start_in_worker(run: TeacherRun, devices: list[str], threads: int, number: int) -> None:
    torch.set_num_threads(threads)
    plugins.import_named(run.experiment.imports)
    images = contextlib.ExitStack().enter_context(training_images(run.experiment))  # open until the process ends
    run.start(devices[number % len(devices)], images)
    _of_this_worker.append(run)


def _run_in_worker(number: int) -> np.ndarray:
    return _of_this_worker[0](number)


def open_cache(experiment: Experiment) -> TeacherEnsemble | CachedTeachers:
    """Return the teachers that answer from `distillation.cache`, after a look at whether it belongs to the experiment.

    Where codes are cached (PISR), the teacher's decoder answers.

    Args:
        experiment: That uses a cache.

    Raises:
        UserError: the cache was made by other teachers, or from other images; the message says which.
    """
    cache = experiment.used_cache
    assert cache is not None
    cached = RawImages(cache.path, 'distillation.cache')
    made, wanted = read_settings(cached.folder), teacher_key(experiment, cache)
    for name in [name for name, value in wanted.items() if value == NOT_HERE and name in made]:
        get_root_logger().warning(f'distillation.cache: {name} cannot be compared, {NOT_HERE}.')
        wanted[name] = made[name]
    stores_code = experiment.content == 'code'
    with training_images(experiment) as images:
        problems = _differing_samples(cached, images, 1 if stores_code else experiment.scale)
        made_of = {} if problems else {LQ: images.digest()}
    wanted = {LQ: made.get(LQ), **wanted, **made_of}
    problems += differences(made, wanted)
    if problems:
        raise UserError(
            f'distillation.cache: {cache.path} was made with {"; ".join(problems)}. Make another: delete it or change '
            '`cache`, and run `kdsr cache` on this option file. `exact: true` under `cache` runs the teachers live.'
        )
    return build_teachers(experiment, decoder_of) if stores_code else CachedTeachers(experiment.teacher_names)


def _differing_samples(cached: RawImages, images: TrainingImages, scale: int) -> list[str]:
    made = {key: (height, width) for key, (height, width) in zip(cached.keys, cached.sizes.tolist())}
    wanted = {key: (scale * height, scale * width) for key, (height, width) in images.samples().items()}
    return [f'other training images: {line}' for line in differences(made, wanted)[:1]]


def _checked_cache(opt: Mapping[str, Any], experiment: Experiment, tile: int | None) -> options.Cache:
    options.check(opt)
    cache = experiment.cache
    if cache is None:
        raise UserError(
            'this option file names no cache. Say where it should be: `distillation: {cache: datasets/cache/NAME.raw}`.'
        )
    check_files(experiment.live())
    if 'train' not in experiment.datasets:
        raise UserError('a cache is made of the training set, and there is no `datasets.train`.')
    if tile is not None and tile != 0 and tile < 2 * OVERLAP:
        raise UserError(f'tiles must have at least {2 * OVERLAP} pixels a side, or be 0 for whole images; got {tile}.')
    return cache


def _devices(opt: Mapping[str, Any]) -> list[str]:
    if opt.get('num_gpu') == 0 or not torch.cuda.is_available():
        return ['cpu']
    return [f'cuda:{number}' for number in range(torch.cuda.device_count())]
