"""Bars on a terminal; in a file, whole lines."""

import io

from kdsr import progress_bars
from kdsr.progress_bars import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_two_bars_in_a_file_are_lines(monkeypatch):
    monkeypatch.setattr(progress_bars, 'LINE_SECONDS', 0.0)
    file = io.StringIO()
    with (
        ProgressBar(total=2, desc='  teacher', unit='it', file=file) as one,
        ProgressBar(total=1200, desc='student', unit='it', file=file) as other,
    ):
        other.update(600)
        one.update(2)
        other.update(600)
    text = file.getvalue()
    assert '\r' not in text
    assert '\x1b' not in text
    said = [line.split(' after')[0] for line in text.splitlines()]
    assert {'student: 600/1,200 it', 'teacher: 2/2 it', 'student: 1,200/1,200 it'} <= set(said)
    assert all(line.count(':') >= 1 and 'after 00:0' in line for line in text.splitlines())


def test_a_file_gets_few_lines():
    file = io.StringIO()
    for _ in ProgressBar(range(1000), desc='images', unit='image', file=file):
        pass
    assert len(file.getvalue().splitlines()) <= 2
    assert file.getvalue().splitlines()[-1].startswith('images: 1,000/1,000 images after')


def test_a_terminal_gets_a_bar():
    file = Terminal()
    for _ in ProgressBar(range(3), desc='images', file=file):
        pass
    assert '100%|' in file.getvalue()


def test_a_bar_that_is_off_writes_nothing():
    file = io.StringIO()
    for _ in ProgressBar(range(3), file=file, disable=True):
        pass
    assert file.getvalue() == ''


def test_numbers_are_whole_where_they_can_be_and_nouns_agree():
    file = io.StringIO()
    with ProgressBar(total=2, unit='image', file=file) as bar:
        bar.update(1.0)
        assert bar.describe().startswith('done: 1/2 images after')
        bar.update(0.5)
        assert bar.describe().startswith('done: 1.5/2 images after')
    with ProgressBar(total=1, unit='image', file=file) as bar:
        assert bar.describe().startswith('done: 0/1 image after')
    with ProgressBar(total=7, unit='px', file=file) as bar:
        assert bar.describe().startswith('done: 0/7 px after')
