"""`kdsr check` looks at every image of a set, and names all bad ones at once."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from kdsr import options
from kdsr.checks.experiment import find_problems
from kdsr.cli import main
from kdsr.data.prepare import prepare_training_set

GT, LQ = Path('photos/gt'), Path('photos/lq2')


@pytest.fixture
def opt(workspace):
    made = workspace.options()
    workspace.images(count=20)
    return made


def problems(workspace, opt):
    """Return errors and warnings about images, as (key, text)."""
    found = find_problems(options.read(workspace.write(opt)))
    about = [p for p in found if p.path[0] == 'datasets']
    errors = {'.'.join(p.path): p.text for p in about if p.kind != options.WARNING}
    return errors, {'.'.join(p.path): p.text for p in about if p.kind == options.WARNING}


def photo(height, width=None, seed=7):
    width = width or height
    small = np.random.default_rng(seed).integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
    return cv2.resize(small, (width, height))


def write_pair(name, gt, lq):
    cv2.imwrite(str(GT / name), gt)
    cv2.imwrite(str(LQ / name), lq)


def turned(path, image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image[..., ::-1]).save(path, exif=exif, quality=95)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_good_set_has_no_problem(workspace, opt):
    assert problems(workspace, opt) == ({}, {})


def test_all_images_that_cannot_be_read_are_listed(workspace, opt):
    halve(GT / '013.png')
    halve(GT / '017.png')
    (GT / '018.png').write_bytes(b'')
    halve(LQ / '005.png')
    errors, _ = problems(workspace, opt)
    text = errors['datasets.train.dataroot_gt']
    assert text.startswith('3 images cannot be used:')
    assert all(
        f'{name}.png: it is {what}' in text for name, what in (('013', 'truncated'), ('018', 'not a readable PNG'))
    )
    assert '017.png' in text
    assert '005.png: it is truncated' in errors['datasets.train.dataroot_lq']


def test_all_pairs_of_another_scale_are_listed(workspace, opt):
    write_pair('013.png', photo(48), photo(12))
    write_pair('016.png', photo(49), photo(24))  # rounded down
    write_pair('019.png', photo(47), photo(24))  # rounded up
    text = problems(workspace, opt)[0]['datasets.train']
    assert "not of scale 2 (`scale`): '013.png' has 48x48 pixels (dataroot_gt) against 12x12" in text
    assert "In all 3 of 20 pairs: '013.png', '016.png', '019.png'" in text


@pytest.mark.parametrize(('gt', 'lq', 'fits'), [((59, 50), (24, 24), True), ((48, 48), (12, 12), False),
                                                ((47, 48), (24, 24), False), ((60, 48), (24, 24), False)])  # fmt: skip
def test_validation_images_may_exceed_a_multiple_and_no_more(workspace, opt, gt, lq, fits):
    opt['datasets']['val'] = workspace.images(count=2, name='val')
    cv2.imwrite('val/gt/001.png', photo(*gt))
    cv2.imwrite('val/lq2/001.png', photo(*lq))
    errors, _ = problems(workspace, opt)
    assert ('datasets.val' not in errors) == fits
    assert set(errors) <= {'datasets.val'}


def test_all_images_smaller_than_a_crop_are_listed(workspace, opt):
    write_pair('013.png', photo(30), photo(15))
    write_pair('014.png', photo(20, 40), photo(10, 20))
    text = problems(workspace, opt)[0]['datasets.train.gt_size']
    assert text == "32 is larger than '013.png' (30x30; 2 such: '013.png', '014.png'): lower it."


def test_what_is_dropped_is_said_for_all_images_together(workspace, opt):
    for name in ('013', '014'):
        cv2.imwrite(str(GT / f'{name}.png'), photo(48).astype(np.uint16) * 257)
    cv2.imwrite(str(LQ / '002.png'), np.zeros((24, 24, 4), np.uint8))
    errors, warnings = problems(workspace, opt)
    assert errors == {}
    assert warnings['datasets.train.dataroot_gt'] == (
        "2 images ('013.png', '014.png'): it has 16 or more bits per channel. Convert it to 8 bit."
    )
    assert "'002.png': it has an alpha channel" in warnings['datasets.train.dataroot_lq']


def test_system_files_and_texts_beside_images_are_passed_over(workspace, opt):
    for name in ('Thumbs.db', 'readme.txt', 'desktop.ini'):
        (GT / name).write_text('no image')
    assert problems(workspace, opt) == ({}, {})
    assert (workspace.train(opt) / 'models/net_g_2.pth').is_file()


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs named pipes')
@pytest.mark.timeout(60)
def test_pipes_and_links_that_lead_nowhere_are_named(workspace, opt):
    os.mkfifo(GT / 'a.png')
    os.symlink('gone', LQ / 'b.png')
    errors, _ = problems(workspace, opt)
    assert 'gt/a.png: it is a named pipe' in errors['datasets.train.dataroot_gt']
    assert 'lq2/b.png: it is a link to gone' in errors['datasets.train.dataroot_lq']


def test_names_that_are_no_utf8_are_checked_and_trained_with(workspace, opt, capsys):
    name = os.fsdecode(b'caf\xe9.png')
    for folder in (GT, LQ):
        try:
            (folder / '000.png').rename(folder / name)
        except OSError:
            pytest.skip('the file system refuses such names')
    assert problems(workspace, opt) == ({}, {})
    assert (workspace.train(opt) / 'models/net_g_2.pth').is_file()
    halve(GT / name)
    with pytest.raises(SystemExit):
        main(['check', workspace.write(opt)])
    assert 'caf\\udce9.png: it is truncated' in capsys.readouterr().out


# lists


def as_list(opt, text):
    Path('list.txt').write_text(text)
    opt['datasets']['train']['meta_info_file'] = 'list.txt'


def test_a_list_is_compared_with_the_folders(workspace, opt):
    as_list(opt, '000.png (48,48,3)\n\n021.png (48,48,3)\n002\n005.jpg\n')
    (LQ / '002.png').unlink()
    (LQ / '003.png').unlink()  # not listed
    errors, _ = problems(workspace, opt)
    assert list(errors) == ['datasets.train.meta_info_file', 'datasets.val']
    found = find_problems(options.read(workspace.write(opt)))
    texts = [p.text for p in found if p.path == ('datasets', 'train', 'meta_info_file')]
    assert len(texts) == 2
    assert '2 of the 4 images that list.txt lists are not in' in texts[0]
    assert "'021.png', '005.jpg'" in texts[0]
    assert '3 of the 4' in texts[1]
    assert "'002.png'" in texts[1]


def test_listed_images_are_checked_and_others_are_not(workspace, opt):
    as_list(opt, '000.png\n013.png\n')
    halve(GT / '001.png')
    del opt['datasets']['val']
    assert problems(workspace, opt) == ({}, {})
    halve(GT / '013.png')
    assert '013.png: it is truncated' in problems(workspace, opt)[0]['datasets.train.dataroot_gt']


def test_an_empty_list_is_refused(workspace, opt):
    as_list(opt, '\n \n')
    assert 'lists no image' in problems(workspace, opt)[0]['datasets.train']


def test_a_list_beside_an_lmdb_is_a_warning(workspace, opt):
    gt, lq = prepare_training_set(GT, 'data', [2], 48, 48, workers=1, progress=False)
    as_list(opt, '000.png\n')
    opt['datasets']['train'].update(dataroot_gt=str(gt), dataroot_lq=str(lq), io_backend={'type': 'lmdb'})
    errors, warnings = problems(workspace, opt)
    assert errors == {}
    assert 'not read: an LMDB is used whole' in warnings['datasets.train.meta_info_file']


def test_a_template_is_applied_as_basicsr_does(workspace, opt):
    for path in list(LQ.iterdir()):
        path.rename(path.with_name(f'{path.stem}x2.png'))
    for part in opt['datasets'].values():
        part['filename_tmpl'] = '{}x2'
    assert problems(workspace, opt)[0] == {}
    opt['datasets']['train']['filename_tmpl'] = '{}{}x2'
    assert 'must hold one {}' in problems(workspace, opt)[0]['datasets.train.filename_tmpl']


# LMDBs


def test_16_bits_and_damage_in_an_lmdb_are_found(workspace, opt):
    gt, lq = prepare_training_set(GT, 'data', [2], 48, 48, workers=1, progress=False)
    buffer = io.BytesIO(cv2.imencode('.png', photo(48).astype(np.uint16) * 257)[1].tobytes())
    with lmdb.open(str(gt)) as environment, environment.begin(write=True) as content:
        content.put(b'013_s001', buffer.getvalue())
        content.put(b'014_s001', content.get(b'014_s001')[:500])
    opt['datasets']['train'].update(dataroot_gt=str(gt), dataroot_lq=str(lq), io_backend={'type': 'lmdb'})
    errors, warnings = problems(workspace, opt)
    assert "'013_s001': it has 16 or more bits" in warnings['datasets.train.dataroot_gt']
    assert '014_s001: it is truncated' in errors['datasets.train.dataroot_gt']


# orientation


def as_jpegs(count=3):
    shutil.rmtree(GT)
    shutil.rmtree(LQ)
    GT.mkdir()
    LQ.mkdir()
    for number in range(count):
        gt = photo(48, 48, number)
        lq = cv2.resize(gt, (24, 24), interpolation=cv2.INTER_AREA)
        yield number, gt, lq


@pytest.mark.parametrize('orientation', [2, 3, 6, 8])
def test_square_pairs_of_which_one_image_is_turned_are_named(workspace, opt, orientation):
    for number, gt, lq in as_jpegs():
        turned(GT / f'{number}.jpg', gt, orientation if number == 1 else 1)
        turned(LQ / f'{number}.jpg', lq, 1)
    text = problems(workspace, opt)[0]['datasets.train']
    assert f"EXIF turns one image of 1 pair and not the other: '1.jpg' has the orientation {orientation}" in text


@pytest.mark.parametrize('orientation', [3, 6])
def test_pairs_that_show_the_same_are_taken_whatever_exif_says(workspace, opt, orientation):
    steps = {3: 2, 6: 1}[orientation]
    for number, gt, lq in as_jpegs():
        turned(GT / f'{number}.jpg', np.rot90(gt, steps), orientation)  # shown as gt
        turned(LQ / f'{number}.jpg', lq, 1)
    assert problems(workspace, opt)[0] == {}


def test_a_cache_of_turned_images_is_that_of_the_same_images_upright(workspace):
    from kdsr.data.raw_images import RawImages
    from kdsr.data.teacher_cache import make_cache

    opt = workspace.options(model_type='DistillationModel', distillation={
        'health_check': False, 'teachers': [workspace.teacher('EDSR')], 'cache': 'upright.raw',
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    })  # fmt: skip
    for folder, size in ((GT, (48, 40)), (LQ, (24, 20))):
        shutil.rmtree(folder)
        folder.mkdir()
        image = photo(*size)
        cv2.imwrite(str(folder / '0.png'), image)
    make_cache(opt, progress=False)
    for folder in (GT, LQ):
        image = cv2.imread(str(folder / '0.png'))
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.rot90(image)[..., ::-1]).save(folder / '0.png', exif=exif)
    opt['distillation']['cache'] = 'turned.raw'
    make_cache(opt, progress=False)
    upright, turned_images = RawImages('upright.raw'), RawImages('turned.raw')
    np.testing.assert_array_equal(turned_images.image(0), upright.image(0))
    assert turned_images.sizes.tolist() == [[48, 40]]


def test_a_cache_is_not_begun_on_images_that_cannot_be_used(workspace, opt):
    opt.update(model_type='DistillationModel', distillation={
        'health_check': False, 'teachers': [workspace.teacher('EDSR')], 'cache': 'cache.raw',
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    })  # fmt: skip
    write_pair('013.png', photo(48), photo(12))
    with pytest.raises(SystemExit) as stopped:
        main(['cache', workspace.write(opt)])
    assert "'013.png' has 48x48 pixels" in str(stopped.value)
    assert not list(Path().glob('cache.raw*'))
