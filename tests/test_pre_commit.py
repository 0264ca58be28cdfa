"""The hooks of `.pre-commit-config.yaml` are the checks of `make lint`, with the tools of the environment."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
HOOKS = [hook for repo in CONFIG['repos'] for hook in repo['hooks']]


def test_hooks_download_nothing():
    assert {repo['repo'] for repo in CONFIG['repos']} == {'local'}
    assert {hook['language'] for hook in HOOKS} == {'system'}


def test_hooks_run_what_make_lint_runs():
    lint = re.search(r'^lint:.*\n((?:\t.*\n)+)', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1]
    in_make = set(re.findall(r'-m (ruff \w+|mypy)', lint))
    assert {' '.join(hook['entry'].split()[2:4]).removesuffix(' ') for hook in HOOKS} == in_make


def test_the_commands_of_the_hooks_exist(tmp_path):
    file = tmp_path / 'tidy.py'
    file.write_text('"""A tidy file."""\n')
    for hook in HOOKS:
        words = [sys.executable, *shlex.split(hook['entry'])[1:]]
        words += [str(file)] if hook.get('pass_filenames', True) else ['--version']
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
