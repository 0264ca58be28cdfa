"""The commands of the documents work as they are written: each block marked `sh` is run, unless it says why not."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.cli import command_parsers, main
from tests.conftest import reset_logger
from tests.helpers.documents import PAGES, ROOT, blocks, inline_commands, make_folder, small

WITH_COMMANDS = [page for page in PAGES if any(b.language == 'sh' and not b.not_run for b in blocks(page))]
COMMAND = re.compile(r'^(\$ )?(kdsr|python|make|pip|bash|git|sbatch|torchrun) ', re.M)


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture(scope='module')
def furnished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('documents') / 'folder'
    make_folder(folder)
    return folder


@pytest.fixture
def folder(furnished, tmp_path, monkeypatch):
    shutil.copytree(furnished, tmp_path / 'work', symlinks=True)
    monkeypatch.chdir(tmp_path / 'work')
    monkeypatch.setattr(sys, 'path', list(sys.path))
    losses = set(LOSS_REGISTRY.keys())
    yield tmp_path / 'work'
    for one in set(LOSS_REGISTRY.keys()) - losses:  # a page's own
        sys.modules.pop(LOSS_REGISTRY._obj_map.pop(one).__module__)


def status(words):
    """Run a command of a page; return its exit status."""
    program, *arguments = words
    if program == 'kdsr':
        reset_logger()
        if arguments[0] in ('prepare', 'cache'):
            arguments += ['--workers', '1']
        if arguments == ['train', 'student_lsfd.yml']:  # the tutorial's teacher has trained for two iterations only
            arguments += ['--force_yml', 'distillation:health_check=false']
        try:
            main(arguments)
        except SystemExit as stopped:
            return stopped.code or 0
        finally:
            reset_logger()
        return 0
    assert program == 'python', f'{words}: say why it is not run'
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run([sys.executable, *arguments], env=environment).returncode


@pytest.mark.slow
@pytest.mark.parametrize('page', WITH_COMMANDS, ids=name)
def test_the_commands_of_a_page_run(page, folder, capfd):
    if '[export' in page.read_text() or 'kdsr export' in page.read_text():
        pytest.importorskip('onnxruntime')
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(small(block.text) if block.language == 'yaml' else block.text)
        elif block.language == 'sh' and not block.not_run:
            for words in block.commands():
                assert status(words) == 0, f'{" ".join(words)}\n{"".join(capfd.readouterr())[-3000:]}'


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_commands_stand_in_blocks_that_are_run(page):
    for block in blocks(page):
        assert block.language == 'sh' or not COMMAND.search(block.text), f'mark as sh: {block.text}'


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_commands_in_the_text_exist_with_their_options(page):
    parsers = command_parsers()
    for words in inline_commands(page):
        if words[0].startswith('-') or words[0] == 'COMMAND':
            continue
        assert words[0] in parsers, f'{page.name}: kdsr {" ".join(words)}'
        known = parsers[words[0]]._option_string_actions
        unknown = [word for word in words[1:] if word.startswith('-') and word not in known]
        assert not unknown, f'{page.name}: kdsr {" ".join(words)}'
