"""`kdsr methods`."""

import pytest

from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.methods import METHODS, Method, list_methods, show_method


def test_methods_are_listed_and_shown(capsys):
    main(['methods'])
    told = capsys.readouterr().out.splitlines()
    assert told == list_methods().splitlines()
    assert [line.split()[0] for line in told[: len(METHODS)]] == [method.word or method.name for method in METHODS]
    main(['methods', 'AT'])
    told = capsys.readouterr().out
    assert all(fact in told for fact in ('ICLR 2017', 'AttentionTransferLoss', '(9 files)', '--method at'))
    assert 'docs/methods/attention_transfer.md' in told


def test_a_method_that_is_not_there_is_told():
    with pytest.raises(UserError, match=r"unknown method 'lsdf'.*'lsfd'"):
        show_method('lsdf')
    with pytest.raises(UserError, match='Methods: mtkd, lsfd'):
        show_method('zzz')


def test_what_a_method_lacks_is_not_shown():
    assert not any(word in show_method('csd') for word in ('kdsr options', 'ablations', 'networks'))
    assert 'kdsr distil' not in show_method('rfdn')
    assert Method('n', 't', 'A, B, C', 'p', '2020', 'u', 'c', ()).source == 'A et al., 2020'
