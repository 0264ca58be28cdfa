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


@pytest.mark.parametrize('name', NAMES)
def test_a_network_beats_bicubic_on_a_photo(name):
    upscaler = Upscaler(name)
    truth = data.astronaut()[16:184, 160:328]
    small = imresize_bicubic(truth, upscaler.scale)
    gain = psnr(upscaler(small), truth) - psnr(upsample_bicubic(small, upscaler.scale), truth)
    assert gain > 0.3


@pytest.mark.parametrize('name', [name for name in NAMES if 'photo' in name])
def test_a_network_for_photos_is_better_on_jpeg_than_its_sibling_and_as_good_on_noise(name):
    upscaler, sibling = Upscaler(name), Upscaler(name.replace('_photo', ''))
    truth = data.astronaut()[16:184, 160:328]
    small = imresize_bicubic(truth, upscaler.scale)
    file = io.BytesIO()
    Image.fromarray(small).save(file, 'JPEG', quality=75)
    noise = np.random.default_rng(0).normal(0, 5, small.shape)
    for given, least in (
        (np.asarray(Image.open(file)), 0.3),
        (np.clip(np.rint(small + noise), 0, 255).astype(np.uint8), -0.1),
    ):
        ours = psnr(upscaler(given), truth)
        assert ours - psnr(sibling(given), truth) > least
        assert ours - psnr(upsample_bicubic(given, upscaler.scale), truth) > 0.3


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
