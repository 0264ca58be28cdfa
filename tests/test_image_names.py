"""Names of images are bytes: commands read and write files of any name, and show the names that no stream can print."""

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from kdsr.compat.dataset_files import write_png
from kdsr.data.benchmark_sets import BenchmarkSet
from kdsr.pictures.images import read_image
from kdsr.wording import printable

ROOT = Path(__file__).parents[1]


def test_opencv_never_opens_a_file_itself():
    """OpenCV 5.0 ends the process where a name is not UTF-8; BasicSR's imwrite hands it the name."""
    opens = re.compile(r'cv2\.(imread|imwrite)\(|basicsr.*import.*\bimwrite\b')
    found = [path.name for path in (ROOT / 'kdsr').rglob('*.py') if opens.search(path.read_text(encoding='utf-8'))]
    assert found == ['quickstart.py']  # names of its own


def test_an_image_is_written_and_read_without_opencvs_own_files(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imread', lambda *_: pytest.fail('OpenCV opened a file'))
    monkeypatch.setattr(cv2, 'imwrite', lambda *_: pytest.fail('OpenCV opened a file'))
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    write_png(image, tmp_path / 'new' / 'é.png')
    assert np.array_equal(read_image(str(tmp_path / 'new' / 'é.png')), image)


def test_a_set_with_a_name_of_any_bytes_has_a_fingerprint():
    one, other = (SimpleNamespace(name=name, read_bytes=lambda: b'x') for name in ('\udcff.png', '\udcfe.png'))
    prints = {BenchmarkSet('Set', 2, (SimpleNamespace(gt=path, lq=None),), '').fingerprint() for path in (one, other)}
    assert len(prints) == 2
    assert printable(one.name) == '\\udcff.png'
