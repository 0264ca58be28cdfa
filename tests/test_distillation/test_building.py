"""Options of registered classes against their signatures."""

from __future__ import annotations

from typing import Literal

import pytest
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

from kdsr.distillation.building import argument_problems, build_loss_at, choices_of
from kdsr.distillation.views import VIEW_REGISTRY
from kdsr.errors import UserError

OURS = {
    name: cls
    for registry in (LOSS_REGISTRY, ARCH_REGISTRY, VIEW_REGISTRY)
    for name, cls in registry
    if cls.__module__.startswith('kdsr.')
}


class Example:
    def __init__(self, size: int, mode: Literal['one', 'two'] = 'one', peak: Literal[255, 1] = 255) -> None:
        self.size, self.mode, self.peak = size, mode, peak


def problems(**opt):
    return list(argument_problems(Example, {'type': 'Example', **opt}))


def test_choices_are_read_from_the_signature():
    assert choices_of(Example) == {'mode': ('one', 'two'), 'peak': (255, 1)}
    assert problems(size=3, mode='two', peak=1) == []
    assert problems(size=3, mode='too') == [
        ('mode', "Example: `mode` must be one of one, two, not 'too'. Did you mean 'two'?")
    ]
    assert problems(size=3, peak=True) == [('peak', 'Example: `peak` must be one of 255, 1, not True.')]
    assert problems(mode='one') == [(None, 'Example needs `size:`.')]
    assert problems(size=3, sise=4)[0][1] == "Example has no option 'sise'. Did you mean 'size'?"


def test_annotations_that_do_not_resolve_are_no_obstacle():
    def function(mode: NotThere = 'one'): ...  # noqa: F821

    assert choices_of(function) == {}


def test_a_wrong_choice_is_refused_where_a_loss_is_built():
    with pytest.raises(
        UserError, match=r'^distillation\.losses\.l_kd: ResponseLoss: `norm` must be one of l1, l2, not'
    ):
        build_loss_at('distillation.losses.l_kd', {'type': 'ResponseLoss', 'norm': 'l3'})


@pytest.mark.parametrize('name', sorted(name for name, cls in OURS.items() if choices_of(cls)))
def test_a_constructor_refuses_what_its_signature_excludes(name):
    """In Python nothing else does."""
    needed = {'extractor': 'identity'} if name == 'CSDLoss' else {}
    for option, choices in choices_of(OURS[name]).items():
        with pytest.raises(UserError, match=f'`{option}` must be'):
            OURS[name](**{**needed, option: 'nonsense'})
        assert 'nonsense' not in choices
