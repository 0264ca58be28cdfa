"""`kdsr upscale`: files in, files out; what cannot be done is told, the rest is done."""

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdsr.cli import main
from kdsr.deployment import naming, upscaling
from kdsr.deployment.upscaler import Upscaler
from tests.conftest import NETWORKS
from tests.helpers.image_files import pixels, png, tiff
from tests.helpers.networks import known

EDSR = {**NETWORKS['EDSR'], 'upscale': 2}


@pytest.fixture
def run(workspace):
    """Two photos and a model in a folder; return what runs the command there."""
    model = known(workspace, EDSR)
    (workspace.root / 'in/more').mkdir(parents=True)
    for name in ('in/a.png', 'in/b.jpg', 'in/more/c.webp'):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).save(name)

    def upscale(source, out, *arguments):
        sources = source if isinstance(source, list) else [source]
        main(['upscale', *map(str, sources), '-m', model, '-o', str(out), *arguments])
        return sorted(str(p.relative_to(workspace.root)) for p in workspace.root.glob('out/**/*') if p.is_file())

    return upscale


def test_an_image_a_folder_and_a_pattern(run, capsys):
    assert run('in/a.png', 'out/large.tif', '--tile', '8') == ['out/large.tif']
    with Image.open('out/large.tif') as large:
        assert large.size == (32, 24)
    assert '1 image enlarged by 2 with EDSR' in capsys.readouterr().out
    assert run('in', 'out/folder', '--suffix', '_x2') == ['out/folder/a_x2.png', 'out/folder/b_x2.jpg', 'out/large.tif']
    found = run('in/**/*', 'out/all', '--format', 'png')
    assert [name for name in found if 'all' in name] == ['out/all/a.png', 'out/all/b.png', 'out/all/c.png']


def test_bad_files_are_told_at_the_end_and_the_others_done(run, workspace, monkeypatch):
    (workspace.root / 'in/0.png').write_text('no image')
    Image.new('CMYK', (4, 4)).save('in/print.jpg')
    with pytest.raises(SystemExit, match=r'(?s)2 of 4 images written; these were not:.*0\.png.*print\.jpg.*CMYK'):
        run('in', 'out')
    assert sorted(p.name for p in (workspace.root / 'out').iterdir()) == ['a.png', 'b.jpg']


def test_results_that_are_there(run, workspace, capsys):
    run('in/a.png', 'out')
    before = (workspace.root / 'out/a.png').stat().st_mtime_ns
    with pytest.raises(SystemExit, match='--skip-existing'):
        run('in', 'out')
    assert run('in', 'out', '--skip-existing') == ['out/a.png', 'out/b.jpg']
    assert '(1 existed)' in capsys.readouterr().out
    assert (workspace.root / 'out/a.png').stat().st_mtime_ns == before
    run('in', 'out', '--overwrite')
    assert (workspace.root / 'out/a.png').stat().st_mtime_ns > before
    run('in', 'out', '--skip-existing')
    assert '0 images to enlarge (2 existed)' in capsys.readouterr().out


def test_an_image_is_never_replaced_by_its_result(run, workspace):
    for arguments in (('in', 'in'), ('in', 'in', '--overwrite'), ('in/a.png', 'in/a.png', '--overwrite')):
        with pytest.raises(SystemExit, match='would be replaced by its result'):
            run(*arguments)
    Image.new('RGB', (4, 4)).save('in/a.webp')
    with pytest.raises(SystemExit, match='both be written'):
        run('in', 'out', '--format', 'png')
    assert not (workspace.root / 'out').exists()


@pytest.mark.parametrize('apart', [True, False])
def test_results_that_macos_would_take_for_one_are_refused_there(run, workspace, monkeypatch, apart):
    monkeypatch.setattr(naming, 'tells_case_apart', lambda folder: apart)
    Image.new('RGB', (4, 4)).save('in/A.webp')
    if apart:
        assert 'out/A.png' in run('in', 'out', '--format', 'png')
    else:
        with pytest.raises(SystemExit, match=r'A\.webp and .*a\.png would both be written'):
            run('in', 'out', '--format', 'png')


def test_nothing_to_do_is_one_message(run, workspace):
    (workspace.root / 'empty').mkdir()
    for source, message in {'empty': 'names no image', 'nowhere.png': 'does not exist', 'in/*.gif': 'no image'}.items():
        with pytest.raises(SystemExit, match=message):
            run(source, 'out')


def noise(height=12, width=16, channels=3):
    return pixels(channels, np.uint8, height, width)


def test_subfolders_keep_their_structure(run, workspace, capsys):
    assert run('in', 'out', '-r') == ['out/a.png', 'out/b.jpg', 'out/more/c.webp']
    run('in', 'in/large', '-r', '--suffix', '_x2')
    run('in', 'in/large', '-r', '--suffix', '_x2', '--skip-existing')  # the results inside are no sources
    found = sorted(str(p.relative_to('in/large')) for p in Path('in/large').rglob('*') if p.is_file())
    assert found == ['a_x2.png', 'b_x2.jpg', 'more/c_x2.webp']
    Path('only/more').mkdir(parents=True)
    Path('in/a.png').rename('only/more/a.png')
    with pytest.raises(SystemExit, match='-r'):
        run('only', 'out2')


def test_what_is_skipped_is_named(run, workspace, capsys):
    for name in ('photo.heic', 'notes.txt', 'drawing.svg'):
        Path('in', name).write_bytes(b'x')
    os.symlink('nowhere.png', 'in/dangling.png')
    run('in', 'out')
    told = capsys.readouterr().out
    assert '2 images enlarged' in told
    assert '4 files skipped' in told
    for name in ('photo.heic', 'notes.txt', 'drawing.svg', 'dangling.png'):
        assert name in told


def test_other_formats_are_read_and_written_as_png(run):
    image = Image.fromarray(noise())
    image.convert('P').save('in/g.gif')
    image.save('in/t.tga')
    image.save('in/j.jfif', 'JPEG')
    found = run('in', 'out')
    assert found == ['out/a.png', 'out/b.jpg', 'out/g.png', 'out/j.jfif', 'out/t.png']


def test_results_beside_their_sources(run, workspace, capsys):
    for _ in range(3):
        run('in', 'in', '--suffix', '_x2', '--skip-existing')
        assert sorted(p.name for p in Path('in').iterdir() if p.is_file()) == ['a.png', 'a_x2.png', 'b.jpg', 'b_x2.jpg']
    assert '0 images to enlarge (2 existed)' in capsys.readouterr().out


def test_several_inputs(run):
    assert run(['in/a.png', 'in/more', 'in/*.png'], 'out') == ['out/a.png', 'out/c.webp']


def test_out_must_fit(run, workspace):
    for arguments, message in (
        (('in/a.png', 'out/x.gif'), 'cannot be written'),
        (('in/a.png', 'out/x.png', '--format', 'jpg'), 'contradicts'),
        (('in', 'out/x.png'), 'names one file'),
        ((['in/a.png', 'in/b.jpg'], '-'), 'one by one|names one file|stands alone'),
        ((['-', 'in/b.jpg'], 'out'), 'stands alone'),
        (('-', 'out'), 'needs a file name'),
        (('in/a.png', 'out', '--outscale', '0'), '--outscale'),
        (('in/a.png', 'out', '--width', '0'), '--width'),
        (('in/a.png', 'out', '--quality', '101'), '--quality'),
    ):
        with pytest.raises(SystemExit, match=message):
            run(*arguments)
    assert not (workspace.root / 'out').exists()


@pytest.mark.parametrize(('arguments', 'size'), [
    (('--outscale', '1.5'), (24, 18)), (('--outscale', '3'), (48, 36)), (('--width', '50'), (50, 38)),
    (('--outscale', '2'), (32, 24)), (('--outscale', '0.5'), (8, 6)),
])  # fmt: skip
def test_any_size(run, arguments, size):
    for name in ('a.png', 'b.jpg'):
        run(f'in/{name}', f'out/{name}', *arguments)
        with Image.open(f'out/{name}') as large:
            assert large.size == size


class _Stream:
    """Standard input or output with its bytes."""

    def __init__(self, content=b''):
        self.buffer = io.BytesIO(content)

    def write(self, text):
        pass

    def flush(self):
        pass


@pytest.mark.parametrize(
    ('arguments', 'kind'), [((), 'PNG'), (('--format', 'jpg'), 'JPEG'), (('--format', 'tif'), 'TIFF')]
)
def test_standard_input_and_output(run, monkeypatch, capsys, arguments, kind):
    out = _Stream()
    monkeypatch.setattr(sys, 'stdin', _Stream(Path('in/a.png').read_bytes()))
    monkeypatch.setattr(sys, 'stdout', out)
    run('-', '-', *arguments)
    with Image.open(io.BytesIO(out.buffer.getvalue())) as large:
        assert (large.format, large.size) == (kind, (32, 24))
    assert '1 image enlarged by 2 with EDSR' in capsys.readouterr().err


def test_any_exception_of_one_image_leaves_the_others(run, monkeypatch):
    """Whatever it is: runtimes and decoders have exceptions of their own."""

    class OwnError(Exception):
        pass

    raised = iter([OwnError('of a runtime'), struct.error('unpack'), TypeError('odd'), MemoryError()])
    rows = Upscaler.rows
    for i in range(4):
        Image.fromarray(noise()).save(f'in/{i}.png')

    def failing(self, image, progress):
        error = next(raised, None)
        if error is not None:
            raise error
        return rows(self, image, progress)

    monkeypatch.setattr(Upscaler, 'rows', failing)
    with pytest.raises(
        SystemExit, match=r'(?s)2 of 6 images written.*0\.png: OwnError: of a runtime.*2\.png: TypeError'
    ):
        run('in', 'out')
    assert sorted(os.listdir('out')) == ['a.png', 'b.jpg']


def test_an_image_that_fails_in_the_middle_leaves_nothing(run, monkeypatch):
    rows = Upscaler.rows

    def failing(self, image, progress):
        yield from list(rows(self, image, progress))[:1]
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Upscaler, 'rows', failing)
    with pytest.raises(SystemExit, match='No space left'):
        run('in', 'out')
    assert os.listdir('out') == []


def test_ctrl_c_is_tidy(run, monkeypatch, capsys):
    rows = Upscaler.rows
    stops = iter([False, True])

    def stopped(self, image, progress):
        yield from rows(self, image, progress)
        if next(stops):
            raise KeyboardInterrupt

    monkeypatch.setattr(Upscaler, 'rows', stopped)
    with pytest.raises(SystemExit) as ended:
        run('in', 'out')
    assert ended.value.code == 130
    assert 'stopped; 1 of 2 images written' in capsys.readouterr().err
    assert os.listdir('out') == ['a.png']


def test_what_the_format_does_not_hold_is_told_before_anything_is_computed(run, monkeypatch):
    def computed(self, image, progress):
        raise AssertionError('computed')

    Image.fromarray(noise(4, 9000)).save('in/wide.png')
    Image.fromarray(noise(channels=4)).save('in/alpha.png')
    monkeypatch.setattr(Upscaler, 'rows', computed)
    for name, kind, reason in (('wide.png', 'webp', '16,383'), ('alpha.png', 'jpg', 'no transparency')):
        with pytest.raises(SystemExit, match=reason):
            run(f'in/{name}', 'out', '--format', kind)


def test_odd_files_cost_at_most_themselves(run, capsys):
    """The kinds that ended a whole folder: odd EXIF, rubbish behind a TIFF, more EXIF than JPEG holds."""
    image = Image.fromarray(noise())
    exif = b'Exif\0\0II*\0' + struct.pack('<IHHHIfI', 8, 1, 296, 11, 1, 8.5, 0)
    image.save('in/odd.jpg', exif=exif)
    big = Image.Exif()
    big[0x010E] = 'x' * 70_000
    image.save('in/big.png', exif=big)
    rgb = tiff([noise().tobytes()], 16, 12, bits=(8, 8, 8), photometric=2)
    page = tiff([noise().tobytes()], 16, 12, bits=(8, 8, 8), photometric=2, next_page=len(rgb))
    Path('in/page.tif').write_bytes(page + struct.pack('<HHHIII', 1, 305, 4, 1, 0, 0))
    found = run('in', 'out', '--format', 'jpg')
    assert found == [f'out/{name}.jpg' for name in ('a', 'b', 'big', 'odd', 'page')]
    told = capsys.readouterr().err
    for sentence in ('odd.jpg: EXIF cannot be read', 'big.png: EXIF has 70,', 'page.tif: what follows its first page'):
        assert sentence in told


@pytest.mark.skipif(os.name == 'nt' or sys.platform == 'darwin', reason='file names are text there')
def test_names_in_any_bytes(run, capsys):
    name = os.fsdecode(b'in/caf\xe9.png')
    Image.fromarray(noise()).save(name)
    Path(name).with_suffix('.txt').write_text('x')
    run(['in/a.png', name], 'out')
    assert os.path.isfile(os.fsdecode(b'out/caf\xe9.png'))
    run(['in'], os.fsdecode(b'out/f\xfcr'))
    assert 'caf\ufffd.txt' in capsys.readouterr().out


def test_names_as_long_as_the_file_system_allows(run):
    name = 'n' * 251 + '.png'
    Image.fromarray(noise()).save(f'in/{name}')
    run(f'in/{name}', 'out')
    assert os.listdir('out') == [name]
    with pytest.raises(SystemExit, match='OSError'):
        run(f'in/{name}', 'out2', '--suffix', '_x2')


def test_huge_images_on_request(run):
    Image.fromarray(noise()).save('in/a.png')
    with pytest.raises(SystemExit, match='--max-megapixels'):
        run('in/a.png', 'out', '--max-megapixels', '0.0001')
    run('in/a.png', 'out', '--max-megapixels', '0.001')


def test_images_with_16_bits_go_through(run):
    deep = pixels(3, np.uint16, 12, 16)
    Path('in/deep.png').write_bytes(png(deep, 16, 2))
    run('in/deep.png', 'out')
    with Image.open('out/deep.png') as large:
        assert ';16' in str(large.tile)


@pytest.mark.parametrize('seed', range(3))
def test_mutated_files_are_one_line_each(run, seed, capsys):
    """Damage of any kind ends in an image or in a line; benchmarks/fuzz.py (kind `image`) does this for long."""
    rng = np.random.default_rng(seed)
    sources = {}
    for kind in ('PNG', 'JPEG', 'TIFF', 'WEBP', 'GIF', 'BMP', 'TGA'):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, 'Maker'
        settings = {'exif': exif} if kind in ('PNG', 'JPEG', 'WEBP') else {}
        Image.fromarray(noise(16, 20)).save(file, kind, **settings)
        sources[kind.lower()] = file.getvalue()
    sources['tiff'] = tiff([pixels(4, np.uint16, 5, 8).tobytes()], 8, 5, bits=(16,) * 4, photometric=2, extra=(1,))
    Path('fuzz').mkdir()
    for i in range(40):
        kind = list(sources)[i % len(sources)]
        content = bytearray(sources[kind])
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(len(content))] = rng.integers(256)
        Path(f'fuzz/{i:02}.{kind}').write_bytes(content[: rng.integers(10, len(content) + 40)])
    with pytest.raises(SystemExit, match='of 40 images written; these were not'):
        run('fuzz', 'out', '--format', 'png', '--max-megapixels', '0.01')


def test_reading_ahead_does_not_change_the_order(run, monkeypatch):
    read = upscaling.read_picture
    order = []
    monkeypatch.setattr(upscaling, 'read_picture', lambda *a: order.append(Path(a[0]).name) or read(*a))
    run('in', 'out')
    assert order == ['a.png', 'b.jpg']
