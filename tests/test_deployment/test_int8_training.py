"""`train: {quantise: int8}`: the simulation computes what the exported int8 file computes, and learns."""

import numpy as np
import pytest
import torch
from torch import nn

from kdsr.deployment import formats
from kdsr.deployment.exportable import exportable
from kdsr.deployment.quantisation import quantise
from kdsr.deployment.sources import trained_ranges
from kdsr.distillation.int8_simulation import OBSERVED, Int8Simulation, quantise_activation, scale_and_zero
from kdsr.errors import UserError
from tests.helpers.exports import built
from tests.helpers.models import step, student
from tests.helpers.networks import LUMINANCE


def simulated(name):
    """Return a network whose ranges were observed on noise, and its simulation."""
    network, channels = built(name, 2), 1 if name in LUMINANCE else 3
    simulation = Int8Simulation(network, torch.rand(1, channels, 24, 24))
    for _ in range(OBSERVED):
        simulation.start_step()
        network.train()(torch.rand(2, channels, 24, 24))
    simulation.start_step()
    return network.eval(), simulation, channels


@pytest.mark.parametrize('name', ['RFDN', 'FSRCNN', 'EDSR', 'IMDN', 'CARN-M'])
def test_the_simulation_is_the_exported_file(name):
    """Also where a tensor that a convolution rounds is read by a sum: onnxruntime's own file rounds it for both."""
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    network, simulation, channels = simulated(name)
    image = torch.rand(1, channels, 37, 29)
    model = formats.onnx_bytes(exportable(built(name, 2), 1, 2), formats.example(channels, None), False)
    run = formats.onnx_runner(quantise(model, [image], simulation.ranges()))
    with torch.no_grad():
        expected = network(image)
        loss = (built(name, 2)(image) - expected).abs()
    error = (run(image) - expected).abs()
    assert float(loss.mean()) > 1e-5
    assert float(error.mean()) < 0.02 * float(loss.mean())
    assert float(error.max()) < 0.25 * float(loss.max())


def test_the_file_of_a_network_that_is_rounded_in_part_is_the_simulation():
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    network, simulation, channels = simulated('RFDN')
    image = torch.rand(1, channels, 37, 29)
    some = dict(list(simulation.ranges().items())[::2])
    with torch.no_grad():
        whole = network(image)
        simulation.use(some)
        expected = network(image)
        loss = (built('RFDN', 2)(image) - expected).abs()
    assert not torch.equal(whole, expected)
    model = formats.onnx_bytes(exportable(built('RFDN', 2), 1, 2), formats.example(channels, None), False)
    given = formats.onnx_runner(quantise(model, [image], some))(image)
    assert float(loss.mean()) > 1e-5
    assert float((given - expected).abs().mean()) < 0.02 * float(loss.mean())


def test_what_rounding_would_ruin_stays_in_single_precision():
    """The tensor between '2' and '3' lies about 1000, where 256 levels are far apart; the others are harmless."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(6)))
    with torch.no_grad():
        network[2].bias.add_(1000)
        network[3].bias.sub_(1000 * network[3].weight.sum((1, 2, 3)))
    images = [torch.rand(2, 4, 16, 16) for _ in range(OBSERVED + 1)]
    with torch.no_grad():
        plain = network(images[-1])
    gt = plain + 0.02 * torch.randn_like(plain)
    simulation = Int8Simulation(network, images[0], budget=0.1)
    for image in images:
        simulation.start_step(image, gt if image is images[-1] else network(image).detach() + 0.02)
        with torch.no_grad():
            network.train()(image)
    assert sorted(simulation.exact) == ['2', '3']
    assert sorted(simulation.ranges()) == ['1', '4']
    assert simulation.share_of_work() == 0.5
    with torch.no_grad():
        rounded = network.eval()(images[-1])
    assert not torch.equal(rounded, plain)
    worse = 10 * torch.log10((rounded - gt).square().mean() / (plain - gt).square().mean())
    assert float(worse) < 0.2


def test_one_convolution_is_rounded_as_the_formulas_say():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1), nn.Conv2d(3, 1, 1))
    simulation = Int8Simulation(network, torch.rand(1, 1, 4, 4))
    simulation.use({'1': [-0.5, 1.0, -1.0, 2.0]})
    x = torch.rand(1, 2, 5, 5) * 2 - 1
    with torch.no_grad():
        given = network[1](x).numpy().astype(np.float64)
    weight, bias = (p.detach().numpy().astype(np.float64) for p in network[1].parameters())
    s, t = 1.5 / 255, np.abs(weight).max(axis=(1, 2, 3)) / 64
    rounded = s * (np.clip(np.rint(x.numpy().astype(np.float64) / s) + 85, 0, 255) - 85)
    whole = np.rint(weight[:, :, 0, 0] / t[:, None]) * t[:, None]
    y = np.einsum('oc,nchw->nohw', whole, rounded) + (np.rint(bias / (s * t)) * s * t)[None, :, None, None]
    step_size = 3 / 255
    expected = step_size * (np.clip(np.rint(y / step_size) + 85, 0, 255) - 85)
    assert np.abs(given - expected).max() < 1e-5


def test_a_range_holds_zero_and_the_gradient_stops_at_its_ends():
    assert scale_and_zero(0.5, 1.0) == (pytest.approx(1 / 255), 0)
    assert scale_and_zero(0.0, 0.0) == (1.0, 0)
    x = torch.tensor([-2.0, 0.3, 2.0], requires_grad=True)
    quantise_activation(x, (-1.0, 1.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_convolutions_of_one_tensor_share_its_range():
    network = built('RFDN', 2)
    simulation = Int8Simulation(network, torch.rand(1, 3, 16, 16))
    slots = simulation._slots
    assert slots['body.0.distill.0'][0] == slots['body.0.refine.0'][0]
    assert slots['body.0.distill.1'][0] == slots['body.0.refine.1'][0] != slots['body.0.refine.0'][0]
    assert not {'conv_first', 'upsample.0'} & set(slots)


def test_a_run_learns_with_the_rounding_and_keeps_its_ranges(workspace):
    model = student(workspace, quantise='int8')
    before = {name: p.clone() for name, p in model.net_g.named_parameters()}
    for iteration in range(1, OBSERVED + 1):
        step(model, iteration=iteration)
    assert 'int8' not in model.checkpoint_extras()
    step(model, iteration=OBSERVED + 1)
    ranges = model.checkpoint_extras()['int8']
    assert sorted(ranges) == sorted(model.int8._slots)
    assert all(not torch.equal(before[name], p) for name, p in model.net_g.named_parameters())
    model.save(0, OBSERVED + 1)
    path = str(workspace.root / 'models' / f'net_g_{OBSERVED + 1}.pth')
    assert trained_ranges(path) == ranges
    plain = student(workspace)
    plain.net_g.load_state_dict(torch.load(path)['params'])  # the names of the weights are the student's own
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(plain.net_g.eval()(image), model.net_g.eval()(image))
    resumed = student(workspace, quantise='int8')
    resumed.resume_training(torch.load(workspace.root / 'models' / f'{OBSERVED + 1}.state', weights_only=True))
    assert resumed.int8.ranges() == ranges


def test_mistakes_are_told(workspace):
    with pytest.raises(UserError, match='leave out `amp`'):
        student(workspace, quantise='int8', amp='bf16')
    torch.save({'params': {}, 'int8': {'conv': [1.0, float('nan')]}}, 'bad.pth')
    with pytest.raises(UserError, match='damaged'):
        trained_ranges('bad.pth')
