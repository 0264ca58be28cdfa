"""`kdsr distil`: turn a BasicSR option file into an experiment in which its network learns from teachers."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from basicsr.utils.registry import MODEL_REGISTRY

from kdsr import options, plugins
from kdsr.authoring.option_check import check_option_files
from kdsr.authoring.other_vocabularies import find_foreign_keys, translate
from kdsr.authoring.student_advice import advise_on_learning_rate
from kdsr.authoring.tap_listing import propose_features
from kdsr.authoring.teacher_files import describe_teachers, list_imports
from kdsr.durable import write_durably
from kdsr.errors import UserError, check_choice
from kdsr.models.any_model import takes_block
from kdsr.options.method_names import normalise_method

MethodName = Literal['kd', 'fitnet', 'at', 'fakd', 'lsfd', 'facd', 'mtkd', 'dukd', 'csd', 'pisr']
_WITHOUT_RECIPE = {
    'rfdn': 'it is a network, RFDN, and needs no teacher. docs/methods/rfdn.md has its option files.',
}
# The last hidden layer of each student in PISR's paper.
_PISR_TAPS = {'FSRCNN': 'expanding', 'VDSR': 'body.17', 'IDN': 'body.3', 'CARN': 'body'}
_AGGREGATOR = {'type': 'DCTSwin', 'embed_dim': 24, 'depths': [2, 2, 2, 2], 'num_heads': 6, 'window_size': 8}


@dataclass(frozen=True)
class Recipe:
    """What a method adds to an option file.

    Attributes:
        about: First comment of the file.
        losses: `distillation.losses`.
        pixel: `train.pixel_opt.loss_weight`; None to remove `pixel_opt`.
        features: The method taps features.
        views: `distillation.views`.
    """

    about: str
    losses: dict[str, dict[str, Any]]
    pixel: float | None = 1.0
    features: bool = True
    views: dict[str, dict[str, Any]] = field(default_factory=dict)


_KD = {'type': 'ResponseLoss', 'norm': 'l1', 'loss_weight': 0.5}
RECIPES: dict[MethodName, Recipe] = {
    'kd': Recipe("KD: half of the image loss is the distance to the teacher's image.", {'l_kd': _KD}, 0.5, False),
    'fitnet': Recipe(
        'FitNet: features through a 1x1 convolution. No SR paper prints its weight: tune it.',
        {'l_fitnet': {'type': 'FitNetLoss', 'loss_range': 1, 'loss_weight': 0.01}},
    ),
    'at': Recipe(
        "AT: attention maps of the features; the weight is that of the released code's example.",
        {'l_at': {'type': 'AttentionTransferLoss', 'mode': 'code', 'loss_range': 1, 'loss_weight': 1000}},
    ),
    'fakd': Recipe(
        'FAKD: affinity of the features, beside KD.',
        {'l_kd': _KD, 'l_fakd': {'type': 'FAKDLoss', 'affinity': 'spatial', 'loss_range': 1, 'loss_weight': 10}},
        0.5,
    ),
    'lsfd': Recipe(
        'LSFD: features, most where the images differ, beside KD.',
        {'l_kd': _KD, 'l_lsfd': {'type': 'LSFDLoss', 'loss_range': 1, 'loss_weight': 1.0}},
        0.5,
    ),
    'facd': Recipe(
        'FACD: adaptive contrast of the features; the image loss is part of it.',
        {'l_facd': {'type': 'FACDLoss', 'loss_range': 1, 'loss_weight': 1.0}},
        None,
    ),
    'mtkd': Recipe(
        "MTKD: distance to the (fused) teachers' image in wavelet bands.",
        {'l_dwt': {'type': 'WaveletLoss', 'wave': 'haar', 'level': 1, 'loss_weight': 1.0}},
        0.1,
        False,
    ),
    'dukd': Recipe(
        "DUKD: the teacher's image, also on zoomed copies of each pair. The weights are those of the released code.",
        {'l_kd': {'type': 'ResponseLoss'}},
        5.0,
        False,
        {'zoom_in': {'type': 'ZoomIn', 'count': 1, 'consistency': 0.3}, 'zoom_out': {'type': 'ZoomOut'}},
    ),
    'csd': Recipe(
        'CSD: VGG19 features of the image, with blurred images as negatives. BasicSR downloads VGG19.',
        {'l_csd': {'type': 'CSDLoss', 'extractor': 'vgg19', 'loss_range': 1, 'loss_weight': 200}},
        1.0,
        False,
    ),
    'pisr': Recipe(
        'PISR: the student starts as the decoder of a teacher that sees the ground truth, and learns its features.',
        {'l_vid': {'type': 'VIDLoss', 'pdf': 'laplace', 'loss_weight': 1e-6}},
    ),
}


@dataclass
class _Plan:
    """The files to write, notes for the user, and the file whose teachers are cached ('' for none)."""

    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cached: str = ''


def distil(
    option_file: str,
    teachers: Sequence[str],
    method: MethodName | str | None = None,
    out: str | None = None,
    cache: str | None = None,
) -> str:
    """Write an option file that adds a `distillation:` block to a BasicSR experiment, and check it.

    The new file names the old one as its `base:` and contains only the differences. A file of other BasicSR-based
    distillation code (`network_t`, ...) names its teachers itself; kdsr translates the whole file.

    Args:
        option_file: A BasicSR training file.
        teachers: For each teacher its option file (YAML), its checkpoint, or a name of `kdsr zoo`. Checkpoints may come
            from `kdsr convert`, `kdsr export` (safetensors), or be files that the spandrel library recognises.
        method: 'kd', 'fitnet', 'at', 'fakd', 'lsfd', 'facd', 'mtkd', 'dukd', 'csd' or 'pisr', or a longer name of
            one ('response', 'attention_transfer'). Default: 'kd', or the method of the translated file.
        out: File to write. Default: `<option_file>_<method>.yml` beside the old file.
        cache: Folder of a cache of the teachers' images, which the training then reads; 'auto' for
            `datasets/cache/<name>.raw`. None runs the teachers in the training.

    Returns:
        A report: the written files, what `kdsr check` says about them, and the commands that follow.

    Raises:
        UserError: a file is wrong, a teacher is not recognised, or a file would be overwritten.

    Example:
        >>> import kdsr, os, tempfile
        >>> from kdsr.options.shipped import find_shipped_folder
        >>> student = os.path.join(find_shipped_folder(), 'zoo', 'rfdn_tiny_x2.yml')
        >>> out = os.path.join(tempfile.mkdtemp(), 'student_kd.yml')
        >>> report = kdsr.distil(student, teachers=['rfdn_small_x2'], method='kd', out=out)
        >>> report.splitlines()[0] == f'Written: {out}'
        True
    """
    chosen = None if method is None else _choose_method(method)
    opt = options.load(option_file)
    plugins.import_named(opt.get('import_modules'))
    plan = _Plan()
    if find_foreign_keys(opt):
        _plan_translation(plan, opt, option_file, teachers, chosen, out)
    else:
        _plan_variant(plan, opt, option_file, given=teachers, method=chosen or 'kd', out=out, cache=cache)
    for path in plan.files:
        if os.path.exists(path):
            raise UserError(f'{path} exists already: name another file with --out, or delete it.')
    for path, text in plan.files.items():
        write_durably(Path(path), text.encode())
    return _report(plan)


def _choose_method(name: str) -> MethodName:
    """Return the method with a name, if there is a recipe for it."""
    word = normalise_method(name)
    if word in _WITHOUT_RECIPE:
        raise UserError(f'`kdsr distil` writes no file for {word}: {_WITHOUT_RECIPE[word]}')
    check_choice('method', word, get_args(MethodName))
    return cast('MethodName', word)


def _plan_translation(
    plan: _Plan,
    opt: Mapping[str, Any],
    option_file: str,
    teachers: Sequence[str],
    method: MethodName | None,
    out: str | None,
) -> None:
    """Plan a complete file for an experiment of other distillation code."""
    if teachers:
        raise UserError(
            f'{option_file} names its teachers itself (`{find_foreign_keys(opt)[0]}`): leave out --teacher.'
        )
    whole, notes = translate(options.read_yaml(option_file))
    if method is not None:
        block = whole['distillation']
        block.update(_make_block(whole, block['teachers'], method, option_file))
        _set_image_loss(whole, RECIPES[method])
    name = f'{whole.get("name", "run")}_{method or "kdsr"}'
    path = out or f'{os.path.splitext(option_file)[0]}_{method or "kdsr"}.yml'
    head = f'# {os.path.basename(option_file)}, translated for kdsr.\n'
    options.check({**whole, 'name': name})
    plan.files[path] = head + options.dump({**whole, 'name': name})
    plan.notes += notes


def _plan_variant(
    plan: _Plan,
    opt: dict[str, Any],
    option_file: str,
    given: Sequence[str],
    method: MethodName,
    out: str | None,
    cache: str | None,
) -> None:
    """Plan a file that contains the differences to a BasicSR experiment."""
    options.complete(opt, option_file)
    if opt.get('distillation'):
        raise UserError(f'{option_file} has a `distillation:` block already; edit it, or name the file without it.')
    if not opt['datasets'].get('train'):
        raise UserError(f'{option_file} has no training set (`datasets.train`): name the file that trains the student.')
    model_type = _check_model_type(opt, option_file, method)
    if not given:
        raise UserError('name at least one teacher: --teacher its_options.yml or --teacher its_checkpoint.pth')
    path = out or f'{os.path.splitext(option_file)[0]}_{method}.yml'
    teachers = describe_teachers(given)
    imports = list_imports(opt, given)
    if method == 'pisr':
        _check_privileged(teachers, given)
    name = f'{opt["name"]}_{method}'
    base = os.path.relpath(option_file, os.path.dirname(os.path.abspath(path)))
    change: dict[str, Any] = {'base': base, 'name': name, 'model_type': model_type, **imports}
    change['distillation'] = {'teachers': teachers, **_make_block(opt, teachers, method, option_file)}
    if options.model_class_of(model_type).package == 'kdsr':
        _set_image_loss(change, RECIPES[method])
    else:
        _balance(change['distillation']['losses'], opt, RECIPES[method])
    if cache is not None:
        change['distillation']['cache'] = f'datasets/cache/{name}.raw' if cache == 'auto' else cache
        plan.cached = path
    if method == 'mtkd' and len(teachers) > 1:
        change['distillation']['aggregator'] = _plan_stage_1(plan, opt, change, path)
    options.check(options.merge(opt, {k: v for k, v in change.items() if k != 'base'}))
    about = RECIPES[method].about
    if options.model_class_of(model_type).package != 'kdsr':
        added = ', '.join(change['distillation']['losses'])
        about = f'The losses of {os.path.basename(option_file)} stay as they are, beside them: {added}.'
    advice = advise_on_learning_rate(opt)
    if advice:
        plan.notes.append(advice)
        about += ''.join(f'\n# {line}' for line in textwrap.wrap(advice, 118))
    plan.files[path] = f'# {about}\n{options.dump(change)}'


def _check_model_type(opt: Mapping[str, Any], option_file: str, method: MethodName) -> str:
    """Return the `model_type` of the new file: models with losses of their own keep theirs, and all of these losses."""
    model = options.model_class_of(opt['model_type'])
    if model.trains == 'student' and model.objective == 'image':
        return 'DistillationModel'
    registered = next((n for n in (model.name, f'{model.name}_basicsr') if n in MODEL_REGISTRY), None)
    if model.teachers != 'optional' or registered is None or not takes_block(MODEL_REGISTRY.get(registered)):
        raise UserError(
            f'{option_file}: `model_type: {model.name}` cannot be distilled: kdsr distils image models that derive '
            "from BasicSR's SRModel. For a class of another package, name the package in `import_modules`."
        )
    if method == 'mtkd':
        raise UserError(f'{option_file}: `--method mtkd` replaces the image loss, which {model.name} keeps. Use kd.')
    return model.name


def _make_block(
    opt: Mapping[str, Any], teachers: list[dict[str, Any]], method: MethodName, option_file: str
) -> dict[str, Any]:
    """Return the features and losses of the block."""
    recipe = RECIPES[method]
    if method == 'pisr':
        kind = opt['network_g'].get('type')
        tap = _PISR_TAPS.get(kind)
        if tap is None:
            raise UserError(
                f'`--method pisr` knows the tapped layer of {", ".join(_PISR_TAPS)}, not of {kind}; write the block by '
                'hand (docs/methods/pisr.md).'
            )
        features = {'last': {'student': tap, 'teacher': f'decoder.{tap}'}}
        init = {'teacher': teachers[0]['name'], 'module': 'decoder'}
        return {'init_from': init, 'features': features, 'losses': dict(recipe.losses)}
    if not recipe.features:
        return {'losses': dict(recipe.losses), **({'views': recipe.views} if recipe.views else {})}
    features = propose_features({**opt, 'distillation': {'teachers': teachers}}, option_file)
    if not features:
        raise UserError(
            f'{option_file}: kdsr found no layers to compare. Look at `kdsr taps {option_file}` and write `features:`.'
        )
    return {'features': features, 'losses': dict(recipe.losses)}


def _set_image_loss(opt: dict[str, Any], recipe: Recipe) -> None:
    train = opt.setdefault('train', {})
    if recipe.pixel is None:
        train['pixel_opt'] = None
    else:
        train['pixel_opt'] = {**(train.get('pixel_opt') or {}), 'loss_weight': recipe.pixel}


def _balance(losses: dict[str, dict[str, Any]], opt: Mapping[str, Any], recipe: Recipe) -> None:
    """Give the losses the recipe's balance to the image loss of a file that keeps it (1e-2 in ESRGAN)."""
    pixel = options.block_of(opt, 'train', 'pixel_opt').get('loss_weight', 1.0)
    for name, loss in losses.items():
        losses[name] = {**loss, 'loss_weight': loss.get('loss_weight', 1.0) * pixel / (recipe.pixel or 1.0)}


def _plan_stage_1(plan: _Plan, opt: Mapping[str, Any], change: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Plan the file that trains the aggregator; return the block's `aggregator`."""
    network = {**_AGGREGATOR, 'upscale': opt['scale'], 'num_teachers': len(change['distillation']['teachers'])}
    name = f'{opt["name"]}_aggregator'
    stage = {
        'base': change['base'],
        'name': name,
        'model_type': 'AggregationModel',
        'network_g': network,
        'distillation': {'teachers': change['distillation']['teachers']},
    }
    head = '# MTKD, stage 1: a network that fuses the images of the teachers. Train it before the student.\n'
    plan.files[re.sub(r'\.ya?ml$', '', path) + '_aggregator.yml'] = head + options.dump(stage)
    return {'path': f'experiments/{name}/models/net_g_latest.pth', 'network': network}


def _check_privileged(teachers: list[dict[str, Any]], given: Sequence[str]) -> None:
    if len(teachers) != 1 or teachers[0].get('input') != 'gt':
        raise UserError(
            '`--method pisr` needs one teacher, the option file of a PrivilegedTeacherModel (for example '
            f'options/pisr_teacher_fsrcnn_x2.yml), not {", ".join(given)}.'
        )


def _report(plan: _Plan) -> str:
    lines = [f'Written: {path}' for path in plan.files]
    lines += [f'Look at: {line}' for line in plan.notes]
    text, _ = check_option_files(list(plan.files), ())
    lines += ['kdsr check:', *(f'  {line}' for line in text.splitlines()), 'Next:']
    for path in plan.files:
        lines += [f'  kdsr cache {path}'] if path == plan.cached else []
        lines.append(f'  kdsr train {path}')
    return '\n'.join(lines)
