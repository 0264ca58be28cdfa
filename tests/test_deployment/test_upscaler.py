"""The API: any image type, any model file, whole or in tiles."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.color_util import rgb2ycbcr_pt

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.deployment import Upscaler, formats
from kdsr.deployment.exporting import Wishes, export
from kdsr.deployment.tiles import SIDES, fitting_tile, run_in_tiles, smaller_tile
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.tiling import self_ensemble
from kdsr.errors import UserError
from tests.conftest import NETWORKS
from tests.helpers.networks import known

ROOT = Path(__file__).parents[2]
EDSR = {**NETWORKS['EDSR'], 'upscale': 2}
SWINIR = {**NETWORKS['SwinIRLight'], 'upscale': 2}
FSRCNN = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
NOISE = np.random.default_rng(0).random((19, 23, 4), np.float32)


@pytest.fixture
def model(workspace):
    """Write a checkpoint that knows its network; return path and network."""

    def made(options=EDSR):
        path, network = known(workspace, options), build_network(options).eval()
        network.load_state_dict(torch.load(path)['params'])
        return path, network

    return made


def as_tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def as_image(tensor):
    return tensor[0].clamp(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize('options', [EDSR, SWINIR], ids=['EDSR', 'SwinIR'])
def test_checkpoint_safetensors_and_onnx_give_what_the_network_gives(model, options):
    pytest.importorskip('onnxruntime')
    path, network = model(options)
    export(path, 'files', Wishes(repeats=0), lambda line: None)
    image = NOISE[..., :3]
    with torch.no_grad():
        expected = as_image(run_padded(network, as_tensor(image), 4 if options is SWINIR else 1))
    for file in (path, f'files/{options["type"]}.safetensors', f'files/{options["type"]}.onnx'):
        upscaler = Upscaler(file)
        assert upscaler.scale == 2
        np.testing.assert_allclose(upscaler(image), expected, atol=1e-5)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('options', [EDSR, FSRCNN], ids=['EDSR', 'FSRCNN'])
def test_tiles_give_what_the_whole_image_gives(model, options, batch):
    """Away from the borders; these networks see less than half of the overlap."""
    path, _ = model(options)
    image = np.random.default_rng(1).random((70, 91, 3), np.float32)
    whole, shares = Upscaler(path, tile=0)(image), []
    tiled = Upscaler(path, tile=32, batch=batch)(image, shares.append)
    assert len(shares) >= 9 / batch
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(tiled[4:-4, 4:-4], whole[4:-4, 4:-4], atol=1e-3 if options is EDSR else 1e-5)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(Upscaler(path, tile=32, overlap=0)(image) - whole).max() > 1e-4  # so that the overlap matters


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [0, 1, 2, 3, 4])
def test_an_image_keeps_its_type_and_layout(model, dtype, channels):
    path, network = model()
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (NOISE * top).astype(dtype)
    image = image[..., 0] if channels == 0 else image[..., :channels]
    large = Upscaler(path)(image)
    assert large.dtype == dtype
    assert large.shape == (38, 46, *image.shape[2:])
    colours = image[..., None] if channels == 0 else image[..., : channels - 1 if channels in (2, 4) else channels]
    given = colours.astype(np.float32) / top
    with torch.no_grad():
        expected = as_image(network(as_tensor(given.repeat(3, axis=2) if given.shape[2] == 1 else given)))
    expected = expected.mean(axis=2, keepdims=True) if given.shape[2] == 1 else expected
    got = large.reshape(38, 46, -1)[..., : given.shape[2]].astype(np.float64) / top
    np.testing.assert_allclose(got, expected, atol=1e-5 + (0.51 / top if top > 1 else 0))
    if channels in (2, 4):
        alpha = as_image(BicubicUpsample(2)(as_tensor(image[..., -1:].astype(np.float32) / top)))[..., 0]
        np.testing.assert_allclose(large[..., -1] / top, alpha, atol=1e-5 + (0.51 / top if top > 1 else 0))


def test_16_bits_are_more_than_8(model):
    path, _ = model()
    ramp = np.linspace(30000, 31000, 64 * 64).reshape(64, 64).astype(np.uint16)
    assert np.unique(Upscaler(path)(ramp)).size > 500


def test_luminance_networks_give_luminance_and_bicubic_chroma(model):
    path, network = model(FSRCNN)
    image = 0.4 + 0.2 * NOISE[..., :3]  # no colour outside of RGB
    ycbcr = rgb2ycbcr_pt(as_tensor(image))
    with torch.no_grad():
        luminance = network(ycbcr[:, :1]).clamp(0.3, 0.6)
    upscaler = Upscaler(path)
    run = upscaler._model.run
    object.__setattr__(upscaler._model, 'run', lambda lq: run(lq).clamp(0.3, 0.6))
    again = rgb2ycbcr_pt(as_tensor(upscaler(image)))
    torch.testing.assert_close(again[:, :1], luminance, atol=1e-4, rtol=0)
    torch.testing.assert_close(again[:, 1:], BicubicUpsample(2)(ycbcr[:, 1:]), atol=1e-4, rtol=0)


def test_luminance_networks_and_grey_images(model):
    path, network = model(FSRCNN)
    with torch.no_grad():
        expected = (network((16 + 219 * as_tensor(NOISE[..., :1])) / 255).clamp(0, 1) * 255 - 16) / 219
    np.testing.assert_allclose(Upscaler(path)(NOISE[..., 0]), as_image(expected)[..., 0], atol=1e-5)


def test_self_ensemble(model):
    path, network = model()
    with torch.no_grad():
        expected = self_ensemble(lambda batch: network(batch.lq), Batch(as_tensor(NOISE[..., :3])))
    np.testing.assert_allclose(Upscaler(path, self_ensemble=True)(NOISE[..., :3]), as_image(expected), atol=1e-5)


def test_bf16_is_close(model):
    path, _ = model()
    low, full = (Upscaler(path, precision=p)(NOISE[..., :3]) for p in ('bf16', 'fp32'))
    assert 0 < np.abs(low - full).max() < 0.05


def test_a_full_gpu_means_smaller_tiles(model):
    path, network = model()
    upscaler, sizes = Upscaler(path), []

    def run(lq):
        sizes.append(lq.shape[-1])
        if lq.shape[-1] > 200:
            raise torch.cuda.OutOfMemoryError('full')
        return network(lq)

    object.__setattr__(upscaler._model, 'run', run)
    image, shares = np.random.default_rng(2).random((20, 300, 3), np.float32), []
    large = upscaler(image, shares.append)
    assert sizes[0] == 300
    assert max(sizes[2:]) <= 200
    assert sum(shares) == pytest.approx(1)
    with torch.no_grad():
        np.testing.assert_allclose(large, as_image(network(as_tensor(image))), atol=1e-5)
    upscaler._tile = 0
    with pytest.raises(UserError, match='--tile auto'):
        upscaler(image)


def test_tiles_are_as_large_as_memory_allows():
    fits = {'bytes_per_pixel': 1000, 'overlap': 32, 'batch': 1}
    assert fitting_tile(100, 100, free=2 * 10**7, **fits) == 0
    side = fitting_tile(1000, 1000, free=2 * 10**8, **fits)
    assert side == 192
    assert (side + 64) ** 2 * 1000 <= 10**8 < (256 + 64) ** 2 * 1000
    assert fitting_tile(1000, 1000, free=0, **fits) == SIDES[-1]
    assert fitting_tile(3000, 3000, 0, 10**9, 32, 1) == 96
    assert smaller_tile(0, 600, 500) == 512
    assert smaller_tile(512, 600, 500) == 384
    assert smaller_tile(SIDES[-1], 600, 500) is None


def test_tiles_start_where_windows_do():
    """Tiles inside the image are whole windows, so that only those at its right and bottom are padded."""
    seen = []

    def answer(lq):
        seen.append(lq)
        return lq

    image = torch.arange(41.0 * 67).view(1, 1, 41, 67)
    torch.testing.assert_close(run_in_tiles(answer, image, 1, 16, 8, multiple=8), image)
    starts = [int(part[0, 0, 0, 0]) for part in seen]
    assert len(seen) > 6
    assert all(start // 67 % 8 == 0 and start % 67 % 8 == 0 for start in starts)


def test_the_three_lines_of_the_documents(model):
    pytest.importorskip('onnxruntime')
    torch.save(torch.load(model()[0]), 'model.pth')
    export('model.pth', '.', Wishes(['onnx'], repeats=0), lambda line: None)
    code = re.search(r'```python\n(.*?)```', (ROOT / 'docs/deployment.md').read_text(), flags=re.DOTALL)[1]
    names = {'image': (255 * NOISE).astype(np.uint8)}
    exec(code, names)
    assert names['image'].shape == (38, 46, 4)


def test_an_onnx_file_of_other_origin(tmp_path):
    pytest.importorskip('onnxruntime')
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 27, 3, padding=1), torch.nn.PixelShuffle(3)).eval()
    path = tmp_path / 'foreign.onnx'
    path.write_bytes(formats.onnx_bytes(network, formats.example(3, None), False))
    upscaler = Upscaler(str(path))
    assert upscaler.scale == 3
    with torch.no_grad():
        np.testing.assert_allclose(upscaler(NOISE[..., :3]), as_image(network(as_tensor(NOISE[..., :3]))), atol=1e-5)
    path.write_bytes(formats.onnx_bytes(network, torch.rand(1, 3, 8, 8), True))
    with pytest.raises(UserError, match='without --size'):
        Upscaler(str(path))
    path.write_bytes(b'nothing')
    with pytest.raises(UserError, match='cannot load'):
        Upscaler(str(path))
    with pytest.raises(UserError, match='its own precision'):
        Upscaler(str(path), precision='bf16')


def test_mistakes_are_one_message(model, workspace):
    path, _ = model()
    for settings in ({'tile': 'some'}, {'tile': -1}, {'batch': 0}, {'overlap': -1}, {'precision': 'int4'}):
        with pytest.raises(UserError, match=next(iter(settings))):
            Upscaler(path, **settings)
    with pytest.raises(UserError, match='nowhere'):
        Upscaler('nowhere.pth')
    bare = workspace.weights(FSRCNN, 'bare')
    with pytest.raises(UserError, match='--network'):
        Upscaler(bare)
    assert Upscaler(bare, network=json.dumps(FSRCNN)).scale == 2
    for image in (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4), np.int32), np.zeros((0, 4), np.uint8)):
        with pytest.raises(UserError, match='an image is'):
            Upscaler(path)(image)
