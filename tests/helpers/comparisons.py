"""Comparison files, and records as trained runs would leave them."""

import copy

from kdsr.comparison.plan import read_comparison
from kdsr.comparison.training_record import RecordWriter

START = {
    'parameters': 6867, 'commit': 'abc', 'device': 'a CPU', 'gpu': False, 'threads': 1, 'torch': '2', 'python': '3',
}  # fmt: skip


def comparison_file(workspace, runs=None, iterations=40, **changes):
    """Write `base.yml` and a comparison of it with itself; return the path."""
    opt = workspace.options(iterations=iterations)
    opt['val'].update(val_freq=iterations // 2)
    opt['logger'].update(print_freq=iterations // 4, save_checkpoint_freq=iterations // 2)
    workspace.write(opt, 'base.yml')
    top = {
        'name': 'cmp', 'seeds': [0, 1, 2], 'baseline': 'plain', 'common': {'base': 'base.yml'},
        'runs': runs or {'plain': {}, 'fast': {'train': {'optim_g': {'lr': 0.01}}}},
        **changes,
    }  # fmt: skip
    return workspace.write(copy.deepcopy(top), 'cmp.yml')  # without anchors


def comparison(workspace, *args, **changes):
    return read_comparison(comparison_file(workspace, *args, **changes))


def trained(workspace, run, last, ended=True, seconds=10.0):
    """Leave the record of a run whose validations climb to `last`."""
    folder = workspace.root / run.folder
    folder.mkdir(parents=True)
    writer = RecordWriter(str(folder))
    writer.write('start', 0, **START)
    half = run.iterations // 2
    for iteration, value, clock in ((half, last - 2, seconds / 2), (run.iterations, last, seconds)):
        clocks = {'seconds': clock, 'cpu_seconds': clock / 2}
        writer.write('log', iteration, losses={'l_pix': 1 / iteration}, step_seconds=seconds / run.iterations, **clocks)
        writer.write('validation', iteration, set='photos', values={'psnr': value}, **clocks)
    if ended:
        writer.write('end', run.iterations, seconds=seconds, cpu_seconds=seconds / 2)
    writer.close()
