"""What a user sees of bad images, data sets, checkpoints, states and disks: one clear message, and nothing is lost.

A case is a name, what is spoiled, the command that is then run, and the words that must be told. (Mistakes in option
files: tests/test_options.) `test_harmless_input_is_taken` has what looks bad and is not.
"""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from PIL import Image
from safetensors.torch import save_file

from kdsr.cli import main
from kdsr.data.prepare import prepare_training_set
from kdsr.errors import UserError, report_user_errors
from kdsr.lifecycle import locking, saving
from kdsr.lifecycle.bad_samples import NamedSamples, explain_killed_worker
from kdsr.lifecycle.data_order import check_order
from tests.conftest import network_opt
from tests.helpers.damage import flip_byte
from tests.helpers.loaders import KillsItsProcess

ROOT = Path(__file__).parents[1]
GT, LQ = Path('photos/gt'), Path('photos/lq2')
MARKER = Path('code_was_run')


class Hostile:
    def __reduce__(self):
        return Path.touch, (MARKER,)


def chunk(kind, content):
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


HUGE = (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', struct.pack('>IIBBBBB', 40000, 40000, 8, 2, 0, 0, 0))
    + chunk(b'IDAT', zlib.compress(b'0'))
    + chunk(b'IEND', b'')
)


# commands


def train(workspace, opt, *arguments):
    workspace.train(opt, *arguments)


def resume(workspace, opt):
    workspace.train(opt, '--auto_resume')


def command(*words):
    return lambda workspace, opt: main([word.replace('{opt}', 'run.yml') for word in words])


CUTTING = ('--scale', '2', '--crop-size', '24', '--step', '24', '--workers', '1')
prepare = command('prepare', 'photos/gt', '--out', 'data', *CUTTING)
prepare_raw = command('prepare', 'photos/gt', '--out', 'data', '--raw', *CUTTING)
prepare_test = command('prepare', 'photos/gt', '--out', 'data', '--scale', '2', '--benchmark', '--workers', '1')
prepare_from_lmdb = command('prepare', 'sets/gt_HR_sub.lmdb', '--out', 'data', '--raw', '--workers', '1')
benchmark = command('benchmark', 'bicubic', '--sets', 'photos', '--scale', '2', '--workers', '0', '--lr-cache', 'lr')
convert = command('convert', 'start.pth', 'converted.pth')


def cache(workspace, opt):
    workspace.write(opt)
    main(['cache', 'run.yml'])


# what is spoiled


def images(name, make, folders=(GT,)):
    def spoil(workspace, opt, patch):
        for folder in folders:
            path = folder / name
            content = make(path.read_bytes() if path.is_file() else b'')
            path.write_bytes(content) if isinstance(content, bytes) else cv2.imwrite(str(path), content)

    return spoil


def listed(spoil):
    """The same, in a set that is named by a list: no header is looked at before."""

    def spoil_listed(workspace, opt, patch):
        names = sorted(p.name for p in GT.iterdir())
        spoil(workspace, opt, patch)
        Path('list.txt').write_text(''.join(f'{name} (48,48,3)\n' for name in names))
        opt['datasets']['train']['meta_info_file'] = 'list.txt'
        del opt['datasets']['val']

    return spoil_listed


def in_train_set(spoil, **changes):
    def spoil_more(workspace, opt, patch):
        spoil(workspace, opt, patch)
        opt['datasets']['train'].update(changes)

    return spoil_more


def in_validation(workspace, opt, patch):
    opt['datasets']['val'] = workspace.images(count=1, name='val')
    opt['val']['val_freq'] = 1
    Path('val/lq2/000.png').write_bytes(flip_byte(Path('val/lq2/000.png').read_bytes()))


def jpegs(workspace, opt, patch):
    for folder in (GT, LQ):
        for path in sorted(folder.iterdir()):
            image = cv2.imread(str(path))
            path.unlink()
            cv2.imwrite(str(path.with_suffix('.jpg')), image)
    path = GT / '002.jpg'
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def dropped(path):
    return lambda workspace, opt, patch: Path(path).unlink()


def half(content):
    return content[: len(content) // 2]


def as_lmdb(spoil, lq='gt_LR_bicubic_X2_sub.lmdb', gt='gt_HR_sub.lmdb'):
    def spoil_set(workspace, opt, patch):
        opt['datasets']['train'].update(
            dataroot_gt=f'sets/{gt}', dataroot_lq=f'sets/{lq}', io_backend={'type': 'lmdb'}, gt_size=16
        )
        spoil(Path('sets') / gt)

    return spoil_set


def as_raw(spoil):
    def spoil_set(workspace, opt, patch):
        names = {'dataroot_gt': 'sets/gt_HR_sub.raw', 'dataroot_lq': 'sets/gt_LR_bicubic_X2_sub.raw'}
        opt['datasets']['train'].update(names, type='RawPairedImageDataset', gt_size=16)
        spoil(Path(names['dataroot_gt']))

    return spoil_set


def rewrite(name, change):
    def spoil(folder):
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return spoil


def entry(change):
    """Change the first images of an LMDB, whose keys stay in its meta_info.txt."""

    def spoil(folder):
        with lmdb.open(str(folder)) as environment, environment.begin(write=True) as content:
            for key in [f'{i:03d}_s001'.encode() for i in range(4)]:
                change(content, key)

    return spoil


def weights(make, **path):
    def spoil(workspace, opt, patch):
        opt['path'].update(pretrain_network_g='start.pth', **path)
        make(Path('start.pth'))

    return spoil


def stored(content):
    return lambda path: torch.save(content(), path)


def params(name='EDSR', upscale=2, **changes):
    return {'params': build_network({**network_opt(name, upscale), **changes}).state_dict()}


def half_matching():
    return {'params': {k: v for k, v in params()['params'].items() if not k.startswith('body')}}


def diverged():
    content = params()
    content['params']['conv_first.weight'][0] = float('nan')
    return content


def truncated_weights(path):
    torch.save(params(), path)
    path.write_bytes(half(path.read_bytes()))


def hostile_teacher(workspace, opt, patch):
    distil(workspace, opt)
    torch.save({'params': Hostile()}, opt['distillation']['teachers'][0]['path'])


def distil(workspace, opt):
    block = {'teachers': [workspace.teacher('EDSR')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    opt.update(model_type='DistillationModel', distillation={**block, 'health_check': False})


def with_cache(spoil):
    def spoil_cache(workspace, opt, patch):
        distil(workspace, opt)
        opt['distillation']['cache'] = 'cache.raw'
        workspace.write(opt)
        spoil(workspace, opt, patch)

    return spoil_cache


def finished_cache(spoil):
    def spoil_cache(workspace, opt, patch):
        main(['cache', 'run.yml'])
        spoil(Path('cache.raw'))

    return with_cache(spoil_cache)


def state(make, network=None):
    """A run that has a state, which is then replaced; or whose options name another network."""

    def spoil(workspace, opt, patch):
        folder = workspace.train({**opt, 'datasets': {'train': opt['datasets']['train']}})
        path = folder / 'training_states' / '2.state'
        make(path)
        opt['path']['resume_state'] = str(path)
        if network:
            opt['network_g'] = {**opt['network_g'], **network}

    return spoil


def of_another_run(path):
    shutil.move(path.parents[1], 'experiments/other')
    Path('experiments/run').mkdir()


def foreign_state(workspace, opt, patch):
    state(lambda path: path.rename('2.state'))(workspace, opt, patch)
    opt['name'], opt['path']['resume_state'] = 'new', '2.state'


def refused(number, owner=os, name='fsync'):
    def spoil(workspace, opt, patch):
        def refuse(*args, **kwargs):
            raise OSError(number, os.strerror(number), 'where')

        patch.setattr(owner, name, refuse)

    return spoil


def both(*spoils):
    def spoil(workspace, opt, patch):
        for one in spoils:
            one(workspace, opt, patch)

    return spoil


def file_named(name):
    return lambda workspace, opt, patch: Path(name).write_text('a file')


def begun(name, content):
    """A set that another command has begun, with a file of it damaged."""

    def spoil(workspace, opt, patch):
        (GT / '003.png').rename('003.png')
        (GT / '003.png').write_bytes(flip_byte(Path('003.png').read_bytes()))
        with pytest.raises(SystemExit):
            prepare(workspace, opt)
        Path('003.png').replace(GT / '003.png')
        Path('data/gt_HR_sub.lmdb.partial', name).write_bytes(content)

    return spoil


def locked(workspace, opt, patch):
    if not hasattr(os, 'fork'):
        pytest.skip('forks')
    child = os.fork()
    if child:
        os.waitpid(child, os.WUNTRACED)
        return lambda: (os.kill(child, signal.SIGKILL), os.waitpid(child, 0))
    locking.FolderLock('data/gt_HR_sub.lmdb', 'being written').acquire()
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)


def set_of(folder, spoil):
    return lambda workspace, opt, patch: spoil(Path('sets') / folder)


TRUNCATED, DAMAGED = 'is truncated, damaged or no image', 'cannot be opened'
AGAIN = 'run the same command again'

# name: (what is spoiled, the command, words that are told)
CASES = {
    # images in training
    'a truncated PNG': (
        images('001.png', half), train, ['datasets.train.dataroot_gt', 'gt/001.png: it is truncated', 'Replace it'],
    ),
    'a truncated JPEG': (jpegs, train, ['gt/002.jpg: it is truncated', 'Replace it']),
    'a truncated LR image': (images('001.png', half, [LQ]), train, ['lq2/001.png: it is truncated', 'Replace it']),
    'a damaged PNG': (images('001.png', flip_byte), train, ['photos: ', "gt/001.png' (gt)", TRUNCATED, 'Replace it']),
    'a damaged LR image': (images('001.png', flip_byte, [LQ]), train, ["lq2/001.png' (lq)", TRUNCATED]),
    'found by a process of the loader': (
        in_train_set(images('001.png', flip_byte), num_worker_per_gpu=1), train, ["gt/001.png' (gt)", TRUNCATED],
    ),
    'found by a prefetching thread': (
        in_train_set(images('001.png', flip_byte), prefetch_mode='cpu'), train, ["gt/001.png' (gt)", TRUNCATED],
    ),
    'found in a validation': (in_validation, train, ["val/lq2/000.png' (lq)", TRUNCATED]),
    'an empty file': (images('001.png', lambda _: b''), train, ['gt/001.png: it is not a readable PNG']),
    'an empty file in a list': (
        listed(images('001.png', lambda _: b'')), train, ['gt/001.png: it is not a readable PNG'],
    ),
    'a huge image': (images('001.png', lambda _: HUGE), train, ['gt/001.png', '1600000000 pixels']),
    'a huge image in a list': (listed(images('001.png', lambda _: HUGE)), train, ['gt/001.png', '1600000000 pixels']),
    'an image smaller than the crop, in a list': (
        listed(both(images('001.png', lambda _: np.zeros((20, 20, 3)), [GT]),
                    images('001.png', lambda _: np.zeros((10, 10, 3)), [LQ]))),
        train, ["gt_size: 32 is larger than '001.png' (20x20", 'lower it'],
    ),
    'a pair of another scale, in a list': (
        listed(images('001.png', lambda _: np.zeros((40, 40, 3)))), train,
        ["not of scale 2 (`scale`): '001.png' has 40x40", 'against 24x24'],
    ),
    'an image that only the list has': (
        listed(dropped(GT / '001.png')), train,
        ['meta_info_file', '1 of the 4 images that list.txt lists is not in ', "photos/gt (dataroot_gt): '001.png'"],
    ),
    # LMDBs and raw sets
    'an LMDB of garbage': (as_lmdb(rewrite('data.mdb', lambda c: b'x' * len(c))), train, ['gt_HR_sub.lmdb', DAMAGED]),
    'a truncated LMDB': (as_lmdb(rewrite('data.mdb', half)), train, ['data.mdb has', 'bytes instead of', 'truncated']),
    'an LMDB without its data': (as_lmdb(lambda f: (f / 'data.mdb').unlink()), train, ['gt_HR_sub.lmdb', DAMAGED]),
    'an LMDB without its list': (
        as_lmdb(lambda f: (f / 'meta_info.txt').unlink()), train, ['meta_info.txt (the LMDB is not finished'],
    ),
    'an LMDB whose list is damaged': (
        as_lmdb(rewrite('meta_info.txt', lambda c: c[:-9])), train, ['its meta_info.txt cannot be read'],
    ),
    'an LMDB without a key': (as_lmdb(entry(lambda c, k: c.delete(k))), train, ["lacks 4 of", "'000_s001'"]),
    'an LMDB with half an image': (
        as_lmdb(entry(lambda c, k: c.put(k, half(c.get(k))))), train,
        ['4 images cannot be used', 'gt_HR_sub.lmdb/000_s001: it is truncated'],
    ),
    'an LMDB with damaged images': (
        as_lmdb(entry(lambda c, k: c.put(k, flip_byte(c.get(k))))), train, ["_s001' (gt)", TRUNCATED],
    ),
    'an LMDB of another scale': (
        as_lmdb(lambda folder: None, lq='gt_LR_bicubic_X3_sub.lmdb'), train, ['not of scale 2', '24x24', '8x8'],
    ),
    'an LMDB of another name': (
        as_lmdb(lambda f: f.with_suffix('.lmdb').rename(f.with_suffix('.db')), gt='gt_HR_sub.db'), train,
        ['gt_HR_sub.db', 'end in .lmdb'],
    ),
    'an LMDB that is not finished': (
        as_lmdb(lambda f: f.rename(f'{f}.partial')), train, ['gt_HR_sub.lmdb (`kdsr prepare` has begun it'],
    ),
    'a truncated raw set': (as_raw(rewrite('pixels.bin', half)), train, ['pixels.bin has', 'bytes instead of']),
    'a raw set of another version': (
        as_raw(rewrite('index.json', lambda c: c.replace(b'kdsr raw 1', b'kdsr raw 9'))), train,
        ["format 'kdsr raw 9'"],
    ),
    'a raw set whose index is damaged': (as_raw(rewrite('index.json', half)), train, ['index.json is damaged']),
    'a truncated cache': (finished_cache(rewrite('pixels.bin', half)), train, ['cache.raw/pixels.bin has']),
    'a cache whose settings are damaged': (
        finished_cache(rewrite('kdsr_prepare.json', half)), train, ['kdsr_prepare.json is damaged', 'Delete cache.raw'],
    ),
    # weights
    'truncated weights': (weights(truncated_weights), train, ["start.pth'", 'cannot be read', 'is it truncated']),
    'weights of another network': (weights(stored(lambda: params('RCAN'))), train, ["start.pth' does not fit EDSR"]),
    'weights of another width': (
        weights(stored(lambda: params(num_feat=16))), train, ["start.pth' does not fit EDSR", 'size mismatch'],
    ),
    'weights of another scale': (
        weights(stored(lambda: params(upscale=3))), train, ["start.pth' does not fit EDSR", 'upsample', 'this scale'],
    ),
    'weights that match in part': (
        weights(stored(half_matching)), train, ['does not fit EDSR', 'Missing key', 'body.0'],
    ),
    'weights of which none fits, not strict': (
        weights(stored(lambda: {'params': {'x': torch.zeros(1)}}), strict_load_g=False), train,
        ["no tensor of 'start.pth' fits EDSR"],
    ),
    'weights of a run that diverged': (
        weights(stored(diverged)), train, ["start.pth' holds values that are not finite in 'conv_first.weight'"],
    ),
    'no weights in the file': (weights(stored(dict)), train, ["start.pth' holds no weights"]),
    'a folder for a file of weights': (weights(Path.mkdir), train, ['path.pretrain_network_g', 'start.pth']),
    'safetensors under another ending': (
        weights(lambda path: save_file(params()['params'], path)), train, ["'start.pth' is not a checkpoint"],
    ),
    'weights that hold code': (
        weights(stored(lambda: {'params': Hostile()})), train, ["start.pth'", 'nothing in it was run'],
    ),
    'a teacher that holds code': (hostile_teacher, train, ["EDSR_x2.pth'", 'nothing in it was run']),
    'code for conversion': (weights(stored(lambda: {'params': Hostile()})), convert, ['nothing in it was run']),
    'a folder for conversion': (weights(Path.mkdir), convert, ["checkpoint 'start.pth' is a folder"]),
    # states
    'a state that holds code': (state(stored(Hostile)), train, ['2.state` cannot be used', 'nothing in it was run']),
    'a truncated state': (
        state(lambda path: path.write_bytes(half(path.read_bytes()))), train, ['2.state` cannot be used'],
    ),
    'a state of another network': (
        state(lambda path: None, {'num_feat': 16}), train, ['cannot change in a run', 'network_g.num_feat: 8 -> 16'],
    ),
    'a state without its networks': (foreign_state, train, ['new/models/net_g_2.pth', 'does not exist']),
    'no state that can be used': (
        state(lambda path: path.write_bytes(b'')), resume, ['--auto_resume: no state in', 'can be used'],
    ),
    # images for preparation
    'images that cannot be prepared': (
        both(images('001.png', lambda _: HUGE), images('002.png', lambda _: b''),
             images('003.png', lambda _: np.zeros((9, 9, 3), np.uint16)),
             lambda *_: Image.new('CMYK', (48, 48)).save(GT / '004.jpg'),
             images('005.png', lambda _: np.zeros((1, 1, 3), np.uint8))),
        prepare, ['5 problems', 'nothing was changed', '1600000000', '002.png', '16 or more bits', 'CMYK', '1x1'],
    ),
    'a folder that is named like an image': (
        lambda *_: (shutil.rmtree(GT), (GT / 'x.png').mkdir(parents=True)), prepare, ['There is no image in photos/gt'],
    ),
    'a damaged image for a cache': (
        with_cache(images('001.png', flip_byte)), cache, ["gt/001.png' (gt)", TRUNCATED],
    ),
    'an empty image for a cache': (with_cache(images('001.png', lambda _: b'', [LQ])), cache, ['lq2/001.png', 'image']),
    'a begun set whose settings are damaged': (
        begun('kdsr_prepare.json', b'{'), prepare,
        ['kdsr_prepare.json is damaged', 'Delete data/gt_HR_sub.lmdb.partial'],
    ),
    'a begun set whose LMDB is damaged': (
        begun('data.mdb', b'x' * 9999), prepare, ['gt_HR_sub.lmdb.partial', 'delete it to start again'],
    ),
    'a begun set that another process writes': (
        locked, prepare, ['data/gt_HR_sub.lmdb is being written by process ', 'Wait until it has ended, or stop it'],
    ),
    'a damaged LMDB for conversion': (
        set_of('gt_HR_sub.lmdb', rewrite('data.mdb', half)), prepare_from_lmdb, ['data.mdb has', 'truncated'],
    ),
    'a test image that is empty': (images('001.png', lambda _: b''), benchmark, ['photos: 001 cannot be read']),
    'a test image that is truncated': (images('001.png', half), benchmark, ['001 cannot be read', 'it is truncated']),
    'a test image that is damaged': (images('001.png', flip_byte), benchmark, ["gt/001.png' is not a readable image"]),
    'a test image that is huge': (images('001.png', lambda _: HUGE), benchmark, ['001 cannot be read', '1600000000']),
    'a test image that is a folder': (lambda *_: (GT / '004.png').mkdir(), benchmark, ['photos: 004 cannot be read']),
    # disks and folders
    'a full disk while LMDBs are made': (refused(errno.ENOSPC), prepare, ['There is no room in data', AGAIN]),
    'a full disk while raw sets are made': (refused(errno.ENOSPC), prepare_raw, ['There is no room in data', AGAIN]),
    'a full disk while a test set is made': (
        refused(errno.ENOSPC), prepare_test, ['There is no room in data', 'Make room', AGAIN],
    ),
    'a full disk while a cache is made': (with_cache(refused(errno.ENOSPC)), cache, ['There is no room in .', AGAIN]),
    'a full disk while scores are written': (
        refused(errno.ENOSPC), benchmark, ['No space left', '--lr-cache'],
    ),
    'a full disk at the report': (
        both(lambda workspace, opt, patch: benchmark(workspace, opt), refused(errno.ENOSPC)), benchmark,
        ['No space left', 'make room', AGAIN],
    ),
    'a full disk at a checkpoint': (refused(errno.ENOSPC), train, ['cannot write', 'No space left', '--auto_resume']),
    'a disk that is read-only at a checkpoint': (refused(errno.EROFS), train, ['net_g_2.pth', 'make it writable']),
    'a folder of runs that cannot be written': (
        refused(errno.EACCES, locking.Path, 'mkdir'), train,
        ['Permission denied', 'make it writable', '--auto_resume'],
    ),
    'a file in the place of the runs': (file_named('experiments'), train, ['experiments', 'the name of a folder']),
    'a file in the place of the output': (file_named('data'), prepare, ['data', 'the name of a folder']),
    'a file in the place of the results': (file_named('results'), benchmark, ['results', 'the name of a folder']),
    'an output that cannot be written': (
        refused(errno.EACCES, Path, 'mkdir'), prepare, ['Permission denied', 'make it writable, or choose another'],
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """Sub-images of the workspace's photos, as LMDBs and raw sets."""
    from tests.conftest import Workspace

    folder = tmp_path_factory.mktemp('sets')
    Workspace(folder).images()
    for raw in (False, True):
        prepare_training_set(folder / 'photos/gt', folder / 'sets', (2, 3), 24, 24, 1, progress=False, raw=raw)
    return folder / 'sets'


def contents(root):
    """What must still be there, wherever it lies: images, data sets, weights, states."""
    kept = ('.png', '.jpg', '.mdb', '.bin', '.pth', '.state')
    return {hashlib.md5(p.read_bytes()).digest() for p in root.rglob('*') if p.suffix in kept and p.is_file()}


def checked_files(root):
    """Weights and states under their final names are whole, whatever happened."""
    for path in [*root.rglob('experiments/**/*.pth'), *root.rglob('experiments/**/net_*.state')]:
        assert saving.FOR_INSPECTION in path.name or torch.load(path, weights_only=True)
    assert not list(root.rglob('*.pth.partial'))
    assert not list(root.rglob('.*.partial'))


@pytest.mark.parametrize(('spoil', 'run', 'words'), CASES.values(), ids=CASES)
def test_bad_input_is_told_in_one_message_and_nothing_is_lost(workspace, sets, monkeypatch, spoil, run, words):
    opt = workspace.options(iterations=2)
    shutil.copytree(sets, 'sets')
    with monkeypatch.context() as patch:
        undo = spoil(workspace, opt, patch)
        before = contents(workspace.root)
        with pytest.raises(SystemExit) as stopped, report_user_errors():
            run(workspace, opt)
        told = stopped.value.code
    if callable(undo):
        undo()
    assert isinstance(told, str), told
    assert told.startswith('\nkdsr: ')
    assert 'Traceback' not in told
    assert all(word in told for word in words), told
    assert before <= contents(workspace.root)
    checked_files(workspace.root)
    assert not MARKER.exists()


HARMLESS = {
    'a file of another ending': (images('001.png', lambda _: Path('photos.jpg').read_bytes()), ''),
    'grey': (images('001.png', lambda _: np.zeros((48, 48), np.uint8)), ''),
    'an alpha channel': (
        images('001.png', lambda _: np.zeros((48, 48, 4), np.uint8)), "'001.png': it has an alpha chan",
    ),
    '16 bits': (
        images('001.png', lambda _: np.zeros((48, 48, 3), np.uint16)), "'001.png': it has 16 or more bits",
    ),
    'names that are not ASCII': (
        lambda *_: [(folder / '001.png').rename(folder / 'foto_é_写真.png') for folder in (GT, LQ)], '',
    ),
    'a folder of another name': (lambda *_: [(folder / 'x.png').mkdir() for folder in (GT, LQ)], ''),
}  # fmt: skip


@pytest.mark.parametrize(('spoil', 'warning'), HARMLESS.values(), ids=HARMLESS)
def test_harmless_input_is_taken_with_a_warning_where_something_is_dropped(
    workspace, monkeypatch, capsys, spoil, warning
):
    opt = workspace.options(iterations=2)
    cv2.imwrite('photos.jpg', cv2.imread(str(GT / '001.png')))
    spoil(workspace, opt, monkeypatch)
    folder = workspace.train({**opt, 'datasets': {'train': opt['datasets']['train']}})
    assert (folder / 'models' / 'net_g_2.pth').is_file()
    assert warning in capsys.readouterr().out


ORDER = {'processes': 2, 'batch_size_per_gpu': 4, 'training images': 10, 'dataset_enlarge_ratio': 1, 'manual_seed': 0}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'processes': 4},
            r'2\.state was saved by a run with other data:\n  - processes: 2, now 4\nUndo .* exactly\. To',
        ),  # 12 samples an epoch instead of 10, whatever the batch
        ({'processes': 1}, r'- processes: 2, now 1\n.*With 1 process, `batch_size_per_gpu: 8` gives each step'),
        ({'processes': 1, 'batch_size_per_gpu': 8, 'manual_seed': 1}, r'data:\n  - manual_seed: 0, now 1\nUndo'),
        ({'processes': 2, 'batch_size_per_gpu': 8}, r'- batch_size_per_gpu: 4, now 8\nUndo .* exactly\. To resume'),
    ],
)
def test_another_number_of_processes_that_changes_the_samples_of_a_step_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_order({**ORDER, **changes}, ORDER, {'path': {'resume_state': '2.state'}})


def test_another_number_of_processes_with_the_same_samples_a_step_is_let_through(capsys):
    check_order({**ORDER, 'processes': 1, 'batch_size_per_gpu': 8}, ORDER, {'path': {'resume_state': '2.state'}})
    assert capsys.readouterr().out.startswith('2.state: saved by a run of 2 processes, resumed by 1. Each step gets')


KILLED = """
import os, torch, kdsr
from kdsr.lifecycle.bad_samples import NamedSamples, explain_killed_worker
from tests.helpers.loaders import KillsItsProcess
samples = NamedSamples(KillsItsProcess())
loader = torch.utils.data.DataLoader(samples, num_workers=1)
samples.share(1)
try:
    list(loader)
except (RuntimeError, OSError, EOFError) as error:  # as it is noticed
    print(explain_killed_worker(error, samples), flush=True)
os._exit(0)
"""


def test_a_process_of_the_loader_that_is_killed_is_told_with_its_sample():
    # apart: PyTorch raises the error in whatever the main process does when it learns of the end
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, '-c', KILLED], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200
    )
    assert "The sample that it began last: '3x2.png' and '3.png'." in done.stdout, done.stderr[-2000:]
    assert 'lower `num_worker_per_gpu`' in done.stdout
    assert explain_killed_worker(RuntimeError('another'), NamedSamples(KillsItsProcess())) is None


def test_a_failed_run_leaves_no_process_that_does_not_end(workspace):
    opt = workspace.options()
    opt['datasets']['train']['num_worker_per_gpu'] = 1
    (GT / '001.png').write_bytes(flip_byte((GT / '001.png').read_bytes()))
    before = multiprocessing.active_children()
    with pytest.raises(UserError) as kept:  # and with it the loader
        workspace.train(opt)
    left = [process for process in multiprocessing.active_children() if process not in before]
    assert left, kept
    for process in left:
        process.terminate()  # as Python does at its exit
        process.join(20)
        assert process.exitcode == 0
