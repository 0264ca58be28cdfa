import os
import pickle
import sys
import tempfile

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from torch.nn import functional as F

from kdsr.archs.spandrel_arch import Spandrel
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from kdsr.errors import UserError
from kdsr.metrics import score
from kdsr.pictures.images import read_image, super_resolve
from tests.conftest import network_opt, shared_folder

pytest.importorskip('spandrel', reason='needs the optional spandrel library')

SWINIR = {
    'type': 'SwinIR', 'upscale': 2, 'img_size': 16, 'in_chans': 3, 'embed_dim': 12, 'depths': [2, 2],
    'num_heads': [2, 2], 'window_size': 8, 'mlp_ratio': 2, 'upsampler': 'pixelshuffle', 'img_range': 1.0,
    'resi_connection': '1conv',
}  # fmt: skip


@pytest.fixture
def swinir(workspace):
    """A file with random weights of BasicSR's SwinIR, and the network itself."""
    path = workspace.weights(SWINIR, 'swinir')
    network = build_network(SWINIR)
    network.load_state_dict(torch.load(path, weights_only=True)['params'])
    return path, network.eval()


@torch.no_grad()
def test_a_network_that_changes_its_input_gets_a_copy():
    """spandrel's RCAN multiplied the training batch by 255: the student then trained on 0..255."""
    from spandrel.architectures.RCAN import RCAN

    with tempfile.TemporaryDirectory() as folder:
        torch.save(RCAN(n_resgroups=1, n_resblocks=1, n_feats=16, scale=2).state_dict(), f'{folder}/rcan.pth')
        network = Spandrel(f'{folder}/rcan.pth')
    image = torch.rand(1, 3, 12, 10)
    before = image.clone()
    first = network(image)
    assert torch.equal(image, before)
    assert torch.equal(network(image), first)


@torch.no_grad()
def test_the_architecture_is_recognised_and_its_image_is_that_of_the_original(swinir):
    path, original = swinir
    network, image = Spandrel(path, upscale=2), torch.rand(2, 3, 16, 24)
    assert (network.upscale, network.input_channels) == (2, 3)
    torch.testing.assert_close(network(image), original(image))


@torch.no_grad()
def test_images_of_any_size_are_padded_at_their_far_sides(swinir):
    path, original = swinir
    network = Spandrel(path)
    for height, width in ((17, 9), (8, 15), (5, 16), (1, 1)):
        image = torch.rand(1, 3, height, width)
        assert network(image).shape == (1, 3, 2 * height, 2 * width)
    for height, width, down, right in ((13, 11, 3, 5), (20, 27, 4, 5)):  # to windows of 8, two at least
        image = torch.rand(1, 3, height, width)
        expected = original(F.pad(image, (0, right, 0, down), mode='reflect'))[..., : 2 * height, : 2 * width]
        torch.testing.assert_close(network(image), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ('multiple', 'minimum', 'square', 'seen'),
    [(1, 32, False, (32, 32)), (1, 1, True, (24, 24)), (16, 1, False, (32, 16)), (16, 40, True, (48, 48))],
)
def test_size_requirements(swinir, multiple, minimum, square, seen):
    network, sizes = Spandrel(swinir[0]), []
    network.multiple, network._minimum, network._square = multiple, minimum, square
    network.model.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[-2:])))
    assert network(torch.rand(1, 3, 24, 9)).shape == (1, 3, 48, 18)
    assert sizes == [seen]


def test_it_is_frozen_and_stays_in_eval(swinir):
    network = Spandrel(swinir[0]).train()
    assert not any(m.training for m in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_its_features_can_be_tapped_on_odd_sizes(swinir):
    network = Spandrel(swinir[0])
    teacher = TeacherEnsemble({'t': FrozenNetwork(network, network.multiple, {'early': 'model.layers.0'})})
    assert teacher(Batch(torch.rand(1, 3, 13, 11))).features['early'].shape == (1, 12, 13, 11)
    with FeatureTap(network, {'early': 'model.layers.0'}) as features, torch.no_grad():
        network(torch.rand(1, 3, 16, 16))
    assert features['early'].shape == (1, 12, 16, 16)


def test_safetensors(swinir, tmp_path):
    from safetensors.torch import save_file

    path, original = swinir
    save_file({k: v.contiguous() for k, v in original.state_dict().items()}, tmp_path / 'swinir.safetensors')
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(Spandrel(str(tmp_path / 'swinir.safetensors'))(image), Spandrel(path)(image))
    (tmp_path / 'broken.safetensors').write_bytes((tmp_path / 'swinir.safetensors').read_bytes()[:100])
    with pytest.raises(UserError, match='truncated'):
        Spandrel(str(tmp_path / 'broken.safetensors'))


class Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize('extension', ['pth', 'pt', 'ckpt'])
@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_never_run(tmp_path, extension, zipped):
    """Neither in torch's format nor in a bare pickle."""
    marker, path = tmp_path / 'executed', str(tmp_path / f'model.{extension}')
    content = {'params': {'w': torch.zeros(1)}, 'extra': Hostile(f'touch {marker}')}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if not zipped:
        with open(path, 'wb') as file:
            pickle.dump(content, file, protocol=2)
    with pytest.raises(UserError, match='holds more than tensors'):
        Spandrel(path)
    assert not marker.exists()
    with open(path, 'rb') as file:
        torch.load(file, weights_only=False) if zipped else pickle.load(file)
    assert marker.exists()  # the file would have run it


def test_without_the_library(swinir, monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[spandrel\]"'):
        Spandrel(swinir[0])


def test_wrong_files(swinir, workspace):
    with pytest.raises(UserError, match='is a network for x2, not for `upscale: 4`'):
        Spandrel(swinir[0], upscale=4)
    for name in ('nothing.pth', 'nothing.safetensors'):
        with pytest.raises(UserError, match='does not exist'):
            Spandrel(name)
    with pytest.raises(UserError, match='does not know the architecture of these weights'):
        Spandrel(workspace.weights(network_opt('EDSR'), 'edsr'))
    weights = torch.load(swinir[0], weights_only=True)['params']
    del weights['conv_last.bias']
    torch.save({'params': weights}, 'incomplete.pth')
    with pytest.raises(UserError, match=r'spandrel [0-9.]+ cannot load'):
        Spandrel('incomplete.pth')


@pytest.mark.parametrize(('in_chans', 'message'), [(1, 'maps 1 channels to 1')])
def test_networks_of_other_colours(workspace, in_chans, message):
    with pytest.raises(UserError, match=message):
        Spandrel(workspace.weights({**SWINIR, 'in_chans': in_chans}, 'grey'))


@pytest.mark.shared
def test_craft_x4_on_set5():
    """32.40 dB, +-0.02: how the border is padded to whole windows moves the mean by that much."""
    weights, images = shared_folder() / 'weights/CRAFT_x4.pth', shared_folder() / 'data/benchmark/Set5'
    if not (weights.is_file() and images.is_dir()):
        pytest.skip('research-only files are not here')
    network, values = Spandrel(str(weights), upscale=4), []
    for file in sorted((images / 'LR_bicubic/X4').iterdir()):
        image = super_resolve(network, read_image(str(file)))
        gt = read_image(str(images / 'HR' / file.name.replace('x4', '')))[: image.shape[0], : image.shape[1]]
        values.append(score(image, gt, 4)[0])
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(32.40, abs=0.02)
