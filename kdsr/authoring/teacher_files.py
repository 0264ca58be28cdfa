"""The files that a user names as teachers of `kdsr distil`, described as the block of an option file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kdsr import options, plugins, zoo
from kdsr.archs.convert import read_official
from kdsr.archs.official_settings import choose_settings
from kdsr.distillation.checkpoint import pick_weights, read_checkpoint
from kdsr.errors import UserError
from kdsr.networks.weight_files import identify
from kdsr.wording import with_article


def describe_teachers(given: Sequence[str]) -> list[dict[str, Any]]:
    """Return `distillation.teachers` for option files, checkpoints and names of the zoo, each with a name of its own.

    Args:
        given: What the user names.

    Raises:
        UserError: a file is missing or not recognised, or has the tensor names of its authors.
    """
    return _give_names([_describe_teacher(one) for one in given])


def list_imports(opt: Mapping[str, Any], teachers: Sequence[str]) -> dict[str, list[str]]:
    """Return the `import_modules` of the student's and the teachers' option files, if a teacher adds any."""
    own = list(opt.get('import_modules') or ())
    files = [options.load(file) for file in teachers if file.endswith(('.yml', '.yaml'))]
    both = list(dict.fromkeys([*own, *(name for file in files for name in file.get('import_modules') or ())]))
    return {} if both == own else {'import_modules': both}


def _give_names(teachers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every teacher a unique name."""
    names: list[str] = []
    for teacher in teachers:
        word = re.sub(r'\W+', '_', str(teacher['name'])).strip('_').lower() or 'teacher'
        names.append(word if word not in names else f'{word}_{len(names)}')
    return [{**teacher, 'name': name} for teacher, name in zip(teachers, names)]


def _describe_teacher(given: str) -> dict[str, Any]:
    """Return the options of a teacher, from its option file, its checkpoint or its name in the zoo."""
    if given.endswith(('.yml', '.yaml')):
        return _read_teacher_options(given)
    given = zoo.find_file(given)
    name = os.path.splitext(os.path.basename(given))[0]
    if given.lower().endswith('.safetensors'):
        network, weights = identify(given)
        if weights is not None:  # written by `kdsr export`
            return {'name': name, 'path': given, 'network': dict(network)}
    content = read_checkpoint(given)
    if isinstance(content.get('network'), Mapping):  # written by `kdsr convert`
        return {'name': name, 'path': given, 'network': dict(content['network'])}
    try:
        weights = pick_weights(content, given)
        network, renamed = read_official(weights, given)
    except UserError as error:
        return {'name': name, 'network': {'type': 'Spandrel', 'path': _check_spandrel(given, error)}}
    if renamed.keys() == weights.keys():  # the names are BasicSR's
        chosen, own, _ = choose_settings(network, renamed, given)
        if all(own[key] is renamed[key] for key in own):
            return {'name': name, 'path': given, 'network': chosen}
    raise UserError(
        f'{given!r} is {with_article(network["type"])} with the tensor names of its authors: run '
        f'`kdsr convert {given} --out NEW.pth` first, and give the new file.'
    )


def _check_spandrel(path: str, reason: UserError) -> str:
    """Return the path of a file that spandrel recognises."""
    from kdsr.archs.spandrel_arch import Spandrel

    try:
        Spandrel(path)
    except UserError as error:
        raise UserError(
            f'{path!r} is not recognised. Name its option file instead: --teacher FILE.yml, with its `network_g` and '
            f'`path.pretrain_network_g`. ({reason} {error})'
        ) from None
    return path


def _read_teacher_options(file: str) -> dict[str, Any]:
    own = options.load(file)
    plugins.import_named(own.get('import_modules') or ())
    if not own.get('network_g'):
        raise UserError(f'{file}: a teacher needs `network_g`, which is missing.')
    trained = f'experiments/{own.get("name")}/models/net_g_latest.pth'
    given = own['path'].get('pretrain_network_g')
    trains = bool((own.get('datasets') or {}).get('train'))
    teacher = {'name': own['network_g'].get('type', 'teacher'), 'path': trained if trains or not given else given}
    if teacher['path'] == given and own['path'].get('param_key_g'):
        teacher['param_key'] = own['path']['param_key_g']
    privileged = {'input': 'gt'} if options.model_class_of(own.get('model_type')).input == 'gt' else {}
    return {**teacher, **privileged, 'network': own['network_g']}
