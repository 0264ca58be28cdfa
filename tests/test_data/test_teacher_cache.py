from __future__ import annotations

import copy
import functools
import os
import random
import shutil

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset

from kdsr import durable, options
from kdsr.data import parallel, teacher_cache, teacher_run
from kdsr.data.raw_images import RawImages, Window
from kdsr.data.raw_writer import RawWriter
from kdsr.data.teacher_cache import make_cache, open_cache
from kdsr.data.training_images import TrainingImages, open_training_images
from kdsr.distillation.outputs import Batch
from kdsr.errors import UserError
from kdsr.experiment import missing_files, read_experiment
from tests.conftest import network_opt
from tests.helpers.loaders import assert_same, batches
from tests.helpers.training_sets import on_raw, samples


def experiment(workspace, names=('EDSR',), **changes):
    """Options of a tiny distillation with a cache."""
    block = {
        'health_check': False,
        'teachers': [workspace.teacher(name) for name in names],
        'cache': 'cache.raw',
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    }
    opt = workspace.options(model_type='DistillationModel', distillation=block)
    block.update(changes)
    return opt


def make(opt, **settings):
    return make_cache(opt, progress=False, **settings)


def stored(path):
    images = RawImages(path)
    return {key: torch.from_numpy(images.image(n).copy()) for n, key in enumerate(images.keys)}


def rounded(image):
    """8-bit numbers of (1, C, H, W), by NumPy: the nearest whole numbers of 0..255."""
    values = np.rint(image[0].detach().numpy() * np.float32(255))
    return torch.from_numpy(np.minimum(np.maximum(values, 0), 255).astype(np.uint8))


def networks_of(opt):
    """The teachers' networks, built by BasicSR alone."""
    for teacher in opt['distillation']['teachers']:
        network = build_network(copy.deepcopy(teacher['network'])).eval()
        network.load_state_dict(torch.load(teacher['path'], weights_only=True)['params'])
        yield network


def answers(opt, images):
    """What each teacher's network makes of low-resolution images, run by BasicSR alone and without a batch."""
    networks = list(networks_of(opt))
    with torch.no_grad():
        return {key: [network(batch.lq) for network in networks] for key, batch in images.items()}


def luminance(image):
    """Y of ITU-R BT.601 of (1, 3, H, W) RGB in [0, 1], by NumPy: (1, 1, H, W)."""
    red, green, blue = image[0].double().numpy()
    y = (65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255
    return torch.from_numpy(y)[None, None].float()


def orientations(image):
    """The eight flips and turns of (..., H, W), each with the function that turns it back."""
    for quarter in range(4):
        yield torch.rot90(image, quarter, (-2, -1)), lambda x, k=quarter: torch.rot90(x, -k, (-2, -1))
        mirrored = torch.rot90(image.flip(-1), quarter, (-2, -1))
        yield mirrored, lambda x, k=quarter: torch.rot90(x, -k, (-2, -1)).flip(-1)


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(v, expected[k]) for k, v in found.items())


def test_it_holds_what_the_teachers_make_of_every_image(workspace):
    opt = experiment(workspace, ['EDSR', 'SwinIR'])
    path = make(opt)
    assert sorted(p.name for p in path.iterdir()) == ['index.json', 'kdsr_prepare.json', 'pixels.bin']
    found = stored(path)
    expected = {key: rounded((edsr + swinir) / 2) for key, (edsr, swinir) in answers(opt, samples(opt)).items()}
    assert same(found, expected)
    assert sorted(found) == ['000', '001', '002', '003']


def test_the_experiment_and_its_options_make_the_same_cache(workspace):
    opt = experiment(workspace)
    from_options = stored(make(opt))
    shutil.rmtree('cache.raw')
    assert same(stored(make(read_experiment(opt))), from_options)


def test_it_can_hold_the_self_ensemble(workspace):
    opt = experiment(workspace, cache={'path': 'cache.raw', 'self_ensemble': True})
    for key, found in stored(make(opt)).items():
        turned = list(orientations(samples(opt)[key].lq))
        images = answers(opt, {number: Batch(image) for number, (image, _) in enumerate(turned)})
        mean = torch.stack([back(images[number][0]) for number, (_, back) in enumerate(turned)]).double().mean(0)
        assert (found.double() - 255 * mean[0].clamp(0, 1)).abs().max() < 0.501, 'the nearest whole number'


def test_what_a_teacher_gives_beyond_black_and_white_is_black_and_white(workspace):
    """As the image that a network without a clamp means; in 8 bits 256 would be 0."""
    opt = experiment(workspace)
    file = opt['distillation']['teachers'][0]['path']
    weights = torch.load(file, weights_only=True)['params']
    weights['conv_last.weight'] *= 40  # far beyond both
    torch.save({'params': weights}, file)
    images = answers(opt, samples(opt))
    for key, found in stored(make(opt)).items():
        (image,) = images[key]
        assert image.min() < -0.1
        assert image.max() > 1.1
        assert found[image[0] > 1].eq(255).all()
        assert found[image[0] < 0].eq(0).all()
        assert torch.equal(found, rounded(image))


def test_for_stage_one_it_holds_each_teachers_image(workspace):
    opt = experiment(workspace, ['EDSR', 'SwinIR'], losses=None)
    opt.update(model_type='AggregationModel', network_g=network_opt('DCTSwin'))
    found = stored(make(opt))
    expected = {key: rounded(torch.cat(images, 1)) for key, images in answers(opt, samples(opt)).items()}
    assert same(found, expected)
    assert found['000'].shape == (6, 48, 48)


def test_teachers_of_luminance_and_of_the_ground_truth_are_shown_what_they_see_in_training(workspace):
    opt = experiment(workspace)
    plain = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 4, 'num_shrink': 2}
    privileged = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': plain, 'num_feat': 4, 'num_shrink': 2}
    opt['distillation']['teachers'] = [
        {'name': 'y', 'network': plain, 'path': workspace.weights(plain, 'y')},
        {'name': 'privileged', 'network': privileged, 'path': workspace.weights(privileged, 'p'), 'input': 'gt'},
    ]
    opt['color'] = 'y'
    of_lq, of_gt = networks_of(opt)
    found = stored(make(opt))
    assert found['000'].shape == (1, 48, 48)
    for key, batch in samples(opt).items():
        with torch.no_grad():
            mean = (of_lq(luminance(batch.lq)).double() + of_gt(luminance(batch.gt)).double()) / 2
        assert (found[key].double() - 255 * mean[0].clamp(0, 1)).abs().max() < 0.501, 'the nearest whole number'


def test_whole_images_of_a_raw_set_are_run_once(workspace, monkeypatch):
    opt = on_raw(workspace, experiment(workspace))
    calls = []
    answer = teacher_run.TeacherRun.answer
    monkeypatch.setattr(
        teacher_run.TeacherRun, 'answer', lambda self, batch: calls.append(batch.lq.shape) or answer(self, batch)
    )
    path = make(opt)
    assert calls[2:] == 4 * [(1, 3, 24, 24)]  # two to take the time
    lq = RawImages(opt['datasets']['train']['dataroot_lq']).frame(1) / np.float32(255)
    ((image,),) = answers(opt, {'001': Batch(torch.from_numpy(lq)[None])}).values()
    whole = rounded(image)
    windows = stored(path)
    assert len(windows) == 4 * 4
    names = sorted(key for key in windows if key.startswith('001'))
    corners = [(0, 0), (0, 16), (16, 0), (16, 16)]
    assert same(
        {n: windows[n] for n in names}, {n: whole[:, y : y + 32, x : x + 32] for n, (y, x) in zip(names, corners)}
    )


class KilledError(BaseException):
    pass


def test_stopped_at_any_write_it_continues_to_the_same_content(workspace):
    opt = experiment(workspace)
    expected = stored(make(opt))
    flush = os.fsync
    for stop in range(1, 100):
        shutil.rmtree('cache.raw')
        left = [stop]

        def stopping(descriptor, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KilledError
            flush(descriptor)

        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(durable.os, 'fsync', stopping)
                make(opt)
        except KilledError:
            if not os.path.exists('cache.raw'):
                with pytest.raises(UserError, match='is not finished'):
                    open_cache(read_experiment(opt))
            make(opt)
            assert same(stored('cache.raw'), expected)
        else:
            break
    assert stop > 2 * 4


@pytest.mark.slow
def test_another_process_gives_what_this_one_gives(workspace):
    opt = experiment(workspace)
    expected = stored(make(opt))
    setup = functools.partial(
        teacher_cache._start_in_worker, teacher_run.TeacherRun(read_experiment(opt), False, None), ['cpu'], 1
    )
    results = parallel.ordered_map(teacher_cache._run_in_worker, [2, 0], 1, setup)
    for key, (image, cost) in zip(('002', '000'), results):
        np.testing.assert_array_equal(image, expected[key])
        assert 0 < cost[1] < 60


def test_large_images_are_tiled(workspace, monkeypatch):
    opt = experiment(workspace)
    expected = stored(make(opt))
    shutil.rmtree('cache.raw')
    monkeypatch.setattr(teacher_run, 'WHOLE', 500)
    monkeypatch.setattr(teacher_run, 'TILE', 8)
    monkeypatch.setattr(teacher_run, 'OVERLAP', 4)
    tiled = stored(make(opt))
    differing = [(v.int() - expected[k].int()).abs().max().item() for k, v in tiled.items()]
    assert 0 < max(differing) < 20  # the network looks further than 2 pixels
    for tile in (0, 128):  # whole images, and the smallest tile that is accepted: larger than these images
        shutil.rmtree('cache.raw')
        assert same(stored(make(opt, tile=tile)), expected)


def test_the_room_and_time_are_told_before_and_the_teachers_checked(workspace, capsys, monkeypatch):
    opt = experiment(workspace)
    make_cache(opt)
    told = capsys.readouterr()
    assert '4 images -> cache.raw: 0.03 MB of disk, about 0 s.' in told.out
    assert 'done: 2,304/2,304 px' in told.err
    make_cache(opt)
    assert 'Nothing to do: cache.raw is there' in capsys.readouterr().out
    shutil.rmtree('cache.raw')
    opt['distillation']['health_check'] = True
    with pytest.raises(UserError, match=r"teacher 'edsr' reaches .* less than bicubic"):
        make(opt)


def other_weights(opt, workspace):
    workspace.weights(network_opt('EDSR'), 'EDSR_x2', seed=2)


def other_order(opt, workspace):
    opt['distillation']['teachers'].reverse()


def one_less(opt, workspace):
    opt['distillation']['teachers'].pop()


def other_key(opt, workspace):
    opt['distillation']['teachers'][0]['param_key'] = 'params'


def other_precision(opt, workspace):
    opt['distillation']['teachers'][1]['precision'] = 'bf16'


def other_content(opt, workspace):
    opt['distillation']['cache'] = {'path': 'cache.raw', 'self_ensemble': True}


def image_gone(opt, workspace):
    os.remove('photos/gt/003.png')
    os.remove('photos/lq2/003.png')


def other_pixels(opt, workspace):
    cv2.imwrite('photos/lq2/000.png', np.zeros((24, 24, 3), np.uint8))


def other_pixels_at_last(opt, workspace):
    cv2.imwrite('photos/lq2/003.png', np.zeros((24, 24, 3), np.uint8))


def other_colour(opt, workspace):
    opt['color'] = 'y'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (other_weights, r'weights of teacher edsr \w{16} \(now \w{16}\)'),
        (other_order, r'order of teachers edsr, rcan \(now rcan, edsr\)'),
        (one_less, r'teacher rcan {.*} \(now None\)'),
        (other_key, r'teacher edsr {.*} \(now {.*params'),
        (other_precision, r'teacher rcan {.*} \(now {.*bf16'),
        (other_content, r'self_ensemble False \(now True\)'),
        (image_gone, r'other training images: 003 \(48, 48\) \(now None\)\. Make another'),
        (other_pixels, r'low-resolution images \w{16} \(now \w{16}\)\. Make another'),
        (other_pixels_at_last, r'low-resolution images \w{16} \(now \w{16}\)\. Make another'),
        (other_colour, r'colour RGB \(now Y\)'),
    ],
)
def test_a_cache_of_other_teachers_or_images_is_refused_and_says_why(workspace, change, words):
    opt = experiment(workspace, ['EDSR', 'RCAN'])
    make(opt)
    assert open_cache(read_experiment(opt)).names == ['edsr', 'rcan']
    change(opt, workspace)
    with pytest.raises(UserError, match=rf'(?s)distillation\.cache: cache\.raw was made with .*{words}'):
        open_cache(read_experiment(opt))
    with pytest.raises(UserError, match=r'cache\.raw exists, made with'):
        make(opt)


class Counted(TrainingImages):
    """100 black images of 4x4 pixels, one of them white; notes which are read."""

    def __init__(self, white=None):
        self.names = [f'{number:03d}' for number in range(100)]
        self.sizes = [(4, 4)] * 100
        self.windows = [[Window(name, 0, 0, 4, 4)] for name in self.names]
        self.white = white
        self.read = []

    def pair(self, number):
        self.read.append(number)
        return (np.full((3, 4, 4), 255 * (number == self.white), np.uint8),) * 2


def test_the_digest_of_the_images_looks_at_some_from_the_whole_set():
    images = Counted()
    digest = images.digest()
    assert 16 <= len(images.read) <= 20
    assert max(np.diff([0, *images.read, 100])) < 10
    for white in (images.read[0], images.read[-1]):
        assert Counted(white).digest() != digest


def test_two_images_of_one_name_are_refused(workspace):
    opt = experiment(workspace)
    train_set = opt['datasets']['train']
    for kind in ('dataroot_gt', 'dataroot_lq'):
        folder = workspace.root / train_set[kind]
        (folder / 'sub').mkdir()
        shutil.copy(folder / '000.png', folder / 'sub' / '000.png')
    (workspace.root / 'names.txt').write_text('000.png\n001.png\nsub/000.png\n')
    train_set['meta_info_file'] = 'names.txt'
    with pytest.raises(UserError, match="several images named '000'"):
        make(opt)


def test_the_check_of_the_teachers_looks_at_the_centre_of_an_image(workspace):
    opt = read_experiment(experiment(workspace))
    images = open_training_images(opt)
    run = teacher_run.TeacherRun(opt, False, None)
    run.start('cpu', images)
    lq, gt = images.pair(1)
    batch = run.batch(1, 8)
    np.testing.assert_array_equal(rounded(batch.lq), lq[:, 8:16, 8:16])  # of 24x24 pixels
    np.testing.assert_array_equal(rounded(batch.gt), gt[:, 16:32, 16:32])


def test_teachers_that_are_gone_cannot_be_compared_and_need_not_be_there(workspace):
    opt = experiment(workspace)
    make(opt)
    os.remove('EDSR_x2.pth')
    missing_files.check_files(read_experiment({**opt, 'is_train': True}))
    assert open_cache(read_experiment(opt)).names == ['edsr']


def test_foreign_folders_are_refused(workspace):
    opt = on_raw(workspace, experiment(workspace))
    shutil.copytree(opt['datasets']['train']['dataroot_gt'], 'cache.raw')
    with pytest.raises(UserError, match=r'cache\.raw was made with .*content None \(now the image to be taught\)'):
        open_cache(read_experiment(opt))


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', ['disk', 'lmdb', 'raw'])
def test_the_crops_of_cached_images_follow_the_ground_truth(workspace, kind, workers):
    if workers and kind == 'disk':
        pytest.skip('one kind of PairedImageDataset is enough')
    opt = experiment(workspace)
    if kind != 'disk':
        on_raw(workspace, opt, raw=kind == 'raw')
    images = samples(opt)
    writer = RawWriter(workspace.root / 'cache.raw', {}, dict.fromkeys(images, 0), 3)
    writer.open()
    for key, batch in images.items():  # "teachers" that give the ground truth
        writer.add(key, 0, (rounded(batch.gt).numpy(), [Window(key, 0, 0, *batch.gt.shape[-2:])]))
    writer.finish()
    opt['datasets']['train'].update(phase='train', scale=2, gt_size=16)
    train_set = options.with_cache(opt)['datasets']['train']
    with_teacher = batches(copy.deepcopy(train_set), workers)
    for batch in with_teacher:
        teacher = batch.pop('teacher')
        assert torch.equal(teacher.float().div(255), batch['gt'])
    assert_same(with_teacher, batches(copy.deepcopy(opt['datasets']['train']), workers))


def test_a_dataset_that_draws_otherwise_is_refused(workspace, monkeypatch):
    opt = experiment(workspace)
    make(opt)
    opt['datasets']['train'].update(phase='train', scale=2)
    dataset = build_dataset(options.with_cache(opt)['datasets']['train'])
    original = type(dataset.images).__getitem__
    monkeypatch.setattr(type(dataset.images), '__getitem__', lambda self, i: random.random() and original(self, i))
    with pytest.raises(UserError, match='PairedImageDataset draws other random'):
        dataset[0]


def test_only_option_files_with_a_cache_and_sound_settings_make_one(workspace):
    opt = experiment(workspace)
    for changes, words in (
        ({'cache': None}, 'names no cache'),
        ({'cache': {'path': 'x', 'margins': 3}}, r'distillation\.cache\.margins: unknown key'),
        ({'cache': {'path': 'x', 'margin': 8}}, r'margin: 8 at each side leave nothing of crops of 16'),
        ({'features': {'f': {'student': 'body.0', 'teacher': 'body.0'}}}, r'features: not with `cache`: features are'),
    ):
        with pytest.raises(UserError, match=words):
            make({**opt, 'distillation': {**opt['distillation'], **changes}})
    with pytest.raises(UserError, match='At least 1 worker'):
        make(opt, workers=0)
    with pytest.raises(UserError, match='at least 128 pixels a side'):
        make(opt, tile=50)
    with pytest.raises(UserError, match='at least 128 pixels'):
        make(opt, tile=127)
    opt['distillation']['teachers'][0]['path'] = 'gone.pth'
    with pytest.raises(UserError, match=r'teachers\[0\]\.path: gone\.pth'):
        make(opt)


@pytest.mark.parametrize('wrong', ['size', 'nan'])
def test_unusable_answers_are_refused(workspace, wrong):
    opt = experiment(workspace)
    if wrong == 'size':
        opt['distillation']['teachers'] = [workspace.teacher('EDSR', 4)]
        with pytest.raises(
            UserError, match=r'000: the output of the teachers for \(24, 24\) pixels is of \(96, 96\) instead'
        ):
            make(opt)
        return
    run = teacher_run.TeacherRun(read_experiment(opt), False, None)
    images = teacher_cache.open_training_images(read_experiment(opt))
    run.start('cpu', images)
    run.answer = lambda batch: torch.full_like(batch.gt, float('nan'))
    with pytest.raises(UserError, match=r'000: .* is not finite'):
        run(0)
