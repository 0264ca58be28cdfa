"""The website of the documents: every page is in the side bar, formulas become MathML, and no warning remains."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / 'scripts' / 'site'


def test_every_page_is_in_the_side_bar_once():
    pages = [
        page for pages in runpy.run_path(str(SITE / 'site_navigation.py'))['NAVIGATION'].values() for page in pages
    ]
    files = [*ROOT.glob('docs/*.md'), *ROOT.glob('docs/*.rst'), *ROOT.glob('docs/methods/*.md'), *ROOT.glob('*.md')]
    there = {str(file.relative_to(ROOT).with_suffix('')) for file in files} - {'docs/index'}
    assert sorted(pages) == sorted(there | {'datasets/README', 'options/README'})


def test_aligned_formulas_become_tables():
    pytest.importorskip('latex2mathml')
    mathml = runpy.run_path(str(SITE / 'site_mathematics.py'))['mathml']
    shown = mathml(r'\begin{aligned} a &= b \\ c &= \frac{d}{2} \end{aligned}', display=True)
    assert shown.count('<mtr>') == 2
    assert '<mfrac>' in shown
    assert 'display="block"' in shown
    assert '&amp;' not in shown


DOCSTRING = """Distance of `a` to b*c, cf. |x| and :class:`kdsr.Thing`.

    L = mean |a - b| * 2
      + c

Departs from the paper: no.

Args:
    weight: Of the term, see `options`.

Shape:
    a: (N, C), any.
"""


def test_docstrings_become_restructured_text():
    pytest.importorskip('sphinx')
    as_rst = runpy.run_path(str(SITE / 'site_reference.py'))['as_rst']
    assert (
        '\n'.join(as_rst(DOCSTRING.splitlines()))
        == r"""Distance of ``a`` to b\*c, cf. \|x\| and :class:`kdsr.Thing`.

::

    L = mean |a - b| * 2
      + c

Departs from the paper: no.

Args:
    weight: Of the term, see ``options``.

Shape:
    a: (N, C), any."""
    )


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    for package, version in (('sphinx', '8.0'), ('furo', None), ('myst_parser', None), ('latex2mathml', None)):
        pytest.importorskip(package, minversion=version)
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-c', str(SITE), '.']
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = (tmp_path / 'docs/modules.html').read_text()
    assert 'LSFDLoss' in losses
    assert 'kdsr upscale' in (tmp_path / 'docs/commands.html').read_text()
    for page in tmp_path.rglob('*.html'):
        assert 'cdn.' not in page.read_text(), 'the site needs no connection'
