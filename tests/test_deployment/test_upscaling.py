"""`kdsr upscale`: files in, files out; what cannot be done is told, the rest is done."""

import numpy as np
import pytest
from PIL import Image

from kdsr.cli import main
from tests.conftest import NETWORKS
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
        main(['upscale', str(source), '-m', model, '-o', str(out), *arguments])
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
    assert '(1 were there)' in capsys.readouterr().out
    assert (workspace.root / 'out/a.png').stat().st_mtime_ns == before
    run('in', 'out', '--overwrite')
    assert (workspace.root / 'out/a.png').stat().st_mtime_ns > before
    run('in', 'out', '--skip-existing')
    assert '0 images to enlarge (2 were there)' in capsys.readouterr().out


def test_an_image_is_never_replaced_by_its_result(run, workspace):
    for arguments in (('in', 'in'), ('in', 'in', '--overwrite'), ('in/a.png', 'in/a.png', '--overwrite')):
        with pytest.raises(SystemExit, match='would be replaced by its result'):
            run(*arguments)
    Image.new('RGB', (4, 4)).save('in/a.webp')
    with pytest.raises(SystemExit, match='both be written'):
        run('in', 'out', '--format', 'png')
    assert not (workspace.root / 'out').exists()


def test_nothing_to_do_is_one_message(run, workspace):
    (workspace.root / 'empty').mkdir()
    for source, message in {'empty': 'names no image', 'nowhere.png': 'does not exist', 'in/*.gif': 'no image'}.items():
        with pytest.raises(SystemExit, match=message):
            run(source, 'out')
