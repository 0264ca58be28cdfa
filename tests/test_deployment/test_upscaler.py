"""The API: any image type, any model file, whole or in tiles."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.color_util import rgb2ycbcr_pt
from PIL import Image
from torch import nn

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.deployment import Upscaler, formats
from kdsr.deployment.tiles import BUDGET, SHARE, SMALLEST, USEFUL, fitting_tile
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.tiling import self_ensemble
from kdsr.errors import UserError
from kdsr.export_targets.exporting import ExportSettings, export
from kdsr.networks.candidates import find_candidates
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


@torch.no_grad()
def run_bordered(network, image, border, multiple=1):
    """Run a network on (1, C, h, w) with its border mirrored, and cut the border off."""
    width = ((0, 0), (0, 0), (border, border), (border, border))
    large = run_padded(network, torch.from_numpy(np.pad(image.numpy(), width, mode='symmetric')), multiple)
    edge = slice(2 * border, -2 * border or None)
    return large[..., edge, edge]


@pytest.mark.parametrize('options', [EDSR, SWINIR], ids=['EDSR', 'SwinIR'])
def test_checkpoint_safetensors_and_onnx_give_what_the_network_gives(model, options):
    pytest.importorskip('onnxruntime')
    path, network = model(options)
    export(path, 'files', ExportSettings(repeats=0), lambda line: None)
    image = np.random.default_rng(0).random((20, 24, 3), np.float32)
    for file in (path, f'files/{options["type"]}.safetensors', f'files/{options["type"]}.onnx'):
        upscaler = Upscaler(file)
        assert upscaler.scale == 2
        multiple = 4 if options is SWINIR else 1
        expected = as_image(run_bordered(network, as_tensor(image), upscaler.border, multiple))
        np.testing.assert_allclose(upscaler(image), expected, atol=1e-5)


def test_windows_are_padded_as_in_validation_where_there_is_no_border(model, monkeypatch):
    monkeypatch.setattr('kdsr.deployment.upscaler.needed_border', lambda *args, **kwargs: 0)
    path, network = model(SWINIR)
    with torch.no_grad():
        expected = as_image(run_padded(network, as_tensor(NOISE[..., :3]), 4))
    np.testing.assert_allclose(Upscaler(path, engine='torch')(NOISE[..., :3]), expected, atol=1e-5)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('options', [EDSR, FSRCNN], ids=['EDSR', 'FSRCNN'])
def test_tiles_give_what_the_whole_image_gives(model, options, batch):
    path, _ = model(options)
    image = np.random.default_rng(1).random((70, 91, 3), np.float32)
    whole, shares = Upscaler(path, tile=0)(image), []
    tiled = Upscaler(path, tile=24, batch=batch)(image, shares.append)
    assert len(shares) >= 9 / batch
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    blended = Upscaler(path, tile=24, overlap=24, batch=batch)(image)
    np.testing.assert_allclose(blended, whole, atol=1e-5)
    assert np.abs(Upscaler(path, tile=24, overlap=0)(image) - whole).max() > 1e-4  # so that the overlap matters


@pytest.mark.parametrize('tile', [1, 2, 7])
def test_the_smallest_tiles_are_right_too(model, tile):
    path, _ = model(FSRCNN)
    image = np.random.default_rng(1).integers(0, 256, (21, 40, 3), np.uint8)
    np.testing.assert_array_equal(Upscaler(path, tile=tile, engine='torch')(image), Upscaler(path, tile=0)(image))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [0, 1, 2, 3, 4])
def test_an_image_keeps_its_type_and_layout(model, dtype, channels):
    path, network = model()
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (NOISE * top).astype(dtype)
    image = image[..., 0] if channels == 0 else image[..., :channels].copy()
    if channels in (2, 4):
        image[..., -1] = np.maximum(image[..., -1], top / 100)  # colours under alpha 0 are changed
    upscaler = Upscaler(path)
    large = upscaler(image)
    assert large.dtype == dtype
    assert large.shape == (38, 46, *image.shape[2:])
    colours = image[..., None] if channels == 0 else image[..., : channels - 1 if channels in (2, 4) else channels]
    given = colours.astype(np.float32) / top
    given = as_tensor(given.repeat(3, axis=2) if given.shape[2] == 1 else given)
    expected = run_bordered(network, given, upscaler.border)
    expected = as_image(expected.mean(dim=1, keepdim=True) if colours.shape[2] == 1 else expected)
    got = large.reshape(38, 46, -1)[..., : colours.shape[2]].astype(np.float64) / top
    np.testing.assert_allclose(got, expected, atol=1e-5 + (0.51 / top if top > 1 else 0))
    if channels in (2, 4):
        alpha = as_image(BicubicUpsample(2)(as_tensor(image[..., -1:].astype(np.float32) / top)))[..., 0]
        np.testing.assert_allclose(large[..., -1] / top, alpha, atol=1e-5 + (0.51 / top if top > 1 else 0))


def test_16_bits_are_more_than_8(model):
    path, _ = model()
    ramp = np.linspace(20000, 40000, 64 * 64).reshape(64, 64).astype(np.uint16)
    assert np.unique(Upscaler(path)(ramp)).size > 500


@pytest.mark.parametrize('engine', ['torch', 'auto'])
def test_luminance_networks_give_luminance_and_bicubic_chroma(engine):
    (one,) = find_candidates(['fsrcnn_x2'])
    network = one.network
    image = 0.45 + 0.1 * NOISE[..., :3]  # no colour outside of RGB
    upscaler = Upscaler('fsrcnn_x2', engine=engine)
    ycbcr = rgb2ycbcr_pt(as_tensor(image))
    luminance = run_bordered(network, ycbcr[:, :1], upscaler.border)
    again = rgb2ycbcr_pt(as_tensor(upscaler(image)))
    inside = (luminance > 0.3) & (luminance < 0.6)
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(again[:, :1][inside], luminance[inside], atol=1e-4, rtol=0)
    chroma = BicubicUpsample(2)(ycbcr[:, 1:])
    torch.testing.assert_close(
        again[:, 1:][inside.expand(1, 2, -1, -1)], chroma[inside.expand(1, 2, -1, -1)], atol=1e-4, rtol=0
    )


def test_luminance_networks_and_grey_images(model):
    path, network = model(FSRCNN)
    upscaler = Upscaler(path)
    large = run_bordered(network, (16 + 219 * as_tensor(NOISE[..., :1])) / 255, upscaler.border)
    np.testing.assert_allclose(upscaler(NOISE[..., 0]), as_image((large * 255 - 16) / 219)[..., 0], atol=1e-5)


@pytest.mark.parametrize('dtype', [np.float32, np.uint8])
def test_self_ensemble(model, dtype):
    path, network = model()
    image = NOISE[..., :3] if dtype == np.float32 else (255 * NOISE[..., :3]).astype(np.uint8)
    upscaler = Upscaler(path, self_ensemble=True)
    given = as_tensor(image.astype(np.float32) / (255 if dtype == np.uint8 else 1))
    plain = lambda lq: network(lq).clamp(0, 1)  # noqa: E731
    expected = as_image(
        run_bordered(lambda lq: self_ensemble(lambda batch: plain(batch.lq), Batch(lq)), given, upscaler.border)
    )
    tolerance = 1e-5 if dtype == np.float32 else 0.51
    np.testing.assert_allclose(upscaler(image), expected * (255 if dtype == np.uint8 else 1), atol=tolerance)


def test_bf16_is_close(model):
    path, _ = model()
    low, full = (Upscaler(path, precision=p)(NOISE[..., :3]) for p in ('bf16', 'fp32'))
    assert 0 < np.abs(low - full).max() < 0.05


def test_a_full_gpu_means_smaller_tiles(model):
    path, _ = model()
    upscaler, sizes = Upscaler(path, engine='torch'), []
    runner = upscaler._network._runner
    run = runner.run

    def limited(pixels):
        sizes.append(max(pixels.shape[1:3]))
        if sizes[-1] > 200:
            raise torch.cuda.OutOfMemoryError('full')
        return run(pixels)

    image, shares = np.random.default_rng(2).random((20, 600, 3), np.float32), []
    expected = upscaler(image)
    runner.run = limited
    large = upscaler(image, shares.append)
    assert sizes[0] >= 600
    assert sizes[1] < sizes[0]
    assert max(sizes[3:]) <= 200
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(large, expected, atol=2e-6)
    sizes.clear()
    upscaler(image)
    assert max(sizes) <= 200, 'a size that failed is not tried again'
    fixed = Upscaler(path, engine='torch', tile=0)
    fixed._network._runner.run = limited
    with pytest.raises(UserError, match='--tile auto'):
        fixed(image)


@pytest.mark.parametrize('text', ['std::bad_alloc', '[ONNXRuntimeError] : 6 : Failed to allocate memory'])
def test_a_lack_of_memory_is_known_by_its_text_too(model, text):
    path, _ = model()
    upscaler = Upscaler(path, engine='torch')
    run = upscaler._network._runner.run

    def limited(pixels):
        if pixels.shape[2] > 150:
            raise RuntimeError(text)
        return run(pixels)

    image = np.random.default_rng(2).random((20, 300, 3), np.float32)
    expected = upscaler(image)
    upscaler._network._runner.run = limited
    np.testing.assert_allclose(upscaler(image), expected, atol=2e-6)


@pytest.mark.parametrize(('overlap', 'cut'), [('auto', True), (4, True), (3, False), (2, False), (0, False)])
def test_the_edges_of_tiles_are_cut_only_where_no_blend_needs_them(overlap, cut):
    """`fsrcnn_x2` has a border, and reaches 8 pixels far; the chroma's bicubic reaches 2."""
    upscaler = Upscaler('fsrcnn_x2', engine='torch', overlap=overlap)
    assert upscaler._network._runner.edges_are_cut == cut


def test_tiles_are_as_large_as_memory_allows():
    fits = {'bytes_per_pixel': 1000, 'overlap': 32, 'batch': 1, 'budget': None}
    assert fitting_tile(100, 100, free=2 * 10**7, **fits) == 0
    side = fitting_tile(1000, 1000, free=2 * 10**8, **fits)
    assert (side + 64) ** 2 * 1000 <= SHARE * 2 * 10**8 < (side + 65) ** 2 * 1000
    assert fitting_tile(1000, 1000, free=0, **fits) == SMALLEST
    four = fitting_tile(1000, 1000, free=2 * 10**8, **{**fits, 'batch': 4})
    assert 4 * (four + 64) ** 2 * 1000 <= SHARE * 2 * 10**8


def test_tiles_on_a_processor_hold_a_budget_unless_they_were_uselessly_small():
    fits = {'free': 10**12, 'overlap': 32, 'batch': 1, 'budget': BUDGET}
    side = fitting_tile(9000, 9000, bytes_per_pixel=1000, **fits)
    assert (side + 64) ** 2 * 1000 <= BUDGET < (side + 65) ** 2 * 1000
    assert fitting_tile(9000, 9000, bytes_per_pixel=100_000, **fits) == USEFUL


def test_a_large_image_takes_the_memory_of_its_tiles_only(model):
    """What the network is shown at a time does not grow with the image."""
    path, _ = model()
    upscaler, areas = Upscaler(path, engine='torch', tile=32), []
    run = upscaler._network._runner.run
    upscaler._network._runner.run = lambda pixels: areas.append(pixels.shape[1] * pixels.shape[2]) or run(pixels)
    rows = upscaler.rows(np.zeros((400, 60, 3), np.uint8))
    first = next(rows)
    assert len(first) < 200
    assert len(areas) <= 4, 'the first rows come before the last tiles'
    assert len(first) + sum(map(len, rows)) == 800
    assert max(areas) < 100**2


def test_the_three_lines_of_the_documents(model):
    pytest.importorskip('onnxruntime')
    torch.save(torch.load(model()[0]), 'model.pth')
    export('model.pth', '.', ExportSettings(['onnx'], repeats=0), lambda line: None)
    code = re.search(r'```python\n(.*?)```', (ROOT / 'docs/deployment.md').read_text(), flags=re.DOTALL)[1]
    names = {'image': (255 * NOISE).astype(np.uint8)}
    exec(code, names)
    assert names['image'].shape == (38, 46, 4)


def foreign(path, network, image=None):
    example = formats.example(3, None) if image is None else image
    path.write_bytes(formats.onnx_bytes(network.eval(), example, fixed=image is not None))
    return str(path)


def test_an_onnx_file_of_other_origin(tmp_path):
    pytest.importorskip('onnxruntime')
    network = nn.Sequential(nn.Conv2d(3, 27, 3, padding=1), nn.PixelShuffle(3)).eval()
    path = foreign(tmp_path / 'foreign.onnx', network)
    upscaler = Upscaler(path)
    assert upscaler.scale == 3
    image = np.pad(NOISE[..., :3], ((4, 4), (4, 4), (0, 0)), mode='symmetric')
    inner = image if upscaler.border else NOISE[..., :3]
    with torch.no_grad():
        expected = as_image(network(as_tensor(inner)))
    expected = expected[12:-12, 12:-12] if upscaler.border else expected
    np.testing.assert_allclose(upscaler(NOISE[..., :3]), expected, atol=1e-5)
    fixed = foreign(tmp_path / 'fixed.onnx', network, image=torch.rand(1, 3, 8, 8))
    with pytest.raises(UserError, match='without --size'):
        Upscaler(fixed)
    Path(path).write_bytes(b'nothing')
    with pytest.raises(UserError, match='cannot load'):
        Upscaler(path)
    with pytest.raises(UserError, match='its own precision'):
        Upscaler(path, precision='bf16')


def test_half_precision_onnx_files_of_others_run(tmp_path):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT16
    weight = np.zeros((12, 3, 1, 1), np.float16)
    for channel in range(3):
        weight[4 * channel : 4 * channel + 4, channel] = 1
    graph = helper.make_graph(
        [
            helper.make_node('Conv', ['x', 'w'], ['c']),
            helper.make_node('DepthToSpace', ['c'], ['y'], blocksize=2, mode='CRD'),
        ],
        'half',
        [helper.make_tensor_value_info('x', kind, ['n', 3, 'h', 'w'])],
        [helper.make_tensor_value_info('y', kind, ['n', 3, 'h2', 'w2'])],
        [onnx.numpy_helper.from_array(weight, 'w')],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    (tmp_path / 'half.onnx').write_bytes(model.SerializeToString())
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    upscaler = Upscaler(str(tmp_path / 'half.onnx'))
    assert upscaler.scale == 2
    np.testing.assert_array_equal(upscaler(image), image.repeat(2, axis=0).repeat(2, axis=1))


def test_mistakes_are_one_message(model, workspace):
    path, _ = model()
    wrong = ({'tile': 'some'}, {'tile': -1}, {'batch': 0}, {'overlap': -1}, {'precision': 'int4'}, {'engine': 'magic'},
             {'alpha': 'none'}, {'device': 'toaster'}, {'device': 'cuda:77'})  # fmt: skip
    for settings in wrong:
        with pytest.raises(UserError, match=next(iter(settings))):
            Upscaler(path, **settings)
    with pytest.raises(UserError, match='nowhere'):
        Upscaler('nowhere.pth')
    with pytest.raises(UserError, match=r'nowhere\.onnx'):
        Upscaler('nowhere.onnx')
    bare = workspace.weights(FSRCNN, 'bare')
    with pytest.raises(UserError, match='--network'):
        Upscaler(bare)
    assert Upscaler(bare, network=json.dumps(FSRCNN)).scale == 2
    for image in (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4), np.int32), np.zeros((0, 4), np.uint8), np.zeros(4)):
        with pytest.raises(UserError, match='an image is'):
            Upscaler(path)(image)


def test_floats_of_the_wrong_range_are_refused(model):
    path, _ = model()
    upscaler = Upscaler(path)
    for image in (255 * NOISE[..., :3], NOISE[..., :3] - 1, np.full((4, 4), np.nan)):
        with pytest.raises(UserError, match=r'in \[0, 1\]'):
            upscaler(image)
    overshoot = NOISE[..., :3] * 1.1 - 0.05  # as resizing leaves it
    assert upscaler(overshoot).max() <= 1


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGB', 'RGBA', 'I;16', 'P'])
def test_images_of_pillow(model, mode):
    path, _ = model()
    upscaler = Upscaler(path)
    pixels = (255 * NOISE).astype(np.uint8)
    image = Image.fromarray((65535 * NOISE[..., 0]).astype(np.uint16)) if mode == 'I;16' else Image.fromarray(pixels)
    image = image if mode == 'I;16' else image.convert(mode)
    image.info['dpi'] = (300, 300)
    large = upscaler(image)
    assert (large.mode, large.size, large.info['dpi']) == ('RGB' if mode == 'P' else mode, (46, 38), (300, 300))
    expected = upscaler(np.asarray(image.convert('RGB') if mode == 'P' else image))
    np.testing.assert_array_equal(np.asarray(large), expected)
    with pytest.raises(UserError, match='CMYK'):
        upscaler(Image.new('CMYK', (4, 4)))


def test_weights_that_overflow_are_one_message_and_no_black_image(model):
    _, network = model()
    torch.save({'params': {k: v * 1e30 for k, v in network.state_dict().items()}, 'network': EDSR}, 'huge.pth')
    for engine in ('torch', 'auto'):
        with pytest.raises(UserError, match='not finite'):
            Upscaler('huge.pth', engine=engine)((255 * NOISE[..., :3]).astype(np.uint8))


def test_seamless_textures_fit_to_themselves(model):
    """A texture that is shifted round its border gives its enlargement shifted."""
    path, _ = model(FSRCNN)
    texture = np.random.default_rng(3).integers(0, 256, (40, 36, 3), np.uint8)
    shifted = np.roll(texture, (7, 5), axis=(0, 1))
    upscaler = Upscaler(path, seamless=True, tile=16)
    np.testing.assert_array_equal(upscaler(shifted), np.roll(upscaler(texture), (14, 10), axis=(0, 1)))
    plain = Upscaler(path)
    assert (plain(shifted) != np.roll(plain(texture), (14, 10), axis=(0, 1))).any()
