"""The facts about methods: options, option files, numbers."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from kdsr.errors import UserError
from kdsr.methods import METHODS
from kdsr.methods.arguments import Argument, find_registered, format_argument_table, list_arguments
from kdsr.methods.files import describe_networks, list_files
from kdsr.methods.results import format_measured_table, format_printed_table
from kdsr.options.shipped import expand_braces, list_shipped_names
from kdsr.papers import results as paper_results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / 'benchmarks' / 'results'
OF_NO_METHOD = ('quickstart/', 'real_world/', 'recipes/', 'studies/', 'tables/', 'test/', 'zoo/')


def method_called(name):
    return next(method for method in METHODS if method.name == name)


class Base:
    """A base.

    Args:
        weight: Factor
            on the result.
    """


class Example(Base):
    """An example, after [1].

        Args of an equation are not its arguments.

    Args:
        size: 'a|b' as in [1, 2], not [0, 1]; H*W.
        weight: See :class:`Base`; 3 in [2].
        unsaid: ~

    Shape:
        other: (N,).

    References:
        [1] First, Second. Title of
            the paper. 2020.
        [2] Alone, With, Others. Another. 2021.
    """

    def __init__(self, size, weight=2.0, unsaid=None, both=(0.5, True)):
        pass


def test_arguments_are_read_from_signature_and_docstring():
    assert list_arguments(Example) == [
        Argument('size', 'required', "'a|b' as in [First and Second; Alone et al.], not [0, 1]; H*W."),
        Argument('weight', '2.0', 'Factor on the result; 3 in [Alone et al.].'),
        Argument('unsaid', '~', '~'),
        Argument('both', '[0.5, true]', ''),
    ]


@pytest.mark.parametrize('name', sorted({name for method in METHODS for name in method.classes}))
def test_every_option_is_explained(name):
    unsaid = [argument.name for argument in list_arguments(find_registered(name)) if not argument.about]
    assert not unsaid
    rows = [line for line in format_argument_table([name]).splitlines() if line.startswith('| `')]
    assert all(len(re.findall(r'(?<!\\)\|', row)) == 4 for row in rows), rows


def test_a_name_that_is_not_registered_is_told():
    with pytest.raises(UserError, match='NoSuchLoss'):
        find_registered('NoSuchLoss')


def test_braces_stand_for_either():
    assert expand_braces('{a,b}_x{2,4}.yml') == ['a_x2.yml', 'a_x4.yml', 'b_x2.yml', 'b_x4.yml']
    assert expand_braces('*.yml') == ['*.yml']


def test_every_pattern_finds_files_and_every_file_is_of_a_method():
    patterns = [p for m in METHODS for p in (*m.runs, *m.alone, *m.ablations)]
    assert all(list_files([whole]) for pattern in patterns for whole in expand_braces(pattern))
    assert {n for n in list_shipped_names() if not n.startswith(OF_NO_METHOD)} == set(list_files(patterns))


def test_networks_are_told_from_the_files():
    assert describe_networks(method_called('rfdn')) == 'RFDN, RFDN-L at x2, x3, x4; E-RFDN at x4'
    assert describe_networks(method_called('pisr')) == 'FSRCNN, FSRCNN-L, VDSR, IDN, CARN at x2, x3, x4'
    assert describe_networks(method_called('csd')) == ''


def cells_of(table):
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines() if line.startswith('| ')]


@pytest.mark.parametrize('method', [m for m in METHODS if m.rows], ids=lambda m: m.name)
def test_the_papers_numbers_are_those_of_their_tables(method):
    """Each shown number stands in the file, in this spelling; a misprint is marked."""
    printed = {}
    with paper_results.FILE.open(newline='') as file:
        for r in csv.DictReader(file):
            key = (f'{r["paper"]}, Table {r["table"]}', f'x{r["scale"]}', r['row'], r['set'])
            printed.setdefault(key, []).append((' / '.join(filter(None, (r['psnr'], r['ssim']))), r['misprint']))
    head, _, *rows = cells_of(format_printed_table(method).replace('|---', '| ---'))
    shown = 0
    for table, network, row, *numbers in rows:
        for name, number in zip(head[3:], numbers):
            if number:
                known = printed[table, network.split()[-1], row.replace('\\*', '*'), name]
                assert (number.rstrip('†'), '†' in number) in [(text, bool(misprint)) for text, misprint in known]
                shown += 1
    assert shown >= 4
    assert all(rows.own in format_printed_table(method).replace('\\*', '*') for rows in method.rows)


def test_a_misprint_is_told_and_rows_without_the_method_are_left_out():
    assert '† EDSR x4, MTKD (ours), B100: likely a misprint, SSIM 0.7407 was meant.' in format_printed_table(
        method_called('mtkd')
    )
    assert 'on Urban100: 4-quadrant test.' in format_printed_table(method_called('lsfd'))
    assert 'EDSR' not in format_printed_table(method_called('dukd'))  # MTKD's Table 3 has no row DUKD
    assert format_printed_table(method_called('csd')) == ''


@pytest.mark.parametrize('method', [m for m in METHODS if m.measured], ids=lambda m: m.name)
def test_measured_numbers_are_those_of_the_comparisons_own_report(method):
    study = method.measured.study
    report = (RESULTS / study / 'report.md').read_text()
    for title, seeds, *numbers in cells_of(format_measured_table(method.measured, RESULTS))[1:]:
        for number in numbers:
            value, gain = re.fullmatch(r'(\S+ ± \S+)(?: \((\S+)\))?', number).groups()
            assert f'| {seeds} | ' in report, title
            assert value in report, title
            assert gain is None or gain in report, title


def test_a_measurement_is_the_last_of_each_seed(tmp_path):
    (tmp_path / 'study').mkdir()
    lines = ['run,seed,set,metric,iteration,value']
    for run, values in {'plain': (30.0, 31.0), 'other': (32.0, 32.5)}.items():
        for seed, value in enumerate(values):
            lines += [f'{run},{seed},Set5,psnr,{it},{value - (it < 1000)}' for it in (500, 1000)]
            lines += [f'{run},{seed},Set5,ssim,1000,0.9']
    (tmp_path / 'study' / 'results.csv').write_text('\n'.join(lines) + '\n')
    measured = type(METHODS[0].measured)('study', 'A study', {'plain': 'alone', 'other': 'with'})
    spread = np.std([30, 31], ddof=1), np.std([32, 32.5], ddof=1)
    assert format_measured_table(measured, tmp_path).splitlines()[2:] == [
        f'| alone | 2 | 30.500 ± {spread[0]:.3f} |',
        f'| with | 2 | 32.250 ± {spread[1]:.3f} (+1.750) |',
    ]
