import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr.distillation.feature_tap import FeatureTap
from kdsr.errors import UserError
from tests.conftest import network_opt


def captured(name, points, lq, calibrate=True):
    """Build a tiny network, tap it, run it; return (network, tap, features, output)."""
    network = build_network(network_opt(name)).eval()
    tap = FeatureTap(network, points)
    if calibrate:
        tap.calibrate(lambda: network(lq))
    with torch.no_grad(), tap as features:
        output = network(lq)
    return network, tap, features, output


@pytest.mark.parametrize('name', ['EDSR', 'RCAN'])
def test_before_and_after_the_in_place_long_skip_are_two_predictable_tensors(name):
    lq = torch.rand(2, 3, 12, 10)
    points = {'before': 'conv_after_body', 'after': 'upsample:input', 'head': 'conv_first'}
    network, tap, features, _ = captured(name, points, lq)
    with torch.no_grad():
        head = network.conv_first((lq - network.mean) * network.img_range)
        trunk = network.conv_after_body(network.body(head))
    assert torch.equal(features['head'], head)
    assert torch.equal(features['before'], trunk)
    assert torch.equal(features['after'], trunk + head)
    assert tap.copied == {'before'}


@pytest.mark.parametrize(
    ('name', 'after'), [('SwinIR', 'conv_before_upsample:input'), ('SwinIRLight', 'upsample:input')]
)
def test_swinir_before_and_after_the_long_skip(name, after):
    lq = torch.rand(1, 3, 8, 12)
    points = {'before': 'conv_after_body', 'after': after, 'head': 'conv_first'}
    _, tap, features, _ = captured(name, points, lq)
    assert torch.equal(features['after'], features['before'] + features['head'])
    assert not tap.copied  # SwinIR adds out of place: nothing to copy


def test_an_uncalibrated_tap_refuses_a_value_that_was_changed_in_place():
    with pytest.raises(RuntimeError, match=r'trunk \(conv_after_body\)'):
        captured('EDSR', {'trunk': 'conv_after_body'}, torch.rand(1, 3, 8, 8), calibrate=False)


def test_the_output_of_a_convolution_before_an_in_place_relu_is_what_the_convolution_gave():
    _, tap, features, _ = captured('EDSR', {'conv': 'body.0.conv1'}, torch.rand(1, 3, 8, 8))
    assert features['conv'].min() < 0
    assert tap.copied == {'conv'}


@pytest.mark.parametrize('name', ['EDSR', 'RCAN', 'SwinIR'])
def test_hooks_change_nothing_and_live_only_inside_the_with(name):
    lq = torch.rand(1, 3, 8, 8)
    network, tap, _, output = captured(name, {'first': 'conv_first', 'last': 'conv_after_body'}, lq)
    with torch.no_grad():
        assert torch.equal(output, network(lq))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    with pytest.raises(ZeroDivisionError), tap:
        _ = 1 / 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_tokens_become_maps_of_the_right_orientation():
    """A change of one input pixel moves the tapped map there, in a picture that is not square."""
    lq = torch.zeros(1, 3, 8, 16)
    network, _, plain, _ = captured('SwinIR', {'f': 'layers.0', 'norm': 'norm'}, lq)
    assert plain['f'].shape == (1, 8, 8, 16)
    assert plain['norm'].shape == (1, 8, 8, 16)  # not told the size: taken from the network's input
    lq[0, :, 2, 13] = 1
    with torch.no_grad(), FeatureTap(network, {'f': 'layers.0'}) as moved:
        network(lq)
    change = (moved['f'] - plain['f']).abs().sum(1)[0]
    row, column = divmod(int(change.argmax()), 16)
    assert abs(row - 2) <= 1  # two 3x3 convolutions can shift the peak by a pixel
    assert abs(column - 13) <= 1


def test_tokens_of_a_smaller_map_take_the_size_that_their_module_is_called_with():
    """As in a Swin network with patches of 2x2 pixels: 32 tokens of an 8x16 input are 4x8."""

    class Layer(nn.Module):
        def forward(self, tokens, size):
            return tokens

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Layer()

        def forward(self, image):
            small = image[..., ::2, ::2]
            return self.layer(small.flatten(2).transpose(1, 2), tuple(small.shape[-2:]))

    image, network = torch.rand(1, 3, 8, 16), Patches()
    with FeatureTap(network, {'f': 'layer'}) as features:
        network(image)
    assert torch.equal(features['f'], image[..., ::2, ::2])


def test_inference_tensors_are_copied_because_they_do_not_tell_when_they_are_changed():
    """Without a calibration: EDSR adds its long skip to `conv_after_body` in place."""
    network = build_network(network_opt('EDSR')).eval()
    lq = torch.rand(1, 3, 8, 8)
    with torch.inference_mode(), FeatureTap(network, {'trunk': 'conv_after_body'}) as features:
        network(lq)
    with torch.no_grad():
        trunk = network.conv_after_body(network.body(network.conv_first((lq - network.mean) * network.img_range)))
    torch.testing.assert_close(features['trunk'].clone(), trunk)


def test_gradient_flows_through_captured_and_copied_features():
    network = build_network(network_opt('EDSR'))
    tap = FeatureTap(network, {'early': 'body.0', 'trunk': 'conv_after_body'})
    lq = torch.rand(1, 3, 8, 8)
    tap.calibrate(lambda: network(lq))
    with tap as features:
        network(lq)
    (features['early'].abs().mean() + features['trunk'].abs().mean()).backward()
    assert network.conv_first.weight.grad.abs().sum() > 0
    assert network.conv_after_body.weight.grad.abs().sum() > 0
    assert network.conv_last.weight.grad is None


def test_features_come_in_the_order_of_the_points():
    _, _, features, _ = captured('EDSR', {'late': 'conv_after_body', 'early': 'body.0'}, torch.rand(1, 3, 8, 8))
    assert list(features) == ['late', 'early']


@pytest.mark.parametrize(
    ('point', 'words'),
    [
        ('body.7', "no module 'body.7'.*Did you mean.*body.0"),
        ('nonsense', 'Its parts are conv_first, body'),
        ('', 'no module'),
    ],
)
def test_an_unknown_path_is_refused_with_the_close_ones(point, words):
    with pytest.raises(UserError, match=words):
        FeatureTap(build_network(network_opt('EDSR')), {'f': point})


def test_what_is_no_map_is_refused():
    with pytest.raises(UserError, match='neither a map'):
        captured('SwinIR', {'f': 'layers.0.residual_group.blocks.0.attn'}, torch.rand(1, 3, 8, 8))


def test_a_module_that_did_not_run_is_named():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1))
    network.unused = torch.nn.Conv2d(3, 3, 1)
    network.forward = lambda x: network[0](x)
    with pytest.raises(UserError, match="'unused' did not run"), FeatureTap(network, {'f': 'unused'}):
        network(torch.rand(1, 3, 4, 4))


class Repeats(torch.nn.Module):
    """Runs `body` twice; `tail` is not tapped."""

    def __init__(self):
        super().__init__()
        self.head, self.body, self.tail = (torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, image):
        return self.tail(self.body(self.body(self.head(image))))


def calls_of(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_a_network_stops_at_its_last_tapped_module_and_the_features_are_the_same():
    network = Repeats()
    tap = FeatureTap(network, {'late': 'body', 'early': 'head:input'})
    image, larger = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 9, 8)
    tap.calibrate(lambda: network(image))
    with torch.no_grad(), tap as whole:
        network(image)
    tail = calls_of(network.tail)
    with torch.no_grad():
        features = tap.features_only(lambda: network(image))
    assert not tail
    assert list(features) == ['late', 'early']
    assert all(torch.equal(features[name], whole[name]) for name in whole)
    assert not any(m._forward_pre_hooks for m in network.modules())
    tap.features_only(lambda: network(larger))  # another size was not calibrated: it may run its modules more often
    assert len(tail) == 1
    with tap:
        network(image)
    assert len(tail) == 2


def test_stopping_is_no_way_around_the_checks():
    network = build_network(network_opt('EDSR')).eval()
    tap = FeatureTap(network, {'a': 'body.0.conv1', 'b': 'body.2'})
    image = torch.rand(1, 3, 8, 8)
    tap.calibrate(lambda: network(image))
    tap._copied.clear()
    with torch.no_grad(), pytest.raises(RuntimeError, match=r'a \(body.0.conv1\)'):
        tap.features_only(lambda: network(image))


def test_low_precision_features_are_given_in_single_precision():
    network = build_network(network_opt('EDSR'))
    tap = FeatureTap(network, {'f': 'body.1'})
    image = torch.rand(1, 3, 8, 8)
    tap.calibrate(lambda: network(image))
    raw = []
    network.body[1].register_forward_hook(lambda module, args, output: raw.append(output))
    with torch.autocast('cpu', torch.bfloat16), tap as features:
        network(image)
    assert raw[0].dtype == torch.bfloat16
    assert torch.equal(features['f'], raw[0].float())
    assert features['f'].dtype == torch.float32
    features['f'].sum().backward()
    assert network.conv_first.weight.grad.abs().sum() > 0
