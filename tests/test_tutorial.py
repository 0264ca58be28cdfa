"""docs/tutorial.md: its files are written and its commands are run, in their order, on a few small images."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from kdsr.cli import main

PAGE = (Path(__file__).parents[1] / 'docs' / 'tutorial.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```(sh|yaml)\n(.*?)^```$', PAGE, re.M | re.S)


def small(text):
    """The page's option file with a run of two iterations."""
    for key, value in (('total_iter', 2), ('val_freq', 2), ('save_checkpoint_freq', 2), ('gt_size', 32)):
        text, found = re.subn(rf'{key}: \d+', f'{key}: {value}', text)
        assert found <= 1
    return text.replace('periods: [1000]', 'periods: [2]')


def ended(words):
    """Run a command; return its exit status."""
    try:
        main(words)
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_every_command_of_the_tutorial_runs(workspace, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('matplotlib')
    workspace.images(count=2, size=96, name='made')
    shutil.move(workspace.root / 'made' / 'gt', workspace.root / 'photos')
    shutil.copytree(workspace.root / 'photos', workspace.root / 'unseen')
    commands = []
    for kind, text in BLOCKS:
        if kind == 'yaml':
            name = re.match(r'# (\S+\.yml)\n', text)[1]
            (workspace.root / name).write_text(small(text))
            continue
        for line in filter(None, text.splitlines()):
            program, *words = shlex.split(line, comments=True)
            commands.append(line)
            if line.startswith('python -m kdsr.train -opt '):
                extra = ['--force_yml', 'distillation:health_check=false'] if 'lsfd' in words[-1] else []
                workspace.train(words[-1], *extra)
            else:
                assert program == 'kdsr', line
                if words[0] == 'prepare':
                    words = [*words, '--workers', '1']
                assert ended(words) in (0, None), f'{line}\n{capsys.readouterr().out}'
    assert len(commands) == 13
    assert sorted(path.suffix for path in (workspace.root / 'enlarged').iterdir()) == ['.png', '.png']
    assert (workspace.root / 'results' / 'benchmark' / 'benchmark.md').is_file()
