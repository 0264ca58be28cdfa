"""Old names of functions, classes and arguments. They keep working, with a warning that names the new one.

The code itself uses new names only. This file adds the old names from outside, so that they can be deleted in one
place. Old names of options are in :mod:`kdsr.options.renamed`.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from typing import Any

from torch import Tensor

from kdsr.distillation import outputs, teacher, views
from kdsr.experiment import Network, rules
from kdsr.hourglass import decoder_of, encoder_of
from kdsr.losses.feature_pair import FeatureRegressors
from kdsr.views.dukd_view import ConsistentView

_DUKD = 'kdsr.views.dukd_view:'

# Module: old name: new name, in the same module or as `module:name`. Whoever renames what users import adds a row.
OLD_NAMES: Mapping[str, Mapping[str, str]] = {
    'kdsr.analysis.paper_results': {
        'paper_cells': 'kdsr.papers.results:paper_cells',
    },
    'kdsr.deployment.exporting': {
        'Wishes': 'kdsr.export_targets.exporting:ExportSettings',
        'export': 'kdsr.export_targets.exporting:export',
    },
    'kdsr.distillation.outputs': {
        'FeaturesOnly': 'kdsr.old_names:FeaturesOnly',
    },
    'kdsr.distillation.precision': {
        'laid_out': 'to_memory_format',
        'lay_out': 'set_memory_format',
    },
    'kdsr.distillation.teacher': {
        'Decoder': 'kdsr.hourglass:Decoder',
        'check_trained_for': 'kdsr.old_names:check_trained_for',
    },
    'kdsr.distillation.views': {
        'PARTS': f'{_DUKD}PARTS',
        'ZoomIn': f'{_DUKD}ZoomIn',
        'ZoomOut': f'{_DUKD}ZoomOut',
        'augment': f'{_DUKD}augment',
        'draw_parts': f'{_DUKD}draw_parts',
        'undo': f'{_DUKD}undo',
    },
    'kdsr.losses.csd_loss': {
        'bicubic_negatives': 'make_negatives',
        'vgg19_extractor': 'load_vgg19',
    },
    'kdsr.losses.fakd_loss': {
        'spatial_cost': 'describe_spatial_cost',
    },
    'kdsr.losses.feature_pair': {
        'feature_pair': 'pair_features',
        'of_unit_length': 'normalise',
    },
    'kdsr.losses.image_pair': {
        'image_pair': 'pair_images',
    },
    'kdsr.losses.loss_range': {
        'in_loss_range': 'scale_to_range',
    },
    'kdsr.losses.sample_pairs': {
        'of_all_processes': 'gather_samples',
    },
    'kdsr.data.random_crops': {
        'random_crops': 'crop_randomly',
    },
    'kdsr.data.raw_paired_image_dataset': {
        'luma': 'compute_luma',
    },
}

# Function: old name of an argument: new name.
OLD_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    'kdsr.losses.attention_transfer_loss:attention_distance': {'ours': 'student_feature', 'theirs': 'teacher_feature'},
    'kdsr.losses.csd_loss:contrast_to_negatives': {'ours': 'student', 'theirs': 'teacher'},
    'kdsr.losses.facd_loss:info_nce': {'cosines': 'similarities'},
    'kdsr.losses.fakd_loss:affinity_distance': {'ours': 'student_feature', 'theirs': 'teacher_feature'},
    'kdsr.losses.feature_pair:pair_features': {'ours': 'student_feature', 'theirs': 'teacher_feature'},
    'kdsr.losses.lsfd_loss:feature_difference': {'ours': 'regressed', 'theirs': 'target'},
    'kdsr.losses.sample_pairs:pairwise_l1': {'ours': 'student', 'theirs': 'teacher'},
}


def accept_old_names() -> None:
    """Make the old names work. The modules of the tables are imported already, or are made here."""
    for module, names in OLD_NAMES.items():
        home = sys.modules.get(module) or _make_module(module)
        home.__getattr__ = functools.partial(_find_new, module, names)  # type: ignore[method-assign]
    for function, arguments in OLD_ARGUMENTS.items():
        module, _, name = function.partition(':')
        new = getattr(sys.modules[module], name)
        setattr(sys.modules[module], name, _rename_arguments(new, arguments))
    views.View.__init__ = _accept_consistency(views.View.__init__)  # type: ignore[method-assign]
    teacher.build_teachers = _accept_parts(teacher.build_teachers)
    _add(teacher.FrozenNetwork, encode=_encode_alone)
    _add(teacher.TeacherEnsemble, encode=_encode)
    _add(outputs.Batch, cached=property(_read_cached))
    _add(FeatureRegressors, pair=_pair)


def _warn(old: str, new: str) -> None:
    level = 1
    while sys._getframe(level).f_globals['__name__'] == __name__:  # the warning points at the caller's line
        level += 1
    warnings.warn(f'{old} is an old name: use {new}.', DeprecationWarning, stacklevel=level + 1)


def _make_module(name: str) -> Any:
    """Make an empty module for names whose module is gone, and the package that it was in, if that is gone too."""
    package = name.rpartition('.')[0]
    if find_spec(package) is not None:
        import_module(package)
    for made in (package, name):
        if made not in sys.modules:
            sys.modules[made] = module_from_spec(ModuleSpec(made, None, is_package=made != name))
    return sys.modules[name]


def _find_new(module: str, names: Mapping[str, str], name: str) -> Any:
    if name not in names:
        raise AttributeError(f'module {module!r} has no attribute {name!r}')
    home, _, new = names[name].rpartition(':')
    home = home or module
    if home != __name__:
        _warn(f'{module}.{name}', f'{home}.{new}')
    return getattr(import_module(home), new)


def _rename_arguments(function: Callable[..., Any], arguments: Mapping[str, str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def with_old_names(*args: Any, **kwargs: Any) -> Any:
        for old in arguments.keys() & kwargs.keys():
            _warn(f'the argument {old} of {function.__name__}', arguments[old])
            kwargs[arguments[old]] = kwargs.pop(old)
        return function(*args, **kwargs)

    return with_old_names


def _add(owner: type, **members: Any) -> None:
    for name, member in members.items():
        setattr(owner, name, member)


# What has changed by more than its name.


def FeaturesOnly(features: dict[str, Tensor]) -> outputs.NetworkOutput:  # noqa: N802 - it was a class
    """Return the output of a teacher that stopped at its last tapped module."""
    _warn('FeaturesOnly(features)', 'NetworkOutput(None, features)')
    return outputs.NetworkOutput(None, features)


def check_trained_for(content: Mapping[str, Any], teachers: list[str], path: str) -> None:
    """Refuse an aggregator's checkpoint that was trained for other teachers, or for another order of them.

    Args:
        content: Of the checkpoint.
        teachers: Names of the teachers at hand, in order.
        path: Of the checkpoint, for messages.

    Raises:
        UserError: the names or their order differ.
    """
    _warn('kdsr.distillation.teacher.check_trained_for', 'kdsr.experiment.rules.find_trained_for_problems')
    aggregator = Network(('distillation', 'aggregator', 'network'), {}, 'aggregator', 'aggregator', weights=path)
    rules.enforce(rules.find_trained_for_problems(aggregator, content, teachers))


def _accept_consistency(init: Callable[..., None]) -> Callable[..., None]:
    """Let `View.__init__` take `consistency` first, as it was before this became :class:`ConsistentView`."""

    @functools.wraps(init)
    def with_consistency(self: Any, *args: Any, **kwargs: Any) -> None:
        if args and isinstance(args[0], (int, float)):
            kwargs['consistency'], *args = args  # type: ignore[assignment]
        if 'consistency' not in kwargs:
            init(self, *args, **kwargs)
            return
        _warn('the argument consistency of View', f'the base class {_DUKD.replace(":", ".")}ConsistentView')
        consistent = ConsistentView(kwargs.pop('consistency'))
        init(self, *args, **kwargs)
        self.consistency, self.run_student = consistent.consistency, consistent.run_student

    return with_consistency


def _accept_parts(build_teachers: Callable[..., Any]) -> Callable[..., Any]:
    """Let `build_teachers` take `opt`, `from_code` and `skeleton`."""

    @functools.wraps(build_teachers)
    def with_old_arguments(*args: Any, **kwargs: Any) -> Any:
        if 'opt' in kwargs:
            _warn('the argument opt of build_teachers', 'experiment')
            args = (kwargs.pop('opt'), *args)
        if len(args) > 1 and isinstance(args[1], bool):
            args, kwargs['from_code'] = (args[0], *args[2:]), args[1]
        if 'from_code' in kwargs:
            _warn('the argument from_code of build_teachers', 'part=kdsr.hourglass.decoder_of')
            kwargs['part'] = decoder_of if kwargs.pop('from_code') else None
        if 'skeleton' in kwargs:
            _warn('the argument skeleton of build_teachers', 'build')
            skeleton = kwargs.pop('skeleton')
            kwargs['build'] = None if skeleton is None else lambda network: skeleton(network.where, network.opt)
        return build_teachers(*args, **kwargs)

    return with_old_arguments


def _encode(self: teacher.TeacherEnsemble, batch: outputs.Batch) -> Tensor:
    _warn('TeacherEnsemble.encode', 'kdsr.hourglass.encoder_of(teachers)(batch).image')
    return encoder_of(self)(batch).image


def _encode_alone(self: teacher.FrozenNetwork, image: Tensor) -> Tensor:
    _warn('FrozenNetwork.encode', 'kdsr.hourglass.encoder_of')
    (encoder,) = encoder_of(teacher.TeacherEnsemble({'teacher': self})).members
    return encoder(image).image


def _read_cached(self: outputs.Batch) -> Tensor | None:
    _warn('Batch.cached', 'Batch.teacher_images or Batch.code')
    return self.code if self.teacher_images is None else self.teacher_images


def _pair(self: FeatureRegressors, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    _warn('FeatureRegressors.pair', 'regress_pair')
    pair: tuple[Tensor, Tensor] = _rename_arguments(
        self.regress_pair, {'ours': 'student_feature', 'theirs': 'teacher_feature'}
    )(*args, **kwargs)
    return pair
