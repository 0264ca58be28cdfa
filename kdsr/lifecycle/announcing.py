"""What a run says at its start and at its end."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from kdsr.compat.option_files import settings
from kdsr.experiment import Experiment, Network, read_experiment
from kdsr.experiment.loss_weights import find_loss_weights
from kdsr.lifecycle.console import console
from kdsr.options import shorten_path
from kdsr.wording import agree, counted

SPEED_STEPS = 10  # steps that are timed; the one before them is slower, because it prepares libraries


def describe_start(opt: Mapping[str, Any], model: Any, samples: Any, val_loaders: list[Any], iteration: int) -> str:
    """Return the lines with which a training starts.

    Args:
        opt: BasicSR's options.
        model: The built model.
        samples: The training set.
        val_loaders: Of the validation sets.
        iteration: The last finished one.
    """
    experiment = read_experiment(dict(opt), is_train=True)
    lines = {
        'experiment': _describe_experiment(experiment, iteration),
        experiment.trained.role: _describe_network(experiment.trained, experiment, model),
        'teachers': ', '.join(_describe_teachers(experiment)),
        'losses': _describe_losses(experiment),
        'data': _describe_data(opt, experiment, samples, val_loaders),
        'length': _describe_length(opt, experiment, samples, iteration),
        'device': _describe_device(model, experiment),
        'disk': _describe_disk(opt['logger'], model, experiment),
        'results': f'{shorten_path(opt["path"]["experiments_root"])}/',
        'log': f'{shorten_path(console.file)} (all options and modules; --verbose prints them)' if console.file else '',
    }
    return _format_table(lines)


def describe_test(opt: Mapping[str, Any], model: Any) -> str:
    """Return the lines with which a test starts."""
    experiment = read_experiment(dict(opt), is_train=False)
    sets = ', '.join(str(dataset.get('name')) for dataset in experiment.datasets.values())
    lines = {
        'test': _describe_experiment(experiment, 0),
        experiment.trained.role: _describe_network(experiment.trained, experiment, model),
        'data': sets,
        'device': _describe_device(model, experiment),
        'log': shorten_path(console.file) if console.file else '',
    }
    return _format_table(lines)


def _format_table(lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    return '\n'.join(f'  {title:{width}}  {text}' for title, text in lines.items() if text)


def _describe_experiment(experiment: Experiment, iteration: int) -> str:
    scale = f', x{experiment.scale}' if experiment.scale else ''
    source = f', from {settings["file"]}' if settings['file'] else ''
    resumed = f'; continues after iteration {iteration:,}' if iteration else ''
    return f'{experiment.name}: {experiment.model.name}{scale}{source}{resumed}'


def _describe_network(network: Network, experiment: Experiment, model: Any) -> str:
    built = getattr(model, 'net_g', None)
    size = sum(p.numel() for p in model.get_bare_model(built).parameters()) if built is not None else 0
    text = f'{network.opt["type"]}, {_format_count(size)} parameters' if size else str(network.opt['type'])
    if experiment.resumes:
        return text
    if network.weights is not None:
        return f'{text}, {"starts from" if experiment.is_train else "from"} {shorten_path(network.weights)}'
    if experiment.init_from is not None and experiment.is_train:
        return f'{text}, starts from teacher {experiment.init_from.teacher}'
    return f'{text}, starts from random weights' if experiment.is_train else f'{text}, random weights'


def _format_count(number: int) -> str:
    """Return a count as papers print it: 731 K, 1.52 M."""
    return f'{number / 1e6:.3g} M' if number >= 1e6 else f'{number / 1e3:.3g} K' if number >= 1e3 else str(number)


def _describe_teachers(experiment: Experiment) -> Iterator[str]:
    cache = experiment.used_cache
    if cache is not None and experiment.teachers:
        names = ', '.join(experiment.teacher_names)
        yield f'{names} from the cache {shorten_path(cache.path)}, not run'
        return
    for network in experiment.frozen:
        if experiment.builds(network):
            file = next((file for _, file in network.files()), None)
            yield f'{network.name} ({network.opt["type"]}{f", {shorten_path(file)}" if file else ""})'


def _describe_losses(experiment: Experiment) -> str:
    kinds = {'l_pix': experiment.training.image_losses.get('pixel_opt', {}).get('type', '')}
    kinds.update({name: str(opt.get('type', '')) for name, opt in experiment.losses.items()})
    terms = [(f'{name} ({kinds[name]})' if kinds.get(name) else name, weight)
             for name, weight in find_loss_weights(experiment).items() if weight]  # fmt: skip
    return ' + '.join(f'{weight:g} x {name}' for name, weight in terms)


def _describe_data(opt: Mapping[str, Any], experiment: Experiment, samples: Any, val_loaders: list[Any]) -> str:
    training, train_set = experiment.training, experiment.datasets['train']
    name = f' of {train_set["name"]}' if train_set.get('name') else ''
    crops = f' of {training.crop}x{training.crop}' if training.crop else ''
    text = f'{counted(len(samples), "training image")}{name}, batches of {training.batch_size} crops{crops}'
    if experiment.distributed and opt['world_size'] > 1:
        text += f' in each of {opt["world_size"]} processes'
    if not val_loaders or opt.get('val') is None:
        return f'{text}; no validation'
    sets = ', '.join(f'{loader.dataset.opt["name"]} ({len(loader.dataset)})' for loader in val_loaders)
    return f'{text}; validation on {sets} every {int(opt["val"]["val_freq"]):,} iterations'


def _describe_length(opt: Mapping[str, Any], experiment: Experiment, samples: Any, iteration: int) -> str:
    training, processes = experiment.training, opt['world_size'] if experiment.distributed else 1
    epochs = training.iterations * training.batch_size * processes / max(1, len(samples))
    left = f' ({training.iterations - iteration:,} left)' if iteration else ''
    rate = training.optimiser.get('lr')
    lr = f', {training.optimiser.get("type")} with learning rate {rate:g}' if isinstance(rate, (int, float)) else ''
    return f'{counted(training.iterations, "iteration")}{left}, {epochs:.3g} {agree(epochs, "epoch", "epochs")}{lr}'


def _describe_device(model: Any, experiment: Experiment) -> str:
    device = torch.device(getattr(model, 'device', 'cpu'))
    precision = (experiment.training.amp if experiment.is_train else None) or 'fp32'
    if device.type == 'cuda':
        return f'{torch.cuda.get_device_name(device)} ({precision})'
    return f'{device.type}, {counted(torch.get_num_threads(), "thread")} ({precision})'


def _describe_disk(logger: Mapping[str, Any], model: Any, experiment: Experiment) -> str:
    """Estimate the disk that checkpoints and states take: weights, their average, and two moments of Adam."""
    every = int(logger['save_checkpoint_freq'])
    count = experiment.training.iterations // every
    kept = logger.get('keep_last')
    count = min(count, int(kept)) if kept else count
    learnt = [p for o in getattr(model, 'optimizers', ()) for g in o.param_groups for p in g['params']]
    weights = 4 * sum(p.numel() for p in learnt)
    one = weights * (2 if experiment.training.ema_decay else 1)
    total = count * (one + 2 * weights) + 2 * one
    regular = f'{counted(count, "checkpoint")} (every {every:,} iterations)'
    return f'about {_format_bytes(total)} for {regular}, the best and the last'


def _format_bytes(number: float) -> str:
    return f'{number / 1e9:.3g} GB' if number >= 1e9 else f'{number / 1e6:.3g} MB'


class SpeedEstimate:
    """Says once, after some steps, how long the run will take here."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._said = False

    def at_step(self, iteration: int, total: int) -> str | None:
        """Return the line, at the one step at which there is one.

        Args:
            iteration: The step that begins.
            total: The iterations of the run.
        """
        if self._said:
            return None
        if self._first is None:
            self._first = iteration, math.nan
            return None
        start, began = self._first
        if iteration == start + 1:
            self._first = start, time.monotonic()
        if iteration < start + 1 + SPEED_STEPS or math.isnan(began):
            return None
        self._said = True
        step = (time.monotonic() - began) / SPEED_STEPS
        left = total - iteration + 1
        rest = f'about {_format_duration(step * left)} for the other {left:,}, without validation.'
        return f'{step:.3g} s an iteration: {rest}'


def _format_duration(seconds: float) -> str:
    """Return a time in words that a person would use."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f'{seconds:.0f} s'
    if minutes < 120:
        return f'{minutes} min'
    hours = seconds / 3600
    return f'{hours:.1f} h' if hours < 48 else f'{hours / 24:.1f} days'


def describe_end(opt: Mapping[str, Any], model: Any) -> str:
    """Return the lines with which a finished training ends: what is best, where it is, and what to do next."""
    experiment = read_experiment(dict(opt), is_train=True)
    folder = Path(shorten_path(opt['path']['models']))
    best = folder / 'net_g_best.pth'
    chosen = best if os.path.isfile(best) else folder / 'net_g_latest.pth'
    lines = {}
    for name, metrics in (getattr(model, 'best_metric_results', None) or {}).items():
        scores = ', '.join(
            f'{metric} {found["val"]:.4f} at iteration {found["iter"]:,}' for metric, found in metrics.items()
        )
        lines[f'best on {name}'] = scores
    lines['best network'] = str(chosen) if chosen == best else ''
    lines['last network'] = str(folder / 'net_g_latest.pth')
    file = shlex.quote(str(settings['file'] or f'{folder.parent / experiment.name}.yml'))
    iteration = ' --iter best' if chosen == best else ''
    lines['next'] = f'kdsr benchmark {file}{iteration}'
    text = _format_table(lines)
    if experiment.trained.role == 'student':
        margin = '\n' + ' ' * (max(map(len, lines)) + 4)
        quoted = shlex.quote(str(chosen))
        text += f'{margin}kdsr export {quoted} --out exported{margin}kdsr upscale photos -m {quoted} --out large'
    return text
