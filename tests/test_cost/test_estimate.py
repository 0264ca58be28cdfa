"""Times and verdicts by hand; what the command says; the page in the documents."""

import re
from collections import Counter
from pathlib import Path

import pytest

from kdsr.cli import main
from kdsr.cost.estimate import GIB, Assumptions, Estimate, estimate, estimate_seconds, make_assumptions
from kdsr.cost.estimate_report import format_report, format_tables
from kdsr.cost.gpus import Gpu, find_gpus, read_gpus
from kdsr.cost.operation_counter import CONVOLUTION, HALF, OTHER, PRODUCT, Operation
from kdsr.cost.training_step import STUDENT, StepCost
from kdsr.errors import UserError

ROOT = Path(__file__).parents[2]
CARD = Gpu('card', 8 * GIB, bandwidth=100.0, single=10.0, tensor=20.0, half=40.0, bf16=False, source='made up')
STEP = StepCost(
    {
        STUDENT: Counter(
            {
                Operation(CONVOLUTION, 400, 10): 2,  # arithmetic: 400 / (20 * 0.5) = 40 s each
                Operation(PRODUCT, 400, 10): 1,  # 80 s
                Operation(HALF, 400, 10): 1,  # 20 s
                Operation(OTHER, 0, 500): 3,  # traffic: 500 / (100 * 0.5) = 10 s each
                Operation(OTHER, 0, 1): 4,  # launch: 2 s each
            }
        )
    },
    {STUDENT: 0},
    6 * GIB,
)


def run(step=STEP, **changes):
    return Estimate(**{'name': 'run', 'iterations': 10, 'batch': 16, 'crop': 48, 'cost': step,
                       'precisions': frozenset(), **changes})  # fmt: skip


def test_each_kernel_takes_its_longest_part():
    assert estimate_seconds(STEP, CARD, utilisation=0.5, bandwidth=0.5, launch=2) == 80 + 80 + 20 + 30 + 8


def test_days_are_iterations_times_the_best_and_the_worst():
    assumed = Assumptions(utilisation=(1.0, 0.5), bandwidth=(1.0, 0.5), launch=(1.0, 2.0))
    best, worst = run().days(CARD, assumed)
    assert best == pytest.approx(10 * (40 + 40 + 10 + 15 + 4) / 86400)
    assert worst == pytest.approx(10 * 218 / 86400)
    slow_host = Assumptions((1.0, 0.5), (1.0, 0.5), (1.0, 2.0), iteration=(1.0, 300.0))
    assert run().days(CARD, slow_host) == (best, pytest.approx(10 * 300 / 86400))


@pytest.mark.parametrize(
    ('gib', 'precisions', 'verdict'),
    [
        (4.9, (), 'fits'),  # 1.4 * 4.9 + 1 < 8
        (5.1, (), 'tight'),
        (7.4, (), 'tight'),  # 7.4 + 0.5 < 8
        (7.6, (), 'too small'),
        (1, ('fp16',), 'fits'),
        (1, ('bf16',), 'no bf16'),
    ],
)
def test_what_fits(gib, precisions, verdict):
    step = StepCost(STEP.operations, STEP.parameters, int(gib * GIB))
    assert run(step, precisions=frozenset(precisions)).fits(CARD, Assumptions()) == verdict


@pytest.mark.parametrize(('cache', 'precisions'), [(None, {'fp16', 'bf16', 'fp32'}), ('cache.raw', {'fp16'})])
def test_the_precisions_are_those_of_the_training_and_of_live_teachers(workspace, cache, precisions):
    opt = workspace.options(model_type='DistillationModel', scale=2)
    opt['distillation'] = {
        'teachers': [{**workspace.teacher('RCAN'), 'precision': 'bf16'}, workspace.teacher('EDSR')],
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    }
    if cache:
        opt['distillation']['cache'] = cache
    opt['train']['amp'] = 'fp16'
    assert estimate(workspace.write(opt)).precisions == precisions


def test_cards_are_found_by_their_names():
    assert [gpu.name for gpu in find_gpus(['NVIDIA GeForce RTX 4090', 'rtx3090', 'a100-80gb', 't4'])] == [
        'RTX 4090', 'RTX 3090', 'A100 80GB', 'T4',
    ]  # fmt: skip
    assert find_gpus([]) == list(read_gpus())
    with pytest.raises(UserError, match='matches A100 40GB and A100 80GB'):
        find_gpus(['A100'])
    with pytest.raises(UserError, match=r'unknown card.*Known: RTX 3060'):
        find_gpus(['MI250'])


def test_the_data_of_the_cards_are_whole():
    for gpu in read_gpus():
        assert gpu.single <= gpu.tensor < gpu.half
        assert 4 * GIB < gpu.memory < 1000 * GIB
        assert 1e11 < gpu.bandwidth < 1e13
        assert "vendor's data sheet" in gpu.source


def test_the_utilisation_may_be_given_in_any_order():
    assert make_assumptions([0.1, 0.6]).utilisation == make_assumptions([0.6, 0.1]).utilisation == (0.6, 0.1)
    with pytest.raises(UserError, match='above 0'):
        make_assumptions([0, 0.5])


def test_the_report_says_what_it_is_and_what_is_not_counted():
    text = format_report([run(notes=('something is not counted',))], [CARD], Assumptions())
    assert text.startswith('Estimates, not measurements')
    assert 'run: something is not counted.' in text
    assert '15 to 40 % of the peak' in text


def test_the_command(workspace, capsys):
    path = workspace.write(workspace.options())
    main(['estimate', path, '--gpu', 'T4', '--force_yml', 'datasets:train:batch_size_per_gpu=6'])
    out = capsys.readouterr().out
    assert '| run | 2 | 6 x 16 |' in out
    assert '| T4 |' in out


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'train': None}, 'trains nothing'),
        ({'network_g': {'type': 'EDSRR'}}, 'EDSRR'),
        ({'model_type': 'VideoBaseModel'}, 'VideoBaseModel'),
    ],
)
def test_mistakes_are_one_message(workspace, changes, told):
    path = workspace.write({**workspace.options(), **changes})
    with pytest.raises(UserError, match=told):
        estimate(path)


def test_a_file_that_is_missing_is_told():
    with pytest.raises(UserError, match=r'nothing\.yml'):
        estimate('nothing.yml')


def test_a_batch_size_is_needed(workspace):
    opt = workspace.options()
    del opt['datasets']['train']['batch_size_per_gpu']
    with pytest.raises(UserError, match='batch_size_per_gpu'):
        estimate(workspace.write(opt))


@pytest.mark.parametrize('name', ['baseline_edsr_x4', 'facd_edsr_x4', 'pisr_fsrcnn_x4', 'pisr_teacher_fsrcnn_x4'])
def test_the_page_is_current(name):
    run = estimate(str(ROOT / f'options/{name}.yml'))
    page, now = (
        [line for line in text.splitlines() if line.startswith(f'| {name} |')]
        for text in ((ROOT / 'docs/estimates.md').read_text(), format_tables([run], read_gpus(), Assumptions()))
    )
    assert page[0] == now[0], 'run `make docs`'
    shown, wanted = ([float(n) for n in re.findall(r'\d+\.?\d*', row.split('|', 2)[2])] for row in (page[1], now[1]))
    assert shown == pytest.approx(wanted, rel=0.1, abs=0.1), 'run `make docs`'  # other PyTorch: other kernels


def test_the_page_has_every_run_at_x4():
    page = (ROOT / 'docs/estimates.md').read_text()
    assert [path.stem for path in (ROOT / 'options').glob('*_x4.yml') if page.count(f'| {path.stem} |') != 2] == []
