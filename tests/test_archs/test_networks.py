"""Every network of kdsr, by one table: published sizes, image sizes, precisions, gradients, compilation; its maths."""

import functools

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.archs.contrast_attention import ContrastAttention
from tests.helpers.networks import LUMINANCE, POOLING, TINY
from tests.references import sr_blocks

# Name in this table: options, and the parameters at x2, x3, x4 as their papers print them.
PUBLISHED = {
    'RFDN': ({'type': 'RFDN'}, (534_036, 540_531, 549_624)),
    'RFDN-L': ({'type': 'RFDN', 'num_feat': 52}, (625_962, 632_997, 642_846)),
    'E-RFDN': ({'type': 'RFDN', 'num_feat': 50, 'num_block': 4, 'block': 'e_rfdb'}, (None, None, 433_448)),
    'RFDN Table1 base': ({'type': 'RFDN', 'num_feat': 52, 'block': 'base', 'cca_reduction': 16}, (None, None, 652_146)),
    'RFDN Table1 srb': ({'type': 'RFDN', 'num_feat': 52, 'block': 'srb', 'cca_reduction': 16}, (None, None, 652_146)),
    'RFDN Table1 fdc': ({'type': 'RFDN', 'num_feat': 52, 'block': 'fdc', 'cca_reduction': 16}, (None, None, 636_546)),
    'RFDN Table1 rfdb': ({'type': 'RFDN', 'num_feat': 52, 'cca_reduction': 16}, (None, None, 636_546)),
    'RFDN Table2 .25': ({'type': 'RFDN', 'distillation_rate': 0.25, 'cca_reduction': 16}, (None, None, 523_434)),
    'RFDN Table2 .5': ({'type': 'RFDN', 'distillation_rate': 0.5, 'cca_reduction': 16}, (None, None, 544_386)),
    'RFDN Table2 .75': ({'type': 'RFDN', 'distillation_rate': 0.75, 'cca_reduction': 16}, (None, None, 565_338)),
    'IMDN': ({'type': 'IMDN'}, (694_404, 703_059, 715_176)),
    'FSRCNN': ({'type': 'FSRCNN'}, (12_644, 12_644, 12_644)),
    'FSRCNN-L': ({'type': 'FSRCNN', 'num_shrink': 56}, (125_504, 125_504, 125_504)),
    'VDSR': ({'type': 'VDSR'}, (664_704, 664_704, 664_704)),
    'IDN': ({'type': 'IDN'}, (579_276, 587_931, 600_048)),
    'CARN': ({'type': 'CARN'}, (964_187, 1_148_827, 1_111_899)),
    'CARN multi-scale': ({'type': 'CARN', 'multi_scale': True}, (1_591_963, 1_591_963, 1_591_963)),
    'CARN-M': ({'type': 'CARN', 'mobile': True, 'multi_scale': True}, (414_811, 414_811, 414_811)),  # the released file
    'SAN student': ({'type': 'SAN', 'num_group': 6}, (4_847_834, 5_032_474, 4_995_546)),
    'SAN teacher': ({'type': 'SAN'}, (15_712_800, 15_897_440, 15_860_512)),
    'SAN student, FAKD': ({'type': 'SAN', 'num_group': 6, 'non_local_reduction': 4}, (4_849_906, 5_034_546, 4_997_618)),
    'SAN teacher, FAKD': ({'type': 'SAN', 'non_local_reduction': 4}, (15_714_872, 15_899_512, 15_862_584)),
    'RLFN': ({'type': 'RLFN'}, (526_856, None, 543_740)),  # these and the next: of the released files
    'RLFN-S': ({'type': 'RLFN', 'num_feat': 48}, (454_620, None, 470_208)),
    'RLFN NTIRE': ({'type': 'RLFN', 'num_feat': 46, 'num_mid': 48, 'num_block': 4}, (None, None, 317_218)),
    'BSRN': ({'type': 'BSRN'}, (331_628, 340_283, 352_400)),
    'PAN': ({'type': 'PAN'}, (261_403, 261_403, 272_419)),
    'EFDN': ({'type': 'EFDN'}, (260_604, None, 276_192)),
    'FMEN': ({'type': 'FMEN'}, (None, None, 341_066)),
    'LapSRN': ({'type': 'LapSRN'}, (None, None, 870_112)),
    'DCTSwin': ({'type': 'DCTSwin'}, (247_043, 441_403, 418_083)),
    'PISRTeacher': ({'type': 'PISRTeacher'}, (98_728, 98_728, 98_728)),
}  # fmt: skip

GRAPHS = [name for name in TINY if name not in ('RFDN srb', 'IDN deconv', 'CARN')]  # the others' graphs hold these

ELSEWHERE = {'Spandrel'}  # holds another package's network, see test_spandrel_arch.py

own = {name for name, network in ARCH_REGISTRY if network.__module__.startswith('kdsr.')} - ELSEWHERE


@functools.cache
def network(name, scale=2):
    torch.manual_seed(0)
    return build_network({**TINY[name], 'upscale': scale}).eval()


def image(name, scale=2, height=17, width=22, batch=1):
    """What the network takes for low-resolution images of this size."""
    channels, factor = 1 if name in LUMINANCE else 3, scale if name == 'PISRTeacher' else 1
    if name == 'DCTSwin':
        channels, factor = 3 * TINY[name]['num_teachers'], scale
    generator = torch.Generator().manual_seed(height)
    return torch.rand(batch, channels, factor * height, factor * width, generator=generator)


def output_channels(name):
    return 1 if name in LUMINANCE else 3


def test_every_network_of_kdsr_is_in_the_tables():
    assert own == {options['type'] for options, _ in PUBLISHED.values()}
    assert own == {options['type'] for options in TINY.values()}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_parameter_counts(name):
    options, published = PUBLISHED[name]
    for scale, expected in zip((2, 3, 4), published):
        if expected is not None:
            assert sum(p.numel() for p in build_network({**options, 'upscale': scale}).parameters()) == expected, scale


def test_the_papers_idn_on_luminance():
    """553K in the paper, which rounds."""
    network = build_network({'type': 'IDN', 'num_in_ch': 1, 'upsampler': 'deconv'})
    assert round(sum(p.numel() for p in network.parameters()) / 1000) == 553


@pytest.mark.parametrize('name', [n for n, (options, _) in PUBLISHED.items() if options['type'] == 'FSRCNN'])
def test_prelu_has_one_slope_per_layer(name):
    """7 convolutions with weight and bias, the transposed one, and 7 slopes: 23 tensors (channel-wise: 12,809)."""
    state = build_network(PUBLISHED[name][0]).state_dict()
    assert len(state) == 23
    assert sum(v.shape == (1,) for k, v in state.items() if k.endswith('1.weight')) == 7


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('name', TINY)
def test_any_image_size(name, scale):
    if (name, scale) == ('LapSRN', 3):
        pytest.skip('a pyramid of doublings')
    for height, width in ((17, 22), (16, 31), (15, 15)):
        with torch.no_grad():
            output = network(name, scale)(image(name, scale, height, width))
        assert output.shape == (1, output_channels(name), scale * height, scale * width)
        assert output.isfinite().all()


@pytest.mark.parametrize('name', [n for n in TINY if n not in POOLING])
def test_tiny_images(name):
    for height, width in ((1, 1), (1, 9), (3, 2)):
        with torch.no_grad():
            output = network(name)(image(name, 2, height, width))
        assert output.shape[-2:] == (2 * height, 2 * width)
        assert output.isfinite().all()


@pytest.mark.parametrize('name', POOLING)
def test_spatial_attention_says_how_small_an_image_may_be(name):
    for height, width in ((14, 20), (20, 14)):
        with pytest.raises(ValueError, match='15x15'):
            network(name)(image(name, 2, height, width))


@pytest.mark.parametrize('name', TINY)
def test_answers_are_repeatable_and_do_not_depend_on_the_batch(name):
    x = image(name, batch=3)
    with torch.no_grad():
        together, again = network(name)(x), network(name)(x)
        alone = network(name)(x[1:2])
    assert torch.equal(together, again)
    torch.testing.assert_close(alone, together[1:2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('name', TINY)
def test_half_precision(name):
    x = image(name)
    with torch.no_grad():
        exact = network(name)(x)
        with torch.autocast('cpu', torch.bfloat16):
            mixed = network(name)(x)
        whole = build_network({**TINY[name], 'upscale': 2}).eval()
        whole.load_state_dict(network(name).state_dict())
        half = whole.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    for output in (mixed, half):
        assert output.isfinite().all()
        assert (output.float() - exact).abs().max() < 0.05 * (1 + exact.abs().max())


@pytest.mark.parametrize('name', TINY)
def test_gradients_reach_every_parameter(name):
    """In a narrow attention all of a ReLU may be shut by chance: one of ten random networks must show a gradient."""
    missing = {key for key, p in network(name).named_parameters() if p.requires_grad}
    for seed in range(10):
        torch.manual_seed(seed)
        trained = build_network({**TINY[name], 'upscale': 2}).train()
        with torch.no_grad():
            for p in trained.parameters():  # away from layers that start at zero
                p.add_(0.05 * torch.randn_like(p))
        trained(image(name, batch=2)).square().mean().backward()
        gradients = {key: p.grad for key, p in trained.named_parameters() if p.grad is not None}
        assert all(g.isfinite().all() for g in gradients.values())
        missing -= {key for key, g in gradients.items() if g.abs().max() > 0}
        if not missing:
            break
    assert not missing


def test_what_is_frozen():
    """Nothing but CARN's mean shifts and unused upsamplers, and what SAN's authors never call."""
    frozen = {
        name: {k.split('.')[0] for k, p in network(name).named_parameters() if not p.requires_grad} for name in TINY
    }
    assert frozen.pop('CARN') == {'sub_mean', 'add_mean'}
    assert frozen.pop('CARN-M') == {'sub_mean', 'add_mean', 'upsample'}
    assert {k for k, p in network('CARN-M').upsample.named_parameters() if p.requires_grad} == {
        'x2.0.weight',
        'x2.0.bias',
    }
    frozen.pop('SAN')
    assert not any(frozen.values())


@pytest.mark.parametrize('name', TINY)
def test_constant_images_have_finite_gradients(name):
    """The contrast of a constant channel is 0, where a square root has no slope."""
    trained = build_network({**TINY[name], 'upscale': 2}).train()
    trained(torch.zeros_like(image(name))).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in trained.parameters() if p.grad is not None)


@pytest.mark.filterwarnings('ignore:Dynamo detected a call to a `functools.lru_cache`')
@pytest.mark.parametrize('name', GRAPHS)
def test_compiles_into_one_graph(name):
    x = image(name)
    torch.compiler.reset()
    compiled = torch.compile(network(name), backend='eager', fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(name)(x))


@pytest.mark.parametrize('name', GRAPHS)
def test_is_exported(name):
    """For any size; where the windows or quadrants defeat torch's solver, for the size of the example."""
    fixed = ['DCTSwin', 'SAN']
    if torch.__version__ < (2, 13):  # 2.8, the oldest that setup.py accepts, cannot solve these either
        fixed += [*POOLING, 'PISRTeacher']
    x = other = image(name, height=30, width=44)
    sizes = None
    if name not in fixed:
        sizes = ({2: torch.export.Dim('height', min=24, max=512), 3: torch.export.Dim('width', min=24, max=512)},)
        other = image(name, height=53, width=37)
    exported = torch.export.export(network(name), (x,), dynamic_shapes=sizes, strict=False).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(other), network(name)(other))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'type': 'RFDN', 'block': 'rdfb'}, "Did you mean 'rfdb'"),
        ({'type': 'RFDN', 'distillation_rate': 0}, 'distillation_rate'),
        ({'type': 'RFDN', 'cca_reduction': 49}, 'cca_reduction'),
        ({'type': 'RFDN', 'num_feat': 3}, 'num_feat'),
        ({'type': 'IMDN', 'num_feat': 50}, 'num_feat'),
        ({'type': 'IDN', 'num_kept': 32}, 'num_kept'),
        ({'type': 'IDN', 'upsampler': 'deconvolution'}, 'upsampler'),
        ({'type': 'CARN', 'upscale': 8}, 'upscale'),
        ({'type': 'PAN', 'upscale': 8}, 'upscale'),
        ({'type': 'PAN', 'num_feat': 7}, 'num_feat'),
        ({'type': 'FMEN', 'num_mask': 4}, 'num_mask'),
        ({'type': 'LapSRN', 'upscale': 3}, 'upscale'),
        ({'type': 'BSRN', 'cca_reduction': 65}, 'cca_reduction'),
        ({'type': 'VDSR', 'upscale': 0}, 'upscale'),
    ],
)
def test_wrong_options_are_reported(options, message):
    with pytest.raises(ValueError, match=message):
        build_network(options)


# The maths, against NumPy in double precision.


def double(options, **changes):
    """A network in double precision with every parameter away from its start, and its weights as arrays."""
    net = build_network({**options, **changes}).double().eval()
    with torch.no_grad():
        for key, p in net.named_parameters():
            if 'mean' not in key:
                p.add_(0.1 * torch.randn_like(p))
    return net, {k: v.numpy() for k, v in net.state_dict().items()}


def check(net, reference, channels=3, size=(17, 22), tolerance=1e-9):
    x = torch.rand(1, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        ours = net(x)[0].numpy()
    expected = reference(x[0].numpy())
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize('scale', [2, 3])
@pytest.mark.parametrize('block', ['rfdb', 'fdc', 'srb', 'base', 'e_rfdb'])
def test_rfdn_is_the_papers(block, scale):
    net, weights = double(TINY['RFDN'], block=block, upscale=scale)
    run = functools.partial(sr_blocks.rfdn_block, block=block)
    check(net, lambda x: sr_blocks.distilled_network(x, weights, run, scale, 255))


def test_rfdn_has_no_skip_round_a_block_unless_asked():
    net, weights = double(TINY['RFDN'], upscale=2, block_skip=True)
    check(
        net,
        lambda x: sr_blocks.distilled_network(
            x, weights, lambda y, w: y + sr_blocks.rfdn_block(y, w, 'rfdb'), scale=2, img_range=255
        ),
    )


def test_imdn_is_the_papers():
    net, weights = double(TINY['IMDN'], upscale=3)
    check(net, lambda x: sr_blocks.distilled_network(x, weights, sr_blocks.imdn_block, 3, 1))


def test_idn_is_the_authors():
    net, weights = double(TINY['IDN'], upscale=3)
    check(net, lambda x: sr_blocks.idn(x, weights, scale=3, num_block=2, img_range=255), tolerance=1e-6)


@pytest.mark.parametrize(('upscale', 'steps'), [(2, [2]), (3, [3]), (4, [2, 2])])
@pytest.mark.parametrize('mobile', [False, True])
def test_carn_is_the_papers(mobile, upscale, steps):
    net, weights = double(TINY['CARN'], upscale=upscale, mobile=mobile, groups=2)
    mean = net.add_mean.shifter.bias.numpy()
    np.testing.assert_allclose(mean, (0.4488, 0.4371, 0.4040), rtol=1e-6)
    check(net, lambda x: sr_blocks.carn(x, weights, mean, mobile, 2 if mobile else 1, steps))


def test_multi_scale_carn_uses_the_upsampler_of_its_scale():
    many, one = (build_network({**TINY['CARN'], 'upscale': 3, 'multi_scale': m}) for m in (True, False))
    state = {k.replace('upsample.x3', 'upsample'): v for k, v in many.state_dict().items()}
    one.load_state_dict({k: v for k, v in state.items() if 'upsample.x' not in k})
    x = image('CARN')
    assert torch.equal(many(x), one(x))


@pytest.mark.parametrize('scale', [2, 3])
def test_rlfn_is_the_papers(scale):
    net, weights = double(TINY['RLFN'], upscale=scale)
    check(net, lambda x: sr_blocks.rlfn(x, weights, scale, num_block=2, img_range=255))


@pytest.mark.parametrize('scale', [2, 3])
def test_bsrn_is_the_papers(scale):
    net, weights = double(TINY['BSRN'], upscale=scale)
    check(net, lambda x: sr_blocks.bsrn(x, weights, scale, num_block=2))


@pytest.mark.parametrize('steps', [[2], [3], [2, 2]])
def test_pan_is_the_papers(steps):
    net, weights = double(TINY['PAN'], upscale=int(np.prod(steps)))
    check(net, lambda x: sr_blocks.pan(x, weights, steps, num_block=2))


@pytest.mark.parametrize('scale', [2, 3])
def test_efdn_is_the_papers(scale):
    net, weights = double(TINY['EFDN'], upscale=scale)
    check(net, lambda x: sr_blocks.efdn(x, weights, scale))


@pytest.mark.parametrize('scale', [2, 3])
def test_fmen_is_the_papers(scale):
    net, weights = double(TINY['FMEN'], upscale=scale)
    check(net, lambda x: sr_blocks.fmen(x, weights, scale, num_block=2, img_range=255))


@pytest.mark.parametrize('levels', [1, 2])
def test_lapsrn_is_the_papers(levels):
    net, weights = double(TINY['LapSRN'], upscale=2**levels)
    check(net, lambda x: sr_blocks.lapsrn(x, weights, levels, depth=2), channels=1, size=(5, 8))


def test_lapsrn_starts_as_bilinear_upsampling():
    net, image = build_network({**TINY['LapSRN'], 'upscale': 2}), torch.rand(1, 1, 9, 11)
    torch.nn.init.zeros_(net.levels[0].residual.weight)
    expected = sr_blocks.bilinear(image[0].numpy(), 18, 22)
    np.testing.assert_allclose(net(image)[0, :, 1:-1, 1:-1].detach(), expected[:, 1:-1, 1:-1], atol=1e-6)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_fsrcnn_is_the_papers(scale):
    net, weights = double(TINY['FSRCNN'], upscale=scale)
    check(net, lambda x: sr_blocks.fsrcnn(x, weights, scale, num_map=4), channels=1, size=(5, 8))


def test_vdsr_is_the_papers():
    net, weights = double(TINY['VDSR'], upscale=3)
    check(net, lambda x: sr_blocks.vdsr(x, weights, scale=3, num_block=2), channels=1, size=(5, 8), tolerance=1e-6)


def test_vdsr_starts_alive():
    """With PyTorch's own start of the weights the correction is 1e-6 of the image, and so is what reaches a weight."""
    torch.manual_seed(0)
    net, image = build_network({'type': 'VDSR', 'upscale': 2}), torch.rand(2, 1, 12, 12)
    assert (net(image) - net.bicubic(image)).std() > 0.1 * image.std()


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('size', [(6, 9), (1, 1), (1, 2), (3, 1)])
def test_enlargement_is_matlabs(scale, size):
    x = torch.rand(2, 3, *size)
    ours = BicubicUpsample(scale)(x).numpy()
    expected = np.stack([sr_blocks.bicubic(one.double().numpy(), scale) for one in x])
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_enlargement_keeps_its_precision_under_autocast():
    x = torch.rand(1, 1, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(BicubicUpsample(2)(x), BicubicUpsample(2).float()(x))


def test_contrast_is_the_population_standard_deviation():
    """On a 2x1 map the sample standard deviation is larger by the square root of 2."""
    attention = ContrastAttention(1, 1).double()
    with torch.no_grad():
        for p, value in zip(attention.parameters(), (1.0, 0.0, 1.0, 0.0)):
            p.fill_(value)
    x = torch.tensor([1.0, 3.0], dtype=torch.float64).view(1, 1, 2, 1)
    expected = x / (1 + np.exp(-(1.0 + 2.0)))
    torch.testing.assert_close(attention(x), expected)


def test_contrast_of_a_constant_channel_has_a_finite_gradient():
    x = torch.ones(1, 4, 3, 3, requires_grad=True)
    ContrastAttention(4, 2)(x).sum().backward()
    assert x.grad.isfinite().all()


def test_contrast_of_large_features_fits_into_half_precision():
    """255 times an image: the sum over the positions, and the squares, are beyond 65,504."""
    x = 1000 * torch.rand(1, 4, 32, 32)
    attention = ContrastAttention(4, 2)
    exact = attention(x)
    half = attention.half()(x.half())
    torch.testing.assert_close(half.float(), exact, rtol=0.02, atol=1)
