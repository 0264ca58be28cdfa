"""Test sets in the layouts that people have, and the LR images that are made where there are none."""

import os

import cv2
import numpy as np
import pytest

from kdsr.data.benchmark_sets import (
    BenchmarkSet,
    Pair,
    find_crop_of,
    find_sets,
    locate_lr_cache,
    pair_folders,
    read_pair,
)
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.errors import UserError


def write(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), image)
    return image


LAYOUTS = {  # files of HR, files of LR at x4
    'BasicSR': ('Set5/GTmod12/{n}.png', 'Set5/LRbicx4/{n}.png'),
    'EDSR and kdsr': ('Set5/HR/{n}.png', 'Set5/LR_bicubic/X4/{n}x4.png'),
    'mixed case': ('set5/Original/{n}.bmp', 'set5/lrbicx4/{n}.png'),
    'SelfExSR': ('Set5/image_SRF_4/{n}_SRF_4_HR.png', 'Set5/image_SRF_4/{n}_SRF_4_LR.png'),
    'HR only': ('Set5/original/{n}.png', None),
    'HR only, cropped': ('Set5/GTmod12/{n}.png', None),
    'plain': ('Set5/{n}.png', None),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(layout, tmp_path):
    hr, lr = LAYOUTS[layout]
    for name in ('b', 'a'):
        write(tmp_path / hr.format(n=name), 24, 36)
        if lr:
            write(tmp_path / lr.format(n=name), 6, 9)
    (tmp_path / hr.format(n='a')).with_suffix('.txt').write_text('no image')
    (found,) = find_sets([str(tmp_path)], 4)
    assert (found.name, found.scale, len(found.pairs)) == ('Set5', 4, 2)
    assert [p.gt for p in found.pairs] == [tmp_path / hr.format(n=n) for n in 'ab']
    assert [p.lq for p in found.pairs] == [tmp_path / lr.format(n=n) if lr else None for n in 'ab']
    assert found.lr_origin.startswith('given' if lr else "made (MATLAB's bicubic)")
    assert find_sets([str((tmp_path / hr).parent)], 4)[0].pairs == found.pairs  # the HR folder names its set


def write_both_layouts(folder):
    """25x38 pixels: 24x38 and 12x19 at x2 of the own crop, 24x36 and 12x18 cropped to a multiple of 12."""
    for path, size in {
        'HR/a': (25, 38),
        'LR_bicubic/X2/ax2': (12, 19),
        'GTmod12/a': (24, 36),
        'LRbicx2/a': (12, 18),
    }.items():
        write(folder / f'{path}.png', *size)


def test_whole_images_come_before_gtmod12_and_each_has_its_own_lr_images(tmp_path):
    write_both_layouts(tmp_path)
    (whole,) = find_sets([str(tmp_path)], 2)
    (cropped,) = find_sets([str(tmp_path / 'GTmod12')], 2)
    assert (whole.pairs[0].gt.parent.name, whole.lr_origin) == ('HR', 'given (LR_bicubic/X2)')
    assert (cropped.pairs[0].gt.parent.name, cropped.lr_origin) == ('GTmod12', 'given (LRbicx2)')
    (tmp_path / 'LR_bicubic/X2/ax2.png').unlink()
    (tmp_path / 'LR_bicubic/X2').rmdir()
    assert find_sets([str(tmp_path)], 2)[0].pairs[0].lq is None  # LRbicx2 is that of GTmod12


def test_the_crop_is_read_from_names_and_sizes(tmp_path):
    write_both_layouts(tmp_path / 'both')
    assert [find_sets([str(tmp_path / 'both' / name)], 2)[0].find_crop() for name in ('HR', 'GTmod12')] == [2, 12]
    write(tmp_path / 'mixed/original/a.png', 25, 38)
    assert find_sets([str(tmp_path / 'mixed')], 4)[0].find_crop() == 4  # made
    write(tmp_path / 'mixed/LRbicx2/a.png', 12, 18)
    (mixed,) = find_sets([str(tmp_path / 'mixed')], 2)
    assert (mixed.lr_origin, mixed.find_crop()) == ('given (LRbicx2)', 12)


def test_the_crop_of_option_files_needs_no_images_where_the_name_says_it(tmp_path):
    write_both_layouts(tmp_path)
    whole = {'dataroot_gt': f'{tmp_path}/HR', 'dataroot_lq': f'{tmp_path}/LR_bicubic/X2', 'filename_tmpl': '{}x2'}
    assert find_crop_of(whole, 2) == 2
    assert find_crop_of({**whole, 'dataroot_lq': f'{tmp_path}/LRbicx2', 'filename_tmpl': '{}'}, 2) == 12
    assert find_crop_of({'dataroot_gt': 'nowhere/GTmod12', 'dataroot_lq': 'nowhere/LRbicx3'}, 3) == 12
    assert find_crop_of({'dataroot_gt': 'nowhere/HR', 'dataroot_lq': 'nowhere/LR_bicubic/X3'}, 3) == 3


def test_another_scale_of_a_layout_is_made(tmp_path):
    write(tmp_path / 'Set5/HR/a.png', 24, 24)
    write(tmp_path / 'Set5/LR_bicubic/X4/ax4.png', 6, 6)
    assert find_sets([str(tmp_path / 'Set5')], 3)[0].pairs[0].lq is None
    write(tmp_path / 'other/GTmod12/a.png', 24, 24)
    with pytest.raises(UserError, match='no test set for x5'):
        find_sets([str(tmp_path / 'other')], 5)


def test_names_roots_and_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('Urban100', 'B100', 'set5', 'mine'):
        write(tmp_path / 'datasets/benchmark' / name / 'HR/a.png', 24, 24)
    assert [s.name for s in find_sets(['datasets/benchmark'], 2)] == ['Set5', 'BSD100', 'Urban100', 'mine']
    assert [s.name for s in find_sets(['BSD100', 'Set5'], 2)] == ['BSD100', 'Set5']
    with pytest.raises(UserError, match="no test set 'Set14'"):
        find_sets(['Set14'], 2)


def test_lr_images_are_matlabs_and_kept_under_the_content_of_the_hr_image(tmp_path):
    hr = write(tmp_path / 'a.png', 25, 38)
    (one,) = find_sets([str(tmp_path)], 4)
    lq, gt = read_pair(one.pairs[0], 4, tmp_path / 'cache')
    assert np.array_equal(gt, hr[:24, :36])
    assert np.array_equal(lq, imresize_bicubic(hr[:24, :36], 4))
    (kept,) = (tmp_path / 'cache/x4').iterdir()
    cv2.imwrite(str(kept), lq + 1)
    assert np.array_equal(read_pair(one.pairs[0], 4, tmp_path / 'cache')[0], lq + 1)
    other = write(tmp_path / 'a.png', 25, 38, seed=1)
    assert np.array_equal(read_pair(one.pairs[0], 4, tmp_path / 'cache')[0], imresize_bicubic(other[:24, :36], 4))


def test_the_cache_is_in_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert locate_lr_cache() == tmp_path / 'kdsr' / 'lr'


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    write(tmp_path / 'a.png', 24, 24)
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--lr-cache'):
        read_pair(Pair('a', tmp_path / 'a.png', None), 4, tmp_path / 'file')


@pytest.mark.parametrize('size', [(6, 8), (7, 9), (2, 9), (9, 6), (7, 10)])
def test_pairs_that_do_not_fit_are_listed(size, tmp_path):
    """25x38 at x4 is 6x9, or 6x9 of a crop to a multiple of 12; MATLAB's 7x10 of the whole image is no pair."""
    write(tmp_path / 'HR/a.png', 25, 38)
    write(tmp_path / 'LR_bicubic/X4/ax4.png', 6, 9)
    find_sets([str(tmp_path)], 4)
    write(tmp_path / 'LR_bicubic/X4/ax4.png', *size)
    with pytest.raises(UserError, match=rf'a: HR 25x38, LR {size[0]}x{size[1]} do not belong together at x4'):
        find_sets([str(tmp_path)], 4)


def test_missing_and_unreadable_images_are_told(tmp_path):
    write(tmp_path / 'HR/a.png', 24, 24)
    write(tmp_path / 'HR/b.png', 24, 24)
    write(tmp_path / 'LRbicx4/a.png', 6, 6)
    with pytest.raises(UserError, match=r'lacks the LR images of 1 HR image: b\.'):
        find_sets([str(tmp_path)], 4)
    (tmp_path / 'LRbicx4/b.png').write_text('no image')
    with pytest.raises(UserError, match='b cannot be read'):
        find_sets([str(tmp_path)], 4)
    with pytest.raises(UserError, match="no folder 'nowhere'"):
        pair_folders('mine', 4, str(tmp_path / 'HR'), 'nowhere')


def test_the_fingerprint_is_of_contents(tmp_path):
    write(tmp_path / 'a.png', 24, 24)
    one = BenchmarkSet('x', 4, (Pair('a', tmp_path / 'a.png', None),), '')
    before = one.fingerprint()
    assert before == BenchmarkSet('y', 4, one.pairs, 'z').fingerprint()
    write(tmp_path / 'a.png', 24, 24, seed=1)
    assert one.fingerprint() != before


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs named pipes')
@pytest.mark.timeout(60)
def test_pipes_and_links_that_lead_nowhere_are_named_and_never_block(tmp_path):
    write(tmp_path / 'a.png', 24, 24)
    os.mkfifo(tmp_path / 'pipe.png')
    os.symlink('gone', tmp_path / 'link.png')
    with pytest.raises(UserError) as caught:
        find_sets([str(tmp_path)], 4)
    assert 'pipe cannot be read' in str(caught.value)
    assert 'it is a named pipe' in str(caught.value)
    assert 'it is a link to gone' in str(caught.value)
