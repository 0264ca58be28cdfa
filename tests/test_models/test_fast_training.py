"""What makes a step faster or smaller: the same training, up to rounding; and nothing of it unless it is asked for."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from basicsr.models.base_model import BaseModel

from kdsr.errors import UserError
from kdsr.models import compiling
from tests.helpers.models import FITNET, ReadValues, batch, same, step, student, weights

ALL = {'amp': 'bf16', 'channels_last': True, 'accumulate': 2, 'clip_grad_norm': 1.0}


def gradients(model):
    """What the optimiser is given."""
    return {n: p.grad.clone() for n, p in model.net_g.named_parameters()}


def close(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], **tolerance)


def test_bf16_is_for_the_networks_pass_only(workspace):
    low, full = student(workspace, amp='bf16'), student(workspace)
    seen = []
    low.net_g.body[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    for model in (low, full):
        step(model)
    assert seen == [torch.bfloat16]
    assert low.output.dtype == torch.float32
    assert {p.dtype for p in low.net_g.parameters()} == {torch.float32}
    with torch.autocast('cpu', torch.bfloat16):
        expected = student(workspace).net_g(batch()['lq']).float()
    assert torch.equal(low.output, expected)
    assert not torch.equal(low.output, full.output)
    assert low.get_current_log()['l_pix'] == pytest.approx((expected - batch()['gt']).abs().mean().item(), rel=1e-6)
    low.test()
    assert seen[-1] == torch.bfloat16  # validation runs the averaged network, in single precision
    assert low.output.dtype == torch.float32


def test_losses_get_features_in_single_precision(workspace, monkeypatch):
    model = student(workspace, 'DistillationModel', amp='bf16')
    seen = []
    for loss in model.losses.values():
        monkeypatch.setattr(loss, 'forward', lambda s, t, b, f=loss.forward: seen.append((s, t)) or f(s, t, b))
    step(model, iteration=2)
    tensors = [x for pair in seen for output in pair for x in (output.sr, *output.features.values())]
    assert len(tensors) == 12
    assert {x.dtype for x in tensors} == {torch.float32}


def test_channels_last_changes_the_layout_and_no_more(workspace):
    last, plain = student(workspace, channels_last=True), student(workspace)
    strides = []
    last.net_g.conv_first.register_forward_hook(lambda module, args, output: strides.append(output.stride()))
    for model in (last, plain):
        for i in range(3):
            step(model, batch(i), i + 1)
    assert all(stride[1] == 1 for stride in strides)
    assert all(
        net.conv_first.weight.is_contiguous(memory_format=torch.channels_last) for net in (last.net_g, last.net_g_ema)
    )
    close(weights(last.net_g), weights(plain.net_g), rtol=1e-3, atol=1e-5)
    last.save(0, 3)
    stored = torch.load(workspace.root / 'models' / 'net_g_3.pth', weights_only=True)
    assert all(tensor.is_contiguous() for key in stored for tensor in stored[key].values())


@pytest.mark.parametrize('model_type', ['StudentModel', 'DistillationModel'])
def test_a_batch_in_parts_gives_the_gradients_and_the_log_of_the_whole(workspace, model_type):
    whole, parts = student(workspace, model_type), student(workspace, model_type, accumulate=2)
    sizes = []
    parts.net_g.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    for model in (whole, parts):
        step(model, iteration=2)  # the first one looks at the terms before
    assert sizes == [1, 1]
    close(gradients(parts), gradients(whole), rtol=1e-4, atol=1e-7)
    assert parts.get_current_log() == pytest.approx(whole.get_current_log(), rel=1e-5)
    steps = {int(state['step']) for state in parts.optimizer_g.state.values()}
    assert steps == {1}


def test_the_gradient_is_clipped_as_one_vector(workspace):
    free, clipped = (
        student(workspace, 'DistillationModel'),
        student(workspace, 'DistillationModel', clip_grad_norm=0.01),
    )
    for model in (free, clipped):
        step(model)
    learnt = [[p.grad for g in m.optimizer_g.param_groups for p in g['params']] for m in (free, clipped)]
    norms = [np.sqrt(sum(float((g.double() ** 2).sum()) for g in grads)) for grads in learnt]
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(0.01, rel=1e-3)
    for one, other in zip(*learnt):
        torch.testing.assert_close(one * (0.01 / norms[0]), other, rtol=1e-3, atol=1e-9)


def test_averaged_weights_are_basicsrs_bit_for_bit(workspace):
    model = student(workspace)
    for i in range(4):
        before = copy.deepcopy(model.net_g_ema)
        step(model, batch(i), i + 1)
        ours, model.net_g_ema = model.net_g_ema, before
        BaseModel.model_ema(model, decay=model.ema_decay)
        assert same(weights(ours), weights(model.net_g_ema))
        model.net_g_ema = ours


def scaled(model):
    """A scale that has been doubled once."""
    model.scaler = torch.amp.GradScaler('cpu', init_scale=8.0, growth_interval=1)
    step(model)
    return model


def test_the_scale_of_fp16_is_saved_and_restored(workspace):
    model = scaled(student(workspace, amp='fp16', clip_grad_norm=0.01))
    assert model.scaler.get_scale() == 16.0
    norm = torch.nn.utils.get_total_norm if hasattr(torch.nn.utils, 'get_total_norm') else None
    if norm:
        assert norm([p.grad for p in model.net_g.parameters()]) == pytest.approx(0.01, rel=1e-2)  # not of scaled ones
    model.save(0, 1)
    state = torch.load(workspace.root / 'models' / '1.state', weights_only=True)
    resumed = student(workspace, amp='fp16')
    resumed.resume_training(state)
    assert resumed.scaler.state_dict() == model.scaler.state_dict()
    student(workspace).resume_training(state)  # fp32 has no use for it


def test_training_states_are_basicsrs(workspace):
    ours, theirs = student(workspace), student(workspace, 'SRModel')
    states = []
    for model in (theirs, ours):
        step(model)
        model.save_training_state(0, 1)
        states.append(torch.load(workspace.root / 'models' / '1.state', weights_only=False))
    assert list(states[0]) == list(states[1])
    assert states[0]['schedulers'] == states[1]['schedulers']
    for i, moments in states[0]['optimizers'][0]['state'].items():
        assert same(moments, states[1]['optimizers'][0]['state'][i])
    student(workspace, 'SRModel').resume_training(states[1])
    student(workspace, amp='fp16').resume_training(states[0])
    ours.save_training_state(0, -1)
    assert not (workspace.root / 'models' / '-1.state').exists()


def test_a_run_is_resumed_in_another_layout_with_a_fused_optimiser(workspace):
    adam = {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99], 'fused': True}
    last, plain = (student(workspace, channels_last=flag, optim_g=dict(adam)) for flag in (True, False))
    assert last.optimizer_g.defaults['fused']
    step(last)
    last.save(0, 1)
    plain.net_g.load_state_dict(last.net_g.state_dict())
    plain.resume_training(torch.load(workspace.root / 'models' / '1.state', weights_only=False))
    for model in (last, plain):
        step(model, batch(1), 2)
    close(weights(plain.net_g), weights(last.net_g), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('model_type', ['StudentModel', 'DistillationModel'])
def test_everything_at_once_trains_through_basicsrs_pipeline(workspace, model_type):
    opt = workspace.options(model_type=model_type, iterations=4)
    opt['train'].update(ALL)
    if model_type == 'DistillationModel':
        teacher = workspace.teacher('RCAN', precision='bf16', channels_last=True, device='cpu')
        taps = {'early': {'student': 'body.0', 'teacher': 'body.1'}}
        opt['distillation'] = {'teachers': [teacher], 'features': taps, 'losses': FITNET}
    folder = workspace.train(opt)
    losses = [
        line.split('l_pix: ')[1].split()[0]
        for line in next(folder.glob('train_*.log')).read_text().splitlines()
        if 'l_pix: ' in line
    ]
    assert len(losses) == 4
    assert np.isfinite([float(loss) for loss in losses]).all()


def test_a_step_reads_nothing_from_the_device(workspace):
    adam = {'type': 'Adam', 'lr': 1e-3, 'fused': True}  # the plain one reads its counters, which are on the CPU
    model = student(workspace, 'DistillationModel', optim_g=adam, **ALL)
    step(model)
    with ReadValues() as reads:
        model.optimize_parameters(2)
        assert reads.count == 0
        model.get_current_log()
    assert reads.count == 3  # the three losses


@pytest.mark.parametrize(
    ('train', 'words'),
    [
        ({'amp': 'bfloat16'}, "train.amp: must be one of bf16, fp16, is 'bfloat16'"),
        ({'channels_last': 1}, 'train.channels_last: must be true or false, is 1'),
        ({'accumulate': True}, 'train.accumulate: must be a whole number, is True'),
        ({'accumulate': 3}, 'train.accumulate: 3.*batch_size_per_gpu: 2'),
        ({'accumulate': 0}, 'train.accumulate: must be at least 1, is 0'),
        ({'clip_grad_norm': 0}, 'train.clip_grad_norm: must be above 0, is 0'),
    ],
)
def test_mistakes_are_told(workspace, train, words):
    with pytest.raises(UserError, match=words):
        student(workspace, **train)


def test_basicsrs_own_model_would_ignore_it(workspace):
    opt = workspace.options()
    opt['train'].update(ALL)
    with pytest.raises(UserError, match=r'train\.amp: `model_type: SRModel` is a class of BasicSR.*StudentModel'):
        workspace.train(opt)


# torch.compile, with a backend that needs no C++ compiler: what is tested is what is handed to it, and when


@pytest.fixture
def traced(monkeypatch):
    """Let torch.compile trace and run the traced graph as it is; return the shapes of what each graph was given."""
    graphs = []

    def backend(graph, inputs):
        def run(*args):
            graphs.append(sum(node.op != 'placeholder' for node in graph.graph.nodes))
            return graph(*args)

        return run

    compiler = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda function: compiler(function, backend=backend))
    yield graphs
    torch._dynamo.reset()


@pytest.mark.parametrize('model_type', ['StudentModel', 'DistillationModel'])
def test_a_compiled_network_computes_the_same_taps_included(workspace, traced, model_type):
    compiled, plain = student(workspace, model_type, compile=True), student(workspace, model_type)
    buffers = weights(compiled.net_g)
    for model in (compiled, plain):
        for i in range(2):
            step(model, batch(i), i + 1)
    assert compiled.get_current_log() == pytest.approx(plain.get_current_log(), rel=1e-5)
    close(weights(compiled.net_g), weights(plain.net_g), rtol=1e-3, atol=1e-5)
    assert buffers.keys() == weights(compiled.net_g).keys()
    parts = 1 if model_type == 'StudentModel' else 4  # three blocks, and the upsampling
    assert len(traced) == parts * 3  # a trial, two steps
    with torch.no_grad():
        compiled.net_g(batch()['lq'])
    assert len(traced) == parts * 3


def test_a_compiler_that_fails_is_told_once_and_training_goes_on(workspace, monkeypatch):
    def broken(function):
        def call(*args):
            raise RuntimeError('no C++ compiler\nlong story')

        return call

    told = []
    monkeypatch.setattr(torch, 'compile', broken)
    monkeypatch.setattr(compiling, 'get_root_logger', lambda: SimpleNamespace(warning=told.append))
    failing, plain = student(workspace, compile=True), student(workspace)
    for model in (failing, plain):
        for i in range(2):
            step(model, batch(i), i + 1)
    assert same(weights(failing.net_g), weights(plain.net_g))
    assert len(told) == 1
    assert 'RuntimeError: no C++ compiler). The run goes on' in told[0]
