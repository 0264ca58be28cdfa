"""The teacher cache: run the teachers of an experiment once over its training images, and store their images."""

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

from kdsr import options, plugins
from kdsr.data.disk_room import check_room, format_size
from kdsr.data.growing_folder import list_differences, read_settings
from kdsr.data.parallel import SILENCE, check_workers, count_processors, ordered_map
from kdsr.data.raw_images import RawImages, Window
from kdsr.data.raw_writer import RawWriter
from kdsr.data.teacher_run import OVERLAP, TeacherRun
from kdsr.data.training_images import TrainingImages, open_training_images
from kdsr.distillation.cached_teachers import CachedTeachers
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.distillation.teacher_key import NOT_HERE, teacher_key
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.experiment.missing_files import check_files
from kdsr.hourglass import decoder_of
from kdsr.progress_bars import ProgressBar
from kdsr.wording import counted, printable

_SAMPLE = 48  # side of the crops on which the teachers are checked and timed, in low-resolution pixels
_SAMPLES = 4
_SLOWER = 10  # times the estimated duration of an image, before a worker counts as stuck
LQ = 'low-resolution images'


def make_cache(
    opt: Mapping[str, Any] | Experiment, workers: int | None = None, tile: int | None = None, progress: bool = True
) -> Path:
    """Write the teachers' images of the whole training set to `distillation.cache`.

    It stores the target of the student, clamped to [0, 1] and rounded to 8 bits: the image of the ensemble, or each
    teacher's own image for AggregationModel. For a privileged teacher whose features are compared (PISR) it stores the
    output of the encoder in single precision. The same call continues a killed run. Before it starts, it prints the
    disk space that it needs and an estimate of the time, from a first crop.

    Args:
        opt: All options of the experiment, as `options.load_experiment` reads them; their `distillation:` block is
            checked first. Or the experiment that was read from checked options.
        workers: Number of processes. When left out: one per GPU, or one without GPUs.
        tile: Side of the tiles in low-resolution pixels, 0 for whole images; when left out, only images of more than
            512x512 pixels are cut. See :func:`~kdsr.distillation.tiling.run_tiled`.
        progress: Print what is done, and show a bar.

    Returns:
        The folder.

    Raises:
        UserError: no cache is named, the teachers or images cannot be used, the folder holds another cache or another
            process writes to it, the disk is full, or a worker process was killed.
    """
    experiment = read_experiment(opt)
    if not isinstance(opt, Experiment):
        options.check(opt)
    cache = _check_cache(experiment, tile)
    devices = _list_devices(experiment)
    workers = check_workers(workers, len(devices))
    images = open_training_images(experiment)
    writer = _make_writer(experiment, cache, images)
    if not writer.complete:
        check_room(writer.final.parent, writer.estimate_needed())
        run = TeacherRun(experiment, cache.self_ensemble, tile)
        run.start(devices[0], images)
        seconds = _print_plan(run, images, writer, min(workers, len(devices)), progress)
        writer.open()  # not before: teachers that fail leave nothing behind
    with contextlib.ExitStack() as stack:
        stack.callback(writer.close)
        if writer.complete:
            if progress:
                text = f'Nothing to do: {writer.final} is there, made by these teachers from these images.'
                ProgressBar.write(printable(text))
            return writer.final
        if workers != 1:
            run = run.copy_unstarted()  # the other processes have teachers of their own
        _write_missing(
            writer=writer,
            run=run,
            images=images,
            pending=_list_pending(images, writer),
            workers=workers,
            devices=devices,
            seconds=seconds,
            progress=progress,
        )
        writer.finish()
    return writer.final


def _list_pending(images: TrainingImages, writer: RawWriter) -> list[int]:
    """Return the numbers of the images that are not finished."""
    return [number for number, name in enumerate(images.names) if name not in writer.finished]


def _make_writer(experiment: Experiment, cache: options.Cache, images: TrainingImages) -> RawWriter:
    settings = {**teacher_key(experiment, cache), LQ: images.digest()}
    sources = {name: 'x'.join(map(str, size)) for name, size in zip(images.names, images.sizes)}
    copies = len(experiment.teachers) if experiment.content == 'teacher_images' else 1
    is_code = experiment.content == 'code'
    pixels = (1 if is_code else experiment.scale**2) * sum(math.prod(size) for size in images.sizes)
    return RawWriter(
        final=Path(cache.path).expanduser(),
        settings=settings,
        sources=sources,
        channels=experiment.channels * copies,
        dtype='float32' if is_code else 'uint8',
        pixels=pixels,
    )


def _print_plan(run: TeacherRun, images: TrainingImages, writer: RawWriter, devices: int, progress: bool) -> float:
    """Check the teachers on a few crops; print the disk space and time that the rest needs.

    Returns:
        Seconds for one low-resolution pixel on one device.
    """
    experiment, pending = run.experiment, _list_pending(images, writer)
    numbers = pending[:: max(1, len(pending) // _SAMPLES)][:_SAMPLES]
    batches = [run.batch(number, _SAMPLE) for number in numbers]
    if batches and experiment.health_check:
        get_root_logger().info(check_teacher(run.teachers, batches, experiment.scale))
    seconds = _time_pixel(run, batches)
    pixels = sum(math.prod(images.sizes[number]) for number in pending)
    needed = writer.estimate_needed()
    if progress:
        done = len(images.names) - len(pending)
        before = f' ({done} done before)' if done else ''
        duration = _format_duration(seconds * pixels / devices)
        disk = f'{format_size(needed)} of disk'
        text = f'{counted(len(images.names), "image")}{before} -> {writer.final}: {disk}, about {duration}.'
        ProgressBar.write(printable(text))
    return seconds


def _time_pixel(run: TeacherRun, batches: list[Batch]) -> float:
    """Return the seconds per pixel of the second of two answers. The first one warms up."""
    seconds = 0.0
    for batch in 2 * batches[:1]:
        start = time.perf_counter()
        run.answer(batch).sum().item()  # item() waits for the device
        seconds = (time.perf_counter() - start) / math.prod(batch.lq.shape[-2:])
    return seconds


def _format_duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f'{hours} h {minutes} min' if hours else f'{minutes} min' if minutes else f'{seconds:.0f} s'


def _write_missing(
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
    bar = ProgressBar(
        total=sum(pixels), initial=sum(pixels) - sum(pixels[n] for n in pending), unit='px', unit_scale=True,
        disable=not progress,
    )  # fmt: skip
    if workers == 1:
        results = ordered_map(functools.partial(_time_run, run), pending, 1)
    else:
        threads = max(1, count_processors() // workers)
        setup = functools.partial(_start_in_worker, run, devices, threads)
        largest = max((pixels[number] for number in pending), default=0)
        silence = SILENCE + _SLOWER * seconds * largest * workers
        results = ordered_map(
            _run_in_worker, pending, workers, setup, name_item=images.names.__getitem__, silence=silence
        )
    with contextlib.closing(results), bar:
        for number, (image, cost) in zip(pending, results):
            windows = [Window(key, *(run.scale * n for n in place)) for key, *place in images.windows[number]]
            writer.add(images.names[number], 'x'.join(map(str, images.sizes[number])), (image, windows), cost=cost)
            bar.update(pixels[number])


_of_this_worker: list[TeacherRun] = []


def _start_in_worker(run: TeacherRun, devices: list[str], threads: int, number: int) -> None:
    torch.set_num_threads(threads)
    plugins.import_named(run.experiment.imports)
    run.start(devices[number % len(devices)], open_training_images(run.experiment))
    _of_this_worker.append(run)


def _run_in_worker(number: int) -> tuple[np.ndarray, list[float]]:
    return _time_run(_of_this_worker[0], number)


def _time_run(run: TeacherRun, number: int) -> tuple[np.ndarray, list[float]]:
    """Return what is stored for an image, and its cost: seconds of the clock, and of this process's threads."""
    clock, cpu = time.perf_counter(), time.process_time()
    image = run(number)
    return image, [round(time.perf_counter() - clock, 4), round(time.process_time() - cpu, 4)]


def open_cache(experiment: Experiment) -> TeacherEnsemble | CachedTeachers:
    """Return the teachers that answer from `distillation.cache`, after a check that it belongs to the experiment.

    Where codes are cached (PISR), the decoder of the teacher answers.

    Args:
        experiment: It uses a cache.

    Raises:
        UserError: the cache is missing or damaged, or was made by other teachers or from other images; the message says
            which.
    """
    cache = experiment.used_cache
    assert cache is not None
    cached = RawImages(cache.path, 'distillation.cache')
    made, wanted = read_settings(cached.folder), teacher_key(experiment, cache)
    for name in [name for name, value in wanted.items() if value == NOT_HERE and name in made]:
        get_root_logger().warning(f'distillation.cache: {name} cannot be compared, {NOT_HERE}.')
        wanted[name] = made[name]
    stores_code = experiment.content == 'code'
    images = open_training_images(experiment)
    problems = _compare_samples(cached, images, 1 if stores_code else experiment.scale)
    made_of = {} if problems else {LQ: images.digest()}
    wanted = {LQ: made.get(LQ), **wanted, **made_of}
    problems += list_differences(made, wanted)
    if problems:
        raise UserError(
            f'distillation.cache: {cache.path} was made with {"; ".join(problems)}. Make another: delete it or change '
            '`cache`, and run `kdsr cache` on this option file. `exact: true` under `cache` runs the teachers live.'
        )
    return build_teachers(experiment, decoder_of) if stores_code else CachedTeachers(experiment.teacher_names)


def _compare_samples(cached: RawImages, images: TrainingImages, scale: int) -> list[str]:
    made = {key: (height, width) for key, (height, width) in zip(cached.keys, cached.sizes.tolist())}
    wanted = {key: (scale * height, scale * width) for key, (height, width) in images.samples().items()}
    return [f'other training images: {line}' for line in list_differences(made, wanted)[:1]]


def _check_cache(experiment: Experiment, tile: int | None) -> options.Cache:
    cache = experiment.cache
    if cache is None:
        raise UserError(
            'this option file names no cache. Add its folder: `distillation: {cache: datasets/cache/NAME.raw}`.'
        )
    check_files(experiment.live())
    if 'train' not in experiment.datasets:
        raise UserError('a cache is made of the training set: the option file needs `datasets.train`.')
    if tile is not None and tile != 0 and tile < 2 * OVERLAP:
        raise UserError(f'tiles must have at least {2 * OVERLAP} pixels a side, or be 0 for whole images; got {tile}.')
    return cache


def _list_devices(experiment: Experiment) -> list[str]:
    if experiment.cpu_only or not torch.cuda.is_available():
        return ['cpu']
    return [f'cuda:{number}' for number in range(torch.cuda.device_count())]
