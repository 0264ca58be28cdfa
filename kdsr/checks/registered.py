"""Names and arguments of networks, losses, views, metrics, datasets and models, against the registries."""

from __future__ import annotations

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

from kdsr.checks.networks import named_networks
from kdsr.distillation.building import argument_problems
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.views import VIEW_REGISTRY, View
from kdsr.errors import did_you_mean
from kdsr.options import Path, Problem, block_of
from kdsr.plugins import brought_by

# Constructors that are quick and have no effects: they tell what is wrong with the values of their arguments.
_BUILT = (DistillationLoss, View, L1Loss, MSELoss, CharbonnierLoss, WeightedTVLoss)
_WORDS = {'arch': 'network'}
_IMAGE_LOSSES = ('pixel_opt', 'perceptual_opt', 'gan_opt', 'ldl_opt', 'feature_matching_opt', 'imitation_opt')


def registry_problems(opt: Mapping[str, Any], is_train: bool) -> Iterator[Problem]:
    """Check everything that has a `type:` or is a registered name.

    Args:
        opt: All options; `import_modules` are imported.
        is_train: For a training.
    """
    model = opt.get('model_type')
    if isinstance(model, str):
        yield from _name_problems(MODEL_REGISTRY, ('model_type',), model)
    for network in named_networks(opt, is_train):
        yield from typed_problems(ARCH_REGISTRY, network.path, network.opt)
    for phase, dataset in block_of(opt, 'datasets').items():
        if isinstance(dataset, Mapping) and isinstance(dataset.get('type'), str):
            yield from _name_problems(DATASET_REGISTRY, ('datasets', phase, 'type'), dataset['type'])
        elif isinstance(dataset, Mapping):
            yield Problem(('datasets', phase), 'needs a `type:`, the name of a dataset.')
    for name, metric in block_of(opt, 'val', 'metrics').items():
        given = ('img', 'img2', 'better')
        plain = {k: v for k, v in metric.items() if k != 'better'} if isinstance(metric, Mapping) else metric
        yield from typed_problems(METRIC_REGISTRY, ('val', 'metrics', name), plain, given)
    if is_train:
        yield from _loss_problems(opt)


def _loss_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    train, block = block_of(opt, 'train'), block_of(opt, 'distillation')
    for key in _IMAGE_LOSSES:
        if train.get(key) is not None:
            yield from typed_problems(LOSS_REGISTRY, ('train', key), train[key])
    losses = {name: loss for name, loss in block_of(block, 'losses').items() if loss is not None}
    features = [name for name, pair in block_of(block, 'features').items() if pair is not None]
    for name, loss in losses.items():
        where: Path = ('distillation', 'losses', name)
        yield from typed_problems(LOSS_REGISTRY, where, loss)
        yield from _listed_names((*where, 'features'), loss, features, 'feature')
        kind = loss.get('type') if isinstance(loss, Mapping) else None
        registered = LOSS_REGISTRY.get(kind) if isinstance(kind, str) and kind in LOSS_REGISTRY else None
        if isinstance(registered, type) and not issubclass(registered, DistillationLoss):
            yield Problem(
                where, f'{kind} is no distillation loss; image losses of BasicSR belong into `train.pixel_opt`.'
            )
    for name, view in block_of(block, 'views').items():
        if view is not None:
            yield from typed_problems(VIEW_REGISTRY, ('distillation', 'views', name), view)
            yield from _listed_names(('distillation', 'views', name, 'losses'), view, list(losses), 'loss')


def _listed_names(path: Path, block: Any, known: list[str], what: str) -> Iterator[Problem]:
    names = block.get(path[-1]) if isinstance(block, Mapping) else None
    for i, name in enumerate(names if isinstance(names, list) else ()):
        if name not in known:
            hint = did_you_mean(name, known) or f' There are: {", ".join(known) or "none"}.'
            yield Problem((*path, i), f'there is no {what} {name!r}.{hint}')


def typed_problems(registry: Registry, path: Path, opt: Any, given: tuple[str, ...] = ()) -> Iterator[Problem]:
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
        yield Problem(path, f'needs a `type:`, the name of a {_word(registry)}.')
        return
    problems = list(_name_problems(registry, (*path, 'type'), kind))
    if not problems:
        registered = registry.get(kind)
        for key, text in argument_problems(registered, opt, given):
            problems.append(Problem(path if key is None else (*path, key), text))
        if not problems and isinstance(registered, type) and issubclass(registered, _BUILT):
            problems += _value_problems(path, registered, opt)
    yield from problems


def _value_problems(path: Path, registered: type, opt: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        registered(**{key: value for key, value in opt.items() if key != 'type'})
    except (ValueError, TypeError, AssertionError) as error:
        yield Problem(path, f'{opt["type"]} refuses its arguments: {error}')


def _name_problems(registry: Registry, path: Path, name: str) -> Iterator[Problem]:
    if name in registry or f'{name}_basicsr' in registry:
        return
    hint = did_you_mean(name, registry.keys()) + brought_by(name)
    unsure = ' Is the package that brings it imported (`import_modules:`)?'
    yield Problem(path, f'no {_word(registry)} is called {name!r}.{hint or unsure}')


def _word(registry: Registry) -> str:
    return _WORDS.get(registry._name, registry._name)
