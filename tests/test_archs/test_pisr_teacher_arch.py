import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from kdsr.distillation.feature_tap import FeatureTap
from kdsr.errors import UserError
from tests.references import sr_blocks

# The students of PISR (Lee et al., ECCV 2020), and where each is tapped: what goes into its reconstruction.
STUDENTS = {
    'FSRCNN': ({'type': 'FSRCNN'}, 'expanding', 56, 1),
    'FSRCNN-L': ({'type': 'FSRCNN', 'num_shrink': 56}, 'expanding', 56, 1),
    'VDSR': ({'type': 'VDSR', 'num_block': 2}, 'body.1', 64, 2),
    'IDN': ({'type': 'IDN', 'num_in_ch': 1, 'upsampler': 'deconv'}, 'body.3', 64, 1),
    'CARN': ({'type': 'CARN', 'rgb_mean': [0.4379]}, 'body', 64, 1),
}


def teacher(**settings):
    return build_network({'type': 'PISRTeacher', **settings})


def tapped(network, image, **points):
    tap = FeatureTap(network, points)
    with torch.no_grad(), tap as features:
        image = network(image)
    return image, features


@pytest.mark.parametrize(('scale', 'side'), [(2, 96), (3, 64), (4, 48)])
def test_the_published_sizes(scale, side):
    network = teacher(upscale=scale)
    assert sum(p.numel() for p in network.encoder.parameters()) == 86_084
    image, features = tapped(network, torch.rand(1, 1, 192, 192), x='encoder', f='decoder.expanding')
    assert image.shape == (1, 1, 192, 192)
    assert features['x'].shape == (1, 1, side, side)
    assert features['f'].shape == (1, 56, side, side)


@pytest.mark.parametrize('scale', [2, 3])
def test_it_is_the_papers(scale):
    """Against NumPy, with an image whose encoding has negative values: no activation follows the last convolution."""
    decoder = {'type': 'FSRCNN', 'num_feat': 6, 'num_shrink': 3, 'num_map': 1}
    network = teacher(upscale=scale, num_feat=8, num_shrink=4, decoder=decoder).double()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
        network.encoder[6].bias.fill_(-0.1)
    y = torch.rand(1, 1, 6 * scale, 4 * scale, dtype=torch.float64)
    image, features = tapped(network, y, x='encoder')
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    x = sr_blocks.pisr_encoder(y[0].numpy(), weights, scale)
    assert x.min() < 0
    np.testing.assert_allclose(features['x'][0].numpy(), x, atol=1e-12)
    expected = sr_blocks.fsrcnn(x, sr_blocks.part(weights, 'decoder'), scale, num_map=1)
    np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize('name', STUDENTS)
def test_any_student_is_a_decoder_with_the_students_own_weights_and_taps(name):
    options, path, channels, magnified = STUDENTS[name]
    network, student = teacher(upscale=2, decoder=options), build_network({**options, 'upscale': 2})
    assert network.decoder.state_dict().keys() == student.state_dict().keys()
    student.load_state_dict(network.decoder.state_dict())
    image, features = tapped(network, torch.rand(1, 1, 16, 20), x='encoder', f=f'decoder.{path}')
    own, own_features = tapped(student, features['x'], f=path)
    assert torch.equal(image, own)
    assert torch.equal(features['f'], own_features['f'])
    assert features['f'].shape == (1, channels, 8 * magnified, 10 * magnified)


def test_sides_that_are_no_multiples_of_the_scale_come_out_larger():
    with torch.no_grad():
        assert teacher(upscale=3)(torch.rand(1, 1, 10, 12)).shape == (1, 1, 12, 12)


def test_a_decoder_that_does_not_fit_is_reported():
    with pytest.raises(UserError, match=r'decoder.upscale: 3.*upscale: 2'):
        teacher(upscale=2, decoder={'type': 'FSRCNN', 'upscale': 3})
    with pytest.raises(UserError, match="decoder: FSRCNN has no option 'num_shrinks'"):
        teacher(upscale=2, decoder={'type': 'FSRCNN', 'num_shrinks': 3})
    with pytest.raises(UserError, match=r'decoder: needs a `type:`'):
        teacher(upscale=2, decoder={'num_shrink': 3})
