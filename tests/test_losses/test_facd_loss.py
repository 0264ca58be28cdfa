import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.losses.facd_loss import NEGATIVES, FACDLoss, adaptive_indicator, contrastive_ratio, info_nce
from kdsr.losses.sample_pairs import CPU_NUMBERS, pairwise_l1
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.memory import LargestTensor

UNORDERED = ['global_pairs_sym', 'per_anchor', 'all_ordered']
WEIGHTS = (0.5, 0.3, 0.2)
COMPONENTS = [  # adaptive, use_gt_l1, use_teacher_l1, use_contrast: the rows of Table 7, and the adaptive halves
    (False, True, False, False),
    (False, True, True, False),
    (False, True, False, True),
    (False, False, True, True),
    (False, True, True, True),
    (True, True, True, True),
    (True, True, False, True),
    (True, False, True, False),
]


def random(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def array(tensor):
    return tensor.detach().double().numpy()


def case(samples=4, size=3, channels=(2, 3)):
    """The first sample's student image is nearer to the ground truth than the teacher's, the others' are not."""
    gt = 0.5 + 0.1 * random((samples, 3, 2 * size, 2 * size), 0)
    image, target = gt + 0.05 * random(gt.shape, 1), gt + 0.02 * random(gt.shape, 2)
    target[0] += 0.2
    student, teacher = (
        NetworkOutput(sr, {f'f{j}': random((samples, c, size, size), 10 * j + c) for j in range(3)})
        for sr, c in zip((image, target), channels)
    )
    return student, teacher, Batch(lq=gt[..., ::2, ::2], gt=gt)


def make_loss(student, teacher, **options):
    torch.manual_seed(0)
    loss = FACDLoss(**options)
    loss.build_helpers(student, teacher)
    return loss


def trainable(student):
    for tensor in (student.sr, *student.features.values()):
        tensor.requires_grad_()
    return student


def permuted(output, order):
    return NetworkOutput(output.sr[order], {name: f[order] for name, f in output.features.items()})


def regressed(loss, name, feature):
    if not loss.regressors:
        return feature
    return feature_losses.regress(feature, *feature_losses.regressor_arguments(loss.regressors[helper_key(name)]))


def check_gradient(actual, function, x, name=''):
    expected = numerical_gradient(function, x)
    np.testing.assert_allclose(array(actual), expected, atol=1e-4 * abs(expected).max(), err_msg=name)


@pytest.mark.parametrize('negatives', NEGATIVES)
@pytest.mark.parametrize('adaptive', [True, False])
def test_value_and_gradient(negatives, adaptive):
    student, teacher, batch = case()
    loss = make_loss(trainable(student), teacher, negatives=negatives, adaptive=adaptive)
    value = loss(student, teacher, batch)
    value.backward()
    image, target, gt = array(student.sr), array(teacher.sr), array(batch.gt)
    alpha = feature_losses.indicator(image, target, gt) if adaptive else [1.0] * 4
    assert alpha == ([0.0, 1.0, 1.0, 1.0] if adaptive else [1.0] * 4)

    def image_loss(x):
        return 255 * feature_losses.facd_image_loss(x, target, gt, alpha)

    expected = image_loss(image)
    check_gradient(student.sr.grad, image_loss, image)
    for weight, (name, feature) in zip(WEIGHTS, student.features.items()):

        def contrast(x, weight=weight, name=name):
            theirs = array(teacher.features[name])
            return 4 * weight * feature_losses.facd_ratio(regressed(loss, name, x), theirs, alpha, negatives)

        expected += contrast(array(feature))
        check_gradient(feature.grad, contrast, array(feature), name)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('similarity', ['infonce', 'infonce_dot'])
def test_value_and_gradient_of_infonce(similarity):
    student, teacher, batch = case()
    loss = make_loss(trainable(student), teacher, similarity=similarity, tau=0.3, use_gt_l1=False, use_teacher_l1=False)
    value = loss(student, teacher, batch)
    value.backward()
    expected = 0
    for weight, (name, feature) in zip(WEIGHTS, student.features.items()):

        def contrast(x, weight=weight, name=name):
            ours, theirs = regressed(loss, name, x), array(teacher.features[name])
            return 4 * weight * feature_losses.facd_info_nce(ours, theirs, [0.0, 1, 1, 1], 0.3, dot='dot' in similarity)

        expected += contrast(array(feature))
        check_gradient(feature.grad, contrast, array(feature), name)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('negatives', NEGATIVES)
def test_value_and_gradient_in_the_image_domain(negatives):
    student, teacher, batch = case()
    loss = make_loss(trainable(student), teacher, domain='image', negatives=negatives)
    assert not list(loss.parameters())
    value = loss(NetworkOutput(student.sr), NetworkOutput(teacher.sr), batch)
    value.backward()
    target, gt, alpha = array(teacher.sr), array(batch.gt), [0.0, 1, 1, 1]

    def reference(x):
        image_loss = 255 * feature_losses.facd_image_loss(x, target, gt, alpha)
        return image_loss + 4 * feature_losses.facd_ratio(x, target, alpha, negatives)

    assert value.item() == pytest.approx(reference(array(student.sr)), rel=1e-5)
    check_gradient(student.sr.grad, reference, array(student.sr))


@pytest.mark.parametrize('components', COMPONENTS)
def test_components(components):
    adaptive, use_gt, use_teacher, use_contrast = components
    student, teacher, batch = case()
    names = ('adaptive', 'use_gt_l1', 'use_teacher_l1', 'use_contrast')
    loss = make_loss(student, teacher, **dict(zip(names, components)))
    alpha = [0.0 if adaptive else 1.0, 1, 1, 1]
    images = [array(x) for x in (student.sr, teacher.sr, batch.gt)]
    expected = 255 * feature_losses.facd_image_loss(*images, alpha, use_gt, use_teacher)
    for weight, name in zip(WEIGHTS, student.features):
        ours, theirs = (array(x.features[name]) for x in (student, teacher))
        if use_contrast:
            ours = regressed(loss, name, ours)
            expected += 4 * weight * feature_losses.facd_ratio(ours, theirs, alpha, 'global_pairs')
    assert loss(student, teacher, batch).item() == pytest.approx(expected, rel=1e-5)
    assert bool(list(loss.parameters())) == use_contrast


def test_by_hand():
    """Distances (1 2 3; 4 5 6; 7 8 9): positives 1, 5, 9, above the diagonal 2 + 3 + 6, below it 4 + 7 + 8."""
    d = torch.arange(1.0, 10).view(3, 3)
    alpha = torch.tensor([1.0, 0, 1])
    expected = {
        'global_pairs': 10 / 11,
        'global_pairs_reversed': 10 / 19,
        'global_pairs_sym': 10 / 15,
        'all_ordered': 10 / 30,
        'per_anchor': 1 / 5 + 9 / 15,
    }
    for negatives, value in expected.items():
        assert contrastive_ratio(d, alpha, negatives).item() == pytest.approx(value)
    assert len(expected) == len(NEGATIVES)
    cosines = torch.tensor([[0.0, 0.1 * np.log(3)], [0.0, 0.0]], dtype=torch.float64)
    assert info_nce(cosines, torch.tensor([1.0, 1])).item() == pytest.approx((np.log(4) + np.log(2)) / 2)
    assert info_nce(cosines, torch.tensor([0.0, 1])).item() == pytest.approx(np.log(2) / 2)


def test_image_loss_by_hand():
    """Student 3 and 3, ground truth 0, teacher 1 (better) and 4 (worse): (1*3 + 2)/2 and (2*3)/2, their mean 2.75."""
    image, target, gt = (torch.tensor(v).view(2, 1, 1, 1) for v in ([3.0, 3], [1.0, 4], [0.0, 0]))
    loss = FACDLoss(use_contrast=False, loss_range=1)
    value = loss(NetworkOutput(image), NetworkOutput(target), Batch(lq=gt, gt=gt))
    assert value.item() == pytest.approx(2.75)


def test_indicator_is_per_sample_and_ties_copy_the_teacher():
    gt = torch.zeros(3, 1, 2, 2)
    image, target = gt + torch.tensor([1.0, 2, 3]).view(3, 1, 1, 1), gt - 2
    assert adaptive_indicator(image.requires_grad_(), target, gt).tolist() == [0, 1, 1]
    assert not adaptive_indicator(image, target, gt).requires_grad
    student, teacher, batch = case()
    adaptive, plain = (make_loss(student, teacher, adaptive=a)(student, teacher, batch) for a in (True, False))
    assert abs(adaptive - plain) > 1e-2, 'one rejected sample changes the loss: alpha is no property of the batch'


@pytest.mark.parametrize('options', [{}, {'adaptive': False}, {'adaptive': False, 'use_gt_l1': False}])
def test_the_share_of_samples_with_a_better_student_is_measured(options):
    """Also by FCD, which does not use it; not without a ground truth."""
    student, teacher, batch = case()
    loss = make_loss(student, teacher, use_contrast=False, **options)
    loss(student, teacher, batch)
    assert {name: float(value) for name, value in loss.measured.items()} == {'rejected': 0.25}
    if options.get('use_gt_l1') is False:
        loss = make_loss(student, teacher, **options)
        loss(student, teacher, Batch(batch.lq))
        assert set(loss.measured) == {'image', 'contrast'}


@pytest.mark.parametrize('loss_range', [255, 1])
def test_image_loss_and_contrast_are_measured_apart(loss_range):
    student, teacher, batch = case()
    loss = make_loss(student, teacher, loss_range=loss_range, loss_weight=0.5)
    value = loss(student, teacher, batch)
    image, target, gt = array(student.sr), array(teacher.sr), array(batch.gt)
    expected = 0.5 * loss_range * feature_losses.facd_image_loss(image, target, gt, [0.0, 1, 1, 1])
    assert loss.measured['image'].item() == pytest.approx(expected, rel=1e-5)
    assert (loss.measured['image'] + loss.measured['contrast']).item() == pytest.approx(value.item(), rel=1e-6)
    assert loss.measured['contrast'] > 0


def test_only_the_numerator_is_gated():
    """A rejected sample is no positive, and remains a negative of the others."""
    d = torch.rand(4, 4, dtype=torch.float64).requires_grad_()
    contrastive_ratio(d, torch.tensor([0.0, 1, 1, 1])).backward()
    assert d.grad[0, 0] == 0
    assert (d.grad[0, 1:] < 0).all()
    assert (d.grad.diagonal()[1:] > 0).all()


def test_order_of_the_batch():
    student, teacher, batch = case()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = permuted(student, order), permuted(teacher, order), Batch(batch.lq[order], batch.gt[order])
    values = {}
    pairs = [('per_anchor', 'infonce'), ('per_anchor', 'infonce_dot')]
    for negatives, similarity in [*itertools.product(NEGATIVES, ['l1_ratio']), *pairs]:
        loss = make_loss(student, teacher, negatives=negatives, similarity=similarity, contrast_weight=100)
        values[negatives, similarity] = loss(student, teacher, batch).item()
        change = abs(loss(*shuffled).item() / values[negatives, similarity] - 1)
        assert (change < 1e-5) == (negatives in UNORDERED), negatives
    assert len({round(v, 3) for v in values.values()}) == len(values)


@pytest.mark.parametrize('negatives', NEGATIVES)
@pytest.mark.parametrize('similarity', ['l1_ratio', 'infonce', 'infonce_dot'])
def test_contrast_of_one_sample_or_of_rejected_ones_is_exactly_zero(negatives, similarity):
    options = {'negatives': negatives, 'similarity': similarity, 'use_gt_l1': False, 'use_teacher_l1': False}
    for samples in (1, 3):
        student, teacher, batch = case(samples)
        batch = Batch(batch.lq, student.sr.clone() if samples > 1 else teacher.sr)  # rejects all; rejects none
        loss = make_loss(trainable(student), teacher, **options)
        value = loss(student, teacher, batch)
        value.backward()
        assert value == 0
        for tensor in (*student.features.values(), *loss.parameters()):
            assert tensor.grad is not None
            assert not tensor.grad.any()


def test_distances_of_pairs_and_their_gradient(monkeypatch):
    """A few elements at a time, uneven at the end."""
    monkeypatch.setattr('kdsr.losses.sample_pairs.CPU_NUMBERS', 3 * 5 * 4)
    ours, theirs = random((3, 2, 3, 3), 1).double().requires_grad_(), random((5, 2, 3, 3), 2).double()
    distances = pairwise_l1(ours, theirs)
    weight = random((3, 5), 3).double()
    (weight * distances).sum().backward()
    expected = (ours[:, None] - theirs).abs().mean((2, 3, 4))
    torch.testing.assert_close(distances, expected)
    (gradient,) = torch.autograd.grad((weight * expected).sum(), ours)
    torch.testing.assert_close(ours.grad, gradient)


def test_distances_copy_no_sample():
    """All pairs side by side would take 16 x 16 x 16 KB; only the features themselves and the working part exist."""
    ours, theirs = random((16, 4096), 1).requires_grad_(), random((16, 4096), 2)
    limit = max(CPU_NUMBERS, ours.numel()) * 4
    assert limit < 16 * 16 * 4096 * 4 / 3
    with LargestTensor() as held:
        pairwise_l1(ours, theirs).sum().backward()
    assert ours.grad.any()
    assert held.largest <= limit


def test_gradient_reaches_helpers_but_no_teacher():
    for options in ({}, {'similarity': 'infonce'}, {'narrow': True, 'kernel_size': 3}):
        student, teacher, batch = case(channels=(8, 8))
        loss = make_loss(trainable(student), trainable(teacher), **options)
        loss(student, teacher, batch).backward()
        assert all(p.grad.abs().sum() > 0 for p in loss.parameters())
        assert all(x.grad is None for x in (teacher.sr, *teacher.features.values()))


@pytest.mark.parametrize('options', [{}, {'domain': 'image'}, {'similarity': 'infonce'}])
def test_published_range_is_255_times_the_other(options):
    student, teacher, batch = case(channels=(3, 3))
    student, teacher = (
        NetworkOutput(x.sr.double(), {n: f.double() for n, f in x.features.items()}) for x in (student, teacher)
    )
    values = [
        make_loss(student, teacher, regressor='none', loss_range=r, **options)(student, teacher, batch)
        for r in (255, 1)
    ]
    assert (values[0] / values[1]).item() == pytest.approx(255, rel=1e-12)


@pytest.mark.parametrize('options', [{}, {'similarity': 'infonce'}, {'negatives': 'per_anchor'}])
def test_zero_features(options):
    student, teacher, batch = case(channels=(3, 3))
    for theirs in (torch.zeros(4, 3, 3, 3), random((4, 3, 3, 3), 5)):
        zeros = NetworkOutput(student.sr, {f'f{j}': torch.zeros(4, 3, 3, 3, requires_grad=True) for j in range(3)})
        target = NetworkOutput(teacher.sr, dict.fromkeys(zeros.features, theirs))
        value = make_loss(zeros, target, regressor='none', **options)(zeros, target, batch)
        value.backward()
        assert torch.isfinite(value)
        assert all(f.grad.abs().max() < 100 for f in zeros.features.values())


def test_messages():
    student, teacher, batch = case()
    with pytest.raises(ValueError, match=r"2 `layer_weights` \[0.5, 0.5\] for the 3 features \['f0', 'f1', 'f2'\]"):
        make_loss(student, teacher, layer_weights=[0.5, 0.5])(student, teacher, batch)
    with pytest.raises(ValueError, match='needs the ground truth'):
        make_loss(student, teacher)(student, teacher, Batch(batch.lq))
    fcd = make_loss(student, teacher, adaptive=False, use_gt_l1=False)
    assert fcd(student, teacher, Batch(batch.lq)) > 0
    with pytest.raises(ValueError, match=r'ground truth is \(4, 3, 3, 3\).*\(4, 3, 6, 6\)'):
        make_loss(student, teacher)(student, teacher, Batch(batch.lq, batch.lq))
    with pytest.raises(ValueError, match=r"regressor: none.*feature 'f0' is \(4, 2, 3, 3\).*\(4, 3, 3, 3\)"):
        make_loss(student, teacher, regressor='none')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'negatives': 'global'}, 'global_pairs, global_pairs_sym, per_anchor, all_ordered, global_pairs_reversed'),
        ({'similarity': 'l1'}, 'l1_ratio, infonce'),
        ({'domain': 'images'}, 'feature, image'),
        ({'tau': 0}, 'above 0'),
        ({'loss_range': 2}, '255'),
        ({'use_gt_l1': False, 'use_teacher_l1': False, 'use_contrast': False}, 'needs one of'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        FACDLoss(**options)


PROCESS = textwrap.dedent("""
    import os
    import sys
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from kdsr.distillation.outputs import Batch, NetworkOutput
    from kdsr.losses.facd_loss import FACDLoss

    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    case = torch.load(f'{folder}/case.pt', weights_only=True)
    student = torch.nn.Conv2d(3, 3, 3, padding=1)
    student.load_state_dict(case['student'])
    student = DistributedDataParallel(student)
    own = slice(2 * rank, 2 * rank + 2)
    lq, gt, target, feature = (case[k][own] for k in ('lq', 'gt', 'target', 'feature'))
    results = []
    for options in case['options']:
        loss = FACDLoss(layer_weights=[1.0], kernel_size=3, **options)
        output = student(lq)
        ours, theirs = NetworkOutput(output, {'f': output}), NetworkOutput(target, {'f': feature})
        loss.build_helpers(ours, theirs)
        loss.load_state_dict(case['helpers'])
        student.zero_grad()
        value = loss(ours, theirs, Batch(lq, gt))
        value.backward()
        gradients = [p.grad.clone() for p in student.parameters()]
        for p in loss.parameters():  # what DistillationModel does with helpers
            torch.distributed.all_reduce(p.grad)
            gradients.append(p.grad / 2)
        torch.distributed.all_reduce(value.detach_())
        results.append((value / 2, gradients))
    torch.save(results, f'{folder}/result{rank}.pt')
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads may abort an interpreter that takes its time to end
""")


def one_process(case):
    """The same on the whole batch: (value, gradients of student and helpers) for each set of options."""
    for options in case['options']:
        student = torch.nn.Conv2d(3, 3, 3, padding=1)
        student.load_state_dict(case['student'])
        output = student(case['lq'])
        ours, theirs = NetworkOutput(output, {'f': output}), NetworkOutput(case['target'], {'f': case['feature']})
        loss = make_loss(ours, theirs, layer_weights=[1.0], kernel_size=3, **options)
        loss.load_state_dict(case['helpers'])
        value = loss(ours, theirs, Batch(case['lq'], case['gt']))
        value.backward()
        yield value.detach(), [p.grad for p in (*student.parameters(), *loss.parameters())]


@pytest.mark.slow
def test_two_processes_with_two_samples_each_equal_one_with_four(tmp_path):
    options = [{'negatives': n, 'contrast_weight': 100.0} for n in NEGATIVES]
    options += [{'similarity': 'infonce', 'contrast_weight': 100.0}]
    lq, feature = random((4, 3, 6, 6), 1), random((4, 5, 6, 6), 2)
    student = torch.nn.Conv2d(3, 3, 3, padding=1)
    output = student(lq).detach()
    gt = output + 0.1 * random(output.shape, 3)
    target = gt + 0.01 * random(output.shape, 4)
    target[3] += 1
    assert adaptive_indicator(output, target, gt).tolist() == [1, 1, 1, 0]
    helpers = make_loss(
        NetworkOutput(output, {'f': output}), NetworkOutput(output, {'f': feature}), kernel_size=3
    ).state_dict()
    case = {'options': options, 'lq': lq, 'gt': gt, 'target': target, 'feature': feature, 'helpers': helpers}
    case['student'] = student.state_dict()
    torch.save(case, tmp_path / 'case.pt')
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHONPATH': str(Path(__file__).parents[2]),
    }
    command = [sys.executable, '-W', 'ignore', '-W', 'error::FutureWarning', '-c', PROCESS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], env=env, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    both = [torch.load(tmp_path / f'result{rank}.pt', weights_only=True) for rank in (0, 1)]
    for option, expected, *actual in zip(options, one_process(case), *both):
        for value, gradients in actual:
            torch.testing.assert_close(value, expected[0], msg=lambda m, o=option: f'{o}: {m}')
            for ours, theirs in zip(gradients, expected[1]):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda m, o=option: f'{o}: {m}')
