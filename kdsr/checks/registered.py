"""Names and arguments of networks, losses, views, metrics, datasets and models, against the registries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.losses.basic_loss import CharbonnierLoss, L1Loss, MSELoss, WeightedTVLoss
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

from kdsr.compat.registry import hint_for
from kdsr.distillation.building import argument_problems
from kdsr.distillation.distillation_loss import DistillationLoss, foreign_loss
from kdsr.distillation.views import VIEW_REGISTRY, View
from kdsr.errors import did_you_mean
from kdsr.experiment import Experiment
from kdsr.experiment.reading import IMAGE_LOSSES
from kdsr.lifecycle.optimisers import list_optimisers
from kdsr.models.any_model import takes_block
from kdsr.options import WARNING, KeyPath, Problem, block_of
from kdsr.options.basicsr_keys import OPTIMISERS
from kdsr.options.model_classes import model_class_of
from kdsr.wording import counted, with_article

# Classes whose constructors are quick and have no effects: they are called to check the values of their arguments.
_BUILT = (DistillationLoss, View, L1Loss, MSELoss, CharbonnierLoss, WeightedTVLoss)
_WORDS = {'arch': 'network'}


def find_registry_problems(opt: Mapping[str, Any], experiment: Experiment) -> Iterator[Problem]:
    """Check everything that has a `type:` or is a registered name.

    Args:
        opt: All options; `import_modules` are imported.
        experiment: Read from them.
    """
    if isinstance(opt.get('model_type'), str):
        yield from _check_name(MODEL_REGISTRY, ('model_type',), experiment.model.name)
        yield from _find_block_problems(experiment)
    for network in filter(experiment.uses, experiment.networks):
        yield from find_type_problems(ARCH_REGISTRY, network.path, network.opt)
    for phase, dataset in block_of(opt, 'datasets').items():
        if isinstance(dataset, Mapping) and isinstance(dataset.get('type'), str):
            yield from _check_name(DATASET_REGISTRY, ('datasets', phase, 'type'), dataset['type'])
        elif isinstance(dataset, Mapping):
            yield Problem(('datasets', phase), 'needs a `type:`, the name of a dataset.')
    for name, metric in block_of(opt, 'val', 'metrics').items():
        given = ('img', 'img2', 'better')
        plain = {k: v for k, v in metric.items() if k != 'better'} if isinstance(metric, Mapping) else metric
        yield from find_type_problems(METRIC_REGISTRY, ('val', 'metrics', name), plain, given)
    if experiment.is_train:
        yield from _find_loss_problems(opt, experiment)


def _find_block_problems(experiment: Experiment) -> Iterator[Problem]:
    """Check that a model class of another package, or of BasicSR, can be distilled."""
    name = experiment.model.name
    registered = next((n for n in (name, f'{name}_basicsr') if n in MODEL_REGISTRY), None)
    if not experiment.is_train or not experiment.frozen or experiment.model.teachers != 'optional' or not registered:
        return
    if not takes_block(MODEL_REGISTRY.get(registered)):
        text = f'{name} does not derive from SRModel of BasicSR, so it cannot use the `distillation:` block.'
        yield Problem(('model_type',), text)


def _find_loss_problems(opt: Mapping[str, Any], experiment: Experiment) -> Iterator[Problem]:
    train = block_of(opt, 'train')
    for key in IMAGE_LOSSES:
        if train.get(key) is not None:
            yield from find_type_problems(LOSS_REGISTRY, ('train', key), train[key])
            yield from _negative_weights(('train', key), train[key])
    yield from _find_optimiser_problems(opt)
    features = [*(feature.name for feature in experiment.features), *experiment.discriminator_features]
    for name, loss in experiment.losses.items():
        where: KeyPath = ('distillation', 'losses', name)
        yield from find_type_problems(LOSS_REGISTRY, where, loss)
        yield from _negative_weights(where, loss)
        yield from _check_listed_names((*where, 'features'), loss, features, 'feature')
        kind = loss.get('type')
        registered = LOSS_REGISTRY.get(kind) if isinstance(kind, str) and kind in LOSS_REGISTRY else None
        if isinstance(registered, type) and not issubclass(registered, DistillationLoss):
            yield Problem(where, foreign_loss(registered))
        elif isinstance(registered, type):
            yield from _batch_problems(registered, experiment)
    for name, view in experiment.views.items():
        yield from find_type_problems(VIEW_REGISTRY, ('distillation', 'views', name), view)
        yield from _negative_weights(('distillation', 'views', name), view)
        yield from _check_listed_names(('distillation', 'views', name, 'losses'), view, list(experiment.losses), 'loss')


def _negative_weights(path: KeyPath, block: Any) -> Iterator[Problem]:
    """Report factors below 0: the training would enlarge what it should make small."""
    for key, value in block.items() if isinstance(block, Mapping) else ():
        if str(key).endswith('weight') and isinstance(value, (int, float)) and value < 0:
            yield Problem((*path, key), f'must be at least 0, is {value!r}: the training would enlarge this term.')


def _batch_problems(kind: type[DistillationLoss], experiment: Experiment) -> Iterator[Problem]:
    """Report batches that are too small for a loss that compares the samples of a batch with each other."""
    training = experiment.training
    part = training.batch_size // training.accumulate
    processes = int(os.environ.get('WORLD_SIZE', 1))  # some losses compare the samples of all processes
    if not part or part * processes >= max(kind.needed_samples, kind.wanted_samples):
        return
    path: KeyPath = ('train', 'accumulate') if training.accumulate > 1 else ('datasets', 'train', 'batch_size_per_gpu')
    text = f'{kind.__name__} contrasts the samples of a batch with each other, and {counted(part, "sample")} at a time'
    if part * processes < kind.needed_samples:
        yield Problem(path, f'{text} leaves nothing to contrast: take at least {kind.needed_samples}.')
    else:
        yield Problem(path, f'{text} leaves it the image itself alone: take at least {kind.wanted_samples}.', WARNING)


def _find_optimiser_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    known = list_optimisers()
    for name in ('optim_g', 'optim_d') if model_class_of(opt.get('model_type')).known else ():
        optimiser, where = block_of(opt, 'train', name), ('train', name)
        kind = optimiser.get('type')
        if not isinstance(kind, str):
            continue  # reported by the check of the file
        if kind not in known:  # the check of the file knows the names; an older PyTorch lacks some
            if kind in OPTIMISERS:
                yield Problem((*where, 'type'), f'this PyTorch has no optimiser {kind!r}.')
            continue
        for key, text in argument_problems(known[kind], optimiser, ('params',)) if kind != 'Adam' else ():
            yield Problem(where if key is None else (*where, key), text)


def _check_listed_names(path: KeyPath, block: Any, known: list[str], what: str) -> Iterator[Problem]:
    names = block.get(path[-1]) if isinstance(block, Mapping) else None
    for i, name in enumerate(names if isinstance(names, list) else ()):
        if name not in known:
            hint = did_you_mean(name, known) or f' There are: {", ".join(known) or "none"}.'
            yield Problem((*path, i), f'there is no {what} {name!r}.{hint}')


def find_type_problems(registry: Registry, path: KeyPath, opt: Any, given: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Check a block with a `type:` and arguments.

    Args:
        registry: Where the type is registered.
        path: Of the block.
        opt: The block.
        given: Arguments that do not come from the block.
    """
    if not isinstance(opt, Mapping):
        yield Problem(path, f'must be a mapping with a `type:`, is {opt!r}.')
        return
    kind = opt.get('type')
    if not isinstance(kind, str):
        yield Problem(path, f'needs a `type:`, the name of {with_article(_describe_registry(registry))}.')
        return
    problems = list(_check_name(registry, (*path, 'type'), kind))
    if not problems:
        registered = registry.get(kind)
        for key, text in argument_problems(registered, opt, given):
            problems.append(Problem(path if key is None else (*path, key), text))
        if not problems and isinstance(registered, type) and issubclass(registered, _BUILT):
            problems += _check_values(path, registered, opt)
    yield from problems


def _check_values(path: KeyPath, registered: type, opt: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        registered(**{key: value for key, value in opt.items() if key != 'type'})
    except (ValueError, TypeError, AssertionError) as error:
        yield Problem(path, f'{opt["type"]} refuses its arguments: {error}')


def _check_name(registry: Registry, path: KeyPath, name: str) -> Iterator[Problem]:
    if name in registry or f'{name}_basicsr' in registry:
        return
    yield Problem(path, f'no {_describe_registry(registry)} is called {name!r}.{hint_for(name, registry)}')


def _describe_registry(registry: Registry) -> str:
    return _WORDS.get(registry._name, registry._name)
