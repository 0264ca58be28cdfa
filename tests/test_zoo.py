"""The networks that come with kdsr: what is in their files, and that their names work wherever a model is asked for."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from skimage import data

from kdsr import options, zoo
from kdsr.cli import main
from kdsr.data.matlab_bicubic import imresize_bicubic, upsample_bicubic
from kdsr.deployment import Upscaler
from kdsr.deployment.card import read_card
from kdsr.errors import UserError
from kdsr.metadata import safetensors_metadata
from kdsr.networks.candidates import find_candidates
from kdsr.networks.facts import count_parameters

ROOT = Path(__file__).parents[1]
NAMES = zoo.list_names()


def psnr(image, truth):
    return 10 * np.log10(255**2 / np.mean((image.astype(np.float64) - truth) ** 2))


def test_the_zoo_has_each_network_at_its_scales():
    assert {name.rsplit('_', 1)[0] for name in NAMES} == {'fsrcnn', 'rfdn_tiny', 'rfdn_small', 'rfdn_small_photo'}
    assert {'fsrcnn_x2', 'fsrcnn_x4', 'rfdn_small_x2', 'rfdn_small_x4'} <= set(NAMES)
    assert sum(path.stat().st_size for path in zoo.FOLDER.iterdir() if path.is_file()) < 5e6


# Gains in dB that were measured on the crop of these two tests, with the weights that are shipped. The gates lie 0.05
# dB below them: they guard against other weights or a fault in the code. They are no evidence that a network is good:
# that is in benchmarks/results/zoo_on_photos_x*_cpu.md, measured on the 19 images of Set5 and Set14.
TOLERANCE = 0.05
CLEAN_GAINS = {
    'fsrcnn_x2': 1.66,
    'fsrcnn_x3': 1.62,
    'fsrcnn_x4': 1.29,
    'rfdn_small_photo_x2': 1.64,
    'rfdn_small_photo_x3': 1.60,
    'rfdn_small_photo_x4': 1.14,
    'rfdn_small_x2': 2.11,
    'rfdn_small_x3': 2.02,
    'rfdn_small_x4': 1.93,
    'rfdn_tiny_x2': 1.80,
    'rfdn_tiny_x3': 1.74,
    'rfdn_tiny_x4': 1.50,
}
# Over the network for clean images, then over bicubic: on JPEG, then on noise.
PHOTO_GAINS = {
    'rfdn_small_photo_x2': ((0.53, 0.42), (0.49, 0.36)),
    'rfdn_small_photo_x3': ((0.47, 0.61), (0.21, 0.82)),
    'rfdn_small_photo_x4': ((0.39, 0.58), (-0.03, 0.86)),
}


@pytest.mark.parametrize('name', NAMES)
def test_a_network_gains_on_a_clean_photo_what_was_measured(name):
    upscaler = Upscaler(name)
    truth = data.astronaut()[16:184, 160:328]
    small = imresize_bicubic(truth, upscaler.scale)
    gain = psnr(upscaler(small), truth) - psnr(upsample_bicubic(small, upscaler.scale), truth)
    assert gain > CLEAN_GAINS[name] - TOLERANCE


@pytest.mark.parametrize('name', [name for name in NAMES if 'photo' in name])
def test_a_network_for_photos_gains_on_jpeg_and_noise_what_was_measured(name):
    upscaler, sibling = Upscaler(name), Upscaler(name.replace('_photo', ''))
    truth = data.astronaut()[16:184, 160:328]
    small = imresize_bicubic(truth, upscaler.scale)
    file = io.BytesIO()
    Image.fromarray(small).save(file, 'JPEG', quality=75)
    noise = np.random.default_rng(0).normal(0, 5, small.shape)
    compressed, noisy = np.asarray(Image.open(file)), np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)
    for given, (over_sibling, over_bicubic) in zip((compressed, noisy), PHOTO_GAINS[name]):
        ours = psnr(upscaler(given), truth)
        assert ours - psnr(sibling(given), truth) > over_sibling - TOLERANCE
        assert ours - psnr(upsample_bicubic(given, upscaler.scale), truth) > over_bicubic - TOLERANCE


def measured_on_photos(scale):
    """Return network to the cells of its row in the results of benchmarks/zoo_on_photos.py."""
    text = (ROOT / f'benchmarks/results/zoo_on_photos_x{scale}_cpu.md').read_text()
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('| ')]
    return {name: cells for name, *cells in rows if name != 'network'}


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_the_default_has_the_largest_mean_gain_that_was_measured(scale):
    found = measured_on_photos(scale)
    assert set(found) == {'bicubic', *(name for name in NAMES if name.endswith(f'_x{scale}'))}
    gains = {name: float(cells[-1]) for name, cells in found.items() if name != 'bicubic'}
    assert zoo.DEFAULTS[scale] == max(gains, key=gains.__getitem__)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_the_document_states_what_was_measured_on_photos(scale):
    lines = (ROOT / 'docs/zoo.md').read_text().splitlines()
    shown = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
    for name, cells in measured_on_photos(scale).items():
        row = [f'x{scale}', name if name == 'bicubic' else f'`{name}`']
        row += [' / '.join(cells[at : at + 2]) for at in (0, 3, 6)]
        row += ['', ''] if name == 'bicubic' else [' / '.join(cells[2:9:3]), cells[-1]]
        assert row in shown


def test_what_enlarges_where_no_model_is_named_is_in_the_zoo():
    assert {scale: name[-1] for scale, name in zoo.DEFAULTS.items()} == {2: '2', 3: '3', 4: '4'}
    assert set(zoo.DEFAULTS.values()) <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_card_says_what_the_file_is(name):
    path = zoo.find_file(name)
    card = read_card(safetensors_metadata(path), path)
    (one,) = find_candidates([name])
    assert (card.name, card.scale, f'_x{card.scale}') == (name, one.scale, name[-3:])
    assert card.parameters == count_parameters(one.network)
    assert set(card.metrics) == {'Set5', 'Set14'}
    assert 'GT cropped to a multiple of the scale' in card.protocol
    assert 'dead-leaves' in card.data_licence
    assert card.purpose.startswith('photos: ' if 'photo' in name else 'clean images: ')
    trained, shipped = yaml.safe_load(card.training), options.load(str(ROOT / f'options/zoo/{name}.yml'))
    assert trained['network_g'] == shipped['network_g']
    assert trained['train']['total_iter'] == shipped['train']['total_iter']
    page = (zoo.FOLDER / f'{name}.md').read_text()
    assert f'| parameters | {card.parameters:,} |' in page


def test_a_file_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(zoo.find_file('rfdn_small_x2')).parent == zoo.FOLDER
    Path('rfdn_small_x2').mkdir()  # as its training makes it in experiments/
    assert Path(zoo.find_file('rfdn_small_x2')).parent == zoo.FOLDER
    Path('rfdn_small_x2').rmdir()
    Path('rfdn_small_x2').touch()
    assert zoo.find_file('rfdn_small_x2') == 'rfdn_small_x2'
    assert zoo.find_file('../zoo/rfdn_small_x4') == '../zoo/rfdn_small_x4'


def test_upscaling_needs_no_model(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.png'), data.astronaut()[:40, :48, ::-1])
    main(['upscale', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'twice.png')])
    assert cv2.imread(str(tmp_path / 'twice.png')).shape == (80, 96, 3)
    main(['upscale', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'large.png'), '--scale', '4'])
    assert zoo.DEFAULTS[4] in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'large.png')).shape == (160, 192, 3)
    with pytest.raises(SystemExit, match='--scale chooses a network of the zoo'):
        main(['upscale', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'x.png'), '--scale', '4', '-m', 'fsrcnn_x2'])
    with pytest.raises(SystemExit, match='name the file with -m'):
        main(['upscale', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'x.png'), '--network', '{type: RFDN}'])


def test_the_list_and_a_page(capsys):
    main(['zoo'])
    listed = capsys.readouterr().out
    assert all(f'`{name}`' in listed for name in NAMES)
    assert listed.rstrip() in (ROOT / 'docs/zoo.md').read_text(), 'run `make docs`'
    main(['zoo', 'fsrcnn_x2'])
    assert capsys.readouterr().out.startswith('# fsrcnn_x2')
    with pytest.raises(SystemExit, match=r"no 'rfdn_smal_x2'. Did you mean 'rfdn_small_x2'"):
        main(['zoo', 'rfdn_smal_x2'])


def test_a_name_that_is_nothing_says_where_to_look():
    with pytest.raises(UserError, match=r"network of the zoo \(kdsr zoo\)\. Did you mean 'rfdn_small_x2'"):
        Upscaler('rfdn_smal_x2')
