"""The pictures of docs/methods are those that the scripts draw, and whole."""

import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kdsr.losses.wavelet_loss import wavelet_distance

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / 'docs' / 'methods'
SVG = '{http://www.w3.org/2000/svg}'
FILES = sorted(FOLDER.glob('*.svg'))


@pytest.fixture(scope='module')
def script():
    folder = ROOT / 'scripts' / 'method_pictures'
    sys.path.insert(0, str(folder))
    try:
        return runpy.run_path(str(folder / 'draw_methods.py'))
    finally:
        sys.path.remove(str(folder))


def test_every_method_is_drawn(script):
    assert {path.stem for path in FILES} == set(script['DRAWINGS'])


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_a_diagram_is_what_the_script_draws(script, path):
    assert path.read_text(encoding='utf-8') == script['draw'](path.stem), 'run `make docs`'


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_a_diagram_is_readable_on_any_page(path):
    root = ElementTree.parse(path).getroot()
    _, _, width, height = map(float, root.get('viewBox').split())
    background = root.find(f'{SVG}rect')
    assert (background.get('width'), background.get('height')) == (f'{width:g}', f'{height:g}')
    assert background.get('fill') == '#ffffff'
    assert root.find(f'{SVG}title').text
    for text in root.iter(f'{SVG}text'):
        assert float(text.get('font-size')) >= 13
        assert 0 < float(text.get('x')) < width
        assert 0 < float(text.get('y')) < height
    for span in root.iter(f'{SVG}tspan'):
        assert float(span.get('font-size', 9)) >= 9  # a number: renderers disagree about percentages
        float(span.get('dy', 0))


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_what_a_diagram_refers_to_is_in_it(path):
    content = path.read_text(encoding='utf-8')
    root = ElementTree.fromstring(content)
    known = {element.get('id') for element in root.iter()}
    used = {part.split(')')[0] for part in content.split('url(#')[1:]}
    used |= {use.get('href').lstrip('#') for use in root.iter(f'{SVG}use')}
    assert used <= known


def test_the_bands_of_the_photo_are_those_of_the_wavelet_loss():
    drawn = runpy.run_path(str(ROOT / 'scripts' / 'method_pictures' / 'draw_photos.py'))
    _, student, teacher = drawn['images']()
    bands = drawn['band_distances'](student, teacher)
    assert len(bands) == 4
    assert sum(bands.values()) / 4 == pytest.approx(wavelet_distance(student, teacher).item(), rel=1e-5)


@pytest.mark.parametrize('name', ['mtkd_bands', 'lsfd_map'])
def test_the_photos_stay_small(name):
    assert 10_000 < (FOLDER / f'{name}.png').stat().st_size < 150_000
