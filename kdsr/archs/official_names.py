"""Official checkpoints: rules that rename their tensors, one table per family of files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Union

from torch import Tensor

from kdsr.errors import UserError

Weights = Mapping[str, Tensor]
Rule = tuple[str, Union[str, Callable[[re.Match[str]], str], None]]


def rename(weights: Weights, rules: Sequence[Rule]) -> dict[str, Tensor]:
    """Rename tensors.

    Args:
        weights: Tensors by name.
        rules: See `Family`.

    Returns:
        Copies of the tensors by their new names, without those that a rule drops.

    Raises:
        UserError: two tensors would get the same name.
    """
    renamed = {}
    for key, tensor in weights.items():
        new = apply_rules(key, rules)
        if new in renamed:
            raise UserError(f'two tensors would get the name {new!r}; one of them is {key!r}.')
        if new is not None:
            renamed[new] = tensor.detach().clone()
    return renamed


def apply_rules(key: str, rules: Sequence[Rule]) -> str | None:
    """Return the new name of a tensor; None where a rule drops it."""
    for pattern, name in rules:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(name) if isinstance(name, str) else name and name(match)
    return key


def count_from_0(template: str) -> Callable[[re.Match[str]], str]:
    """Return a rule's name: `template` filled with the groups of the match, whose numbers count from 1, not 0."""
    return lambda match: template.format(*(int(g) - 1 if g and g.isdigit() else g for g in match.groups()))


COMMON_IMDN_RULES: tuple[Rule, ...] = (
    (r'fea_conv\.(\w+)', r'conv_first.\1'),
    (r'c\.0\.(\w+)', r'fuse.0.\1'),
    (r'LR_conv\.(\w+)', r'conv_after_body.\1'),
    (r'upsampler\.0\.(\w+)', r'upsample.0.\1'),
)
IMDN_RULES: tuple[Rule, ...] = (
    (r'IMDB(\d+)\.c([123])\.(\w+)', count_from_0('body.{}.refine.{}.{}')),
    (r'IMDB(\d+)\.c4\.(\w+)', count_from_0('body.{}.last.{}')),
    (r'IMDB(\d+)\.c5\.(\w+)', count_from_0('body.{}.fuse.{}')),
    (r'IMDB(\d+)\.cca\.conv_du\.(0\.\w+|2\.\w+)', count_from_0('body.{}.attention.attention.{}')),
    *COMMON_IMDN_RULES,
)
E_RFDN_RULES: tuple[Rule, ...] = (
    (r'B(\d+)\.c([123])_d\.(\w+)', count_from_0('body.{}.distill.{}.{}')),
    (r'B(\d+)\.c([123])_r\.(\w+)', count_from_0('body.{}.refine.{}.{}')),
    (r'B(\d+)\.c4\.(\w+)', count_from_0('body.{}.last.{}')),
    (r'B(\d+)\.c5\.(\w+)', count_from_0('body.{}.fuse.{}')),
    (r'B(\d+)\.esa\.(\w+\.\w+)', count_from_0('body.{}.attention.{}')),
    *COMMON_IMDN_RULES,
)
CARN_RULES: tuple[Rule, ...] = (
    (r'entry\.(\w+)', r'conv_first.\1'),
    (r'b(\d)\.b(\d)\.(body\.\d\.\w+)', count_from_0('body.units.{}.units.{}.{}')),
    (r'b(\d)\.c(\d)\.body\.(0\.\w+)', count_from_0('body.units.{}.fuse.{}.{}')),
    (r'c(\d)\.body\.(0\.\w+)', count_from_0('body.fuse.{}.{}')),
    (r'upsample\.up\.body\.(\d\.\w+)', r'upsample.\1'),
    (r'upsample\.up(\d)\.body\.(\d\.\w+)', r'upsample.x\1.\2'),
    (r'exit\.(\w+)', r'conv_last.\1'),
)
VDSR_RULES: tuple[Rule, ...] = (
    (r'input\.weight', 'conv_first.0.weight'),
    (r'residual_layer\.(\d+)\.conv\.weight', r'body.\1.0.weight'),
    (r'output\.weight', 'conv_last.weight'),
)
COMMON_EDSR_RULES: tuple[Rule, ...] = (
    (r'(sub|add)_mean\.(weight|bias)', None),
    (r'head\.0\.(\w+)', r'conv_first.\1'),
    (r'body\.\d+\.(weight|bias)', r'conv_after_body.\1'),
    (r'tail\.0\.(\d+\.\w+)', r'upsample.\1'),
    (r'tail\.1\.(\w+)', r'conv_last.\1'),
)
RCAN_RULES: tuple[Rule, ...] = (
    (r'body\.(\d+)\.body\.(\d+)\.body\.([02]\.\w+)', r'body.\1.residual_group.\2.rcab.\3'),
    (r'body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0\.(\w+)', r'body.\1.residual_group.\2.rcab.3.attention.1.\3'),
    (r'body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.2\.(\w+)', r'body.\1.residual_group.\2.rcab.3.attention.3.\3'),
    (r'body\.(\d+)\.body\.\d+\.(weight|bias)', r'body.\1.conv.\2'),
    *COMMON_EDSR_RULES,
)
EDSR_RULES: tuple[Rule, ...] = (
    (r'body\.(\d+)\.body\.0\.(\w+)', r'body.\1.conv1.\2'),
    (r'body\.(\d+)\.body\.2\.(\w+)', r'body.\1.conv2.\2'),
    *COMMON_EDSR_RULES,
)
SAN_RULES: tuple[Rule, ...] = (
    (r'head\.0\.(\w+)', r'conv_first.\1'),
    (r'RG\.(\d+)\.rcab\.(\d+)\.conv_first\.0\.(\w+)', r'body.\1.blocks.\2.conv1.\3'),
    (r'RG\.(\d+)\.rcab\.(\d+)\.conv_first\.2\.(\w+)', r'body.\1.blocks.\2.conv2.\3'),
    (r'RG\.(\d+)\.soca\.conv_du\.([02]\.\w+)', r'body.\1.soca.attention.\2'),
    (r'RG\.(\d+)\.conv_last\.(\w+)', r'body.\1.conv.\2'),
    (r'RG\.(\d+)\.gamma', r'body.\1.gamma'),
    (r'conv_last\.(\w+)', r'conv_unused.\1'),
    (r'non_local\.non_local\.(g|theta|phi)\.(\w+)', r'non_local.\1.\2'),
    (r'non_local\.non_local\.W\.(\w+)', r'non_local.out.\1'),
    (r'non_local\.soca\.conv_du\.([02]\.\w+)', r'non_local.soca.attention.\1'),
    (r'tail\.0\.(\d+\.\w+)', r'upsample.\1'),
    (r'tail\.1\.(\w+)', r'conv_last.\1'),
)
FSRCNN_RULES: tuple[Rule, ...] = (
    (r'(backbone\.)?network\.encoder\..*|vid_module_dict\..*', None),
    (r'(?:backbone\.)?network\.(feature_extraction|shrinking|expanding)\.0\.([01]\.\w+)', r'\1.\2'),
    (r'(?:backbone\.)?network\.mapping\.(\d+\.[01]\.\w+)', r'mapping.\1'),
    (r'(?:backbone\.)?network\.last_layer\.0\.0\.(\w+)', r'last_layer.\1'),
)
