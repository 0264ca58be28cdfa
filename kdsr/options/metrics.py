"""Metrics of validations and tests: which direction is better, and which sets can be measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from kdsr.errors import did_you_mean
from kdsr.options.problems import WARNING, KeyPath, Problem
from kdsr.options.rows import block_of
from kdsr.pyiqa_facts import PYIQA, PyiqaFact, read_pyiqa_facts
from kdsr.wording import installing

Direction = Literal['higher', 'lower']
_LOWER = re.compile(r'(^|_)(niqe|ilniqe|lpips|dists|fid|brisque|pi|mae|mse|rmse|nrqm_error|ergas|sam)(_|$)', re.I)
_HIGHER = re.compile(r'(^|_)(psnr|ssim|msssim|ms_ssim|fsim|vif|gmsd_score|musiq|clipiqa|maniqa)(_|$)', re.I)
WITH_GT = ('calculate_psnr', 'calculate_ssim', 'calculate_psnr_pt', 'calculate_ssim_pt')
_WITHOUT_GT = ('SingleImageDataset',)


def direction_of(kind: object) -> Direction | None:
    """Return which values of a metric are better, from its name; None where the name does not show it.

    Args:
        kind: `type` of the metric.

    Example:
        >>> direction_of('calculate_niqe'), direction_of('calculate_psnr'), direction_of('calculate_my_score')
        ('lower', 'higher', None)
    """
    if _LOWER.search(str(kind)):
        return 'lower'
    return 'higher' if _HIGHER.search(str(kind)) else None


def direction_of_metric(metric: Mapping[str, Any]) -> Direction | None:
    """Return which values of a metric of `val.metrics` are better; pyiqa itself says it of its metrics.

    Args:
        metric: Its `type` and arguments.

    Example:
        >>> direction_of_metric({'type': 'calculate_pyiqa', 'metric': 'lpips'})
        'lower'
    """
    if metric.get('type') != PYIQA:
        return direction_of(metric.get('type'))
    fact = _find_pyiqa_fact(metric)
    if fact is None:  # not installed, or unknown to it
        return direction_of(metric.get('metric'))
    return 'lower' if fact.lower_is_better else 'higher'


def _find_pyiqa_fact(metric: Mapping[str, Any]) -> PyiqaFact | None:
    return (read_pyiqa_facts() or {}).get(str(metric.get('metric'))) if metric.get('type') == PYIQA else None


def fill_direction(metric: Any) -> Any:
    """Return a metric with `better: lower` where lower values are; BasicSR takes `higher` where nothing is given."""
    if not isinstance(metric, dict) or metric.get('better') is not None or direction_of_metric(metric) != 'lower':
        return metric
    return {**metric, 'better': 'lower'}


def find_metric_problems(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the directions of the metrics, the names of the sets, and that sets have the images that metrics need.

    Args:
        opt: All options, with defaults.
    """
    metrics = {n: m for n, m in block_of(opt, 'val', 'metrics').items() if isinstance(m, Mapping)}
    for name, metric in metrics.items():
        yield from _direction_problems(('val', 'metrics', name), metric)
        yield from _find_pyiqa_problems(('val', 'metrics', name), metric)
    sets = {p: d for p, d in block_of(opt, 'datasets').items() if isinstance(d, Mapping) and str(p) != 'train'}
    yield from _name_problems(sets)
    needing = [name for name, metric in metrics.items() if _needs_gt(metric)]
    for phase, dataset in sets.items() if needing else ():
        if dataset.get('type') in _WITHOUT_GT:
            text = (
                f'{dataset["type"]} has no ground truth, which `val.metrics` ({", ".join(needing)}) compare with. Use '
                'a PairedImageDataset with `dataroot_gt`, or leave these metrics out.'
            )
            yield Problem(('datasets', phase, 'type'), text)


def _needs_gt(metric: Mapping[str, Any]) -> bool:
    fact = _find_pyiqa_fact(metric)
    return metric.get('type') in WITH_GT or (fact is not None and fact.needs_gt)


def _find_pyiqa_problems(path: KeyPath, metric: Mapping[str, Any]) -> Iterator[Problem]:
    """Report pyiqa where it is missing, and metrics that it does not have or that have no value for one image."""
    name, facts = metric.get('metric'), read_pyiqa_facts()
    if metric.get('type') != PYIQA or not isinstance(name, str):
        return
    if facts is None:
        yield Problem(path, f'needs pyiqa: {installing("pyiqa")}')
    elif name not in facts:
        yield Problem((*path, 'metric'), f'pyiqa has no metric {name!r}.{did_you_mean(name, facts)}')
    elif facts[name].of_sets:
        yield Problem((*path, 'metric'), f'{name} judges whole sets of images; a validation scores image by image.')


def _direction_problems(path: KeyPath, metric: Mapping[str, Any]) -> Iterator[Problem]:
    better, known = metric.get('better'), direction_of_metric(metric)
    if better is None and known is None:
        text = (
            'its name does not show which values are better, and BasicSR takes `higher`: write `better: higher` or '
            '`better: lower`.'
        )
        yield Problem(path, text, WARNING)
    elif better is not None and better not in ('higher', 'lower'):
        hint = did_you_mean(better, ('higher', 'lower'))
        yield Problem((*path, 'better'), f'must be higher or lower, is {better!r}.{hint}')
    elif known is not None and better not in (None, known):
        text = (
            f'{better}, but {known} values of {metric.get("metric") or metric.get("type")} are better: the worst '
            'network is kept as the best.'
        )
        yield Problem((*path, 'better'), text, WARNING)


def _name_problems(sets: Mapping[Any, Mapping[str, Any]]) -> Iterator[Problem]:
    first: dict[str, Any] = {}
    for phase, dataset in sets.items():
        name = str(dataset.get('name'))
        if dataset.get('name') is not None and name in first:
            text = f'{name!r} is also the name of `{first[name]}`: their best values and images would be mixed.'
            yield Problem(('datasets', phase, 'name'), text)
        first.setdefault(name, phase)
