"""What every distillation loss owes to the models that use it, whatever its method."""

import copy

import pytest
import torch

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from tests.helpers.losses import CASES, TABLE, built, gradient, kdsr_losses, mapped, outputs, tensors, with_gradient


def test_every_loss_is_in_the_table():
    assert set(kdsr_losses()) == set(CASES)


@pytest.mark.parametrize('name', sorted(kdsr_losses()))
def test_docstring_and_signature(name):
    loss = kdsr_losses()[name]
    assert issubclass(loss, DistillationLoss)
    for part in ('Args:', 'Shape:', 'Raises:', 'References:', 'Departs from the paper:', 'Needs features:'):
        assert part in loss.__doc__, part
    promises = ' '.join(loss.__doc__.split()).split('Zero when student equals teacher: ')[1]
    cases = CASES[name]
    if promises.startswith('yes'):
        assert all(case.zero_at_equality for case in cases)
    elif promises.startswith('no'):
        assert not any(case.zero_at_equality for case in cases)
    else:
        assert {case.zero_at_equality for case in cases} == {True, False}, 'a condition: show both sides of it'


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_scalar_and_linear_in_its_weight(name, case):
    student, teacher, batch = outputs(case)
    value = built(name, case, student, teacher)(student, teacher, batch)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert value > 0
    weighted = built(name, case, student, teacher, loss_weight=2.5)(student, teacher, batch)
    torch.testing.assert_close(weighted, 2.5 * value)
    assert built(name, case, student, teacher, loss_weight=0.0)(student, teacher, batch) == 0


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_what_it_measures_can_be_logged(name, case):
    student, teacher, batch = outputs(case)
    loss = built(name, case, student, teacher)
    loss(with_gradient(student), teacher, batch)
    assert all(v.shape == () and v.dtype == torch.float32 and not v.requires_grad for v in loss.measured.values())


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_zero_at_equality(name, case):
    _, teacher, batch = outputs(case)
    batch = Batch(batch.lq, batch.gt)
    value = built(name, case, teacher, teacher)(teacher, teacher, batch)
    assert (value.abs() < 1e-6) == case.zero_at_equality


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_gradient_reaches_student_and_helpers_and_never_the_teacher(name, case):
    student, teacher, batch = outputs(case)
    student, teacher = with_gradient(student), with_gradient(teacher)
    loss = built(name, case, student, teacher)
    loss(student, teacher, batch).backward()
    assert gradient(student) > 0
    if not case.on_images:
        assert all(f.grad.abs().sum() > 0 for f in student.features.values())
    for parameter, tensor in loss.named_parameters():
        assert tensor.grad.abs().sum() > 0, parameter
    assert all(x.grad is None for x in tensors(teacher))


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_it_changes_neither_the_batch_nor_the_outputs(name, case):
    student, teacher, batch = outputs(case)
    given = [batch.lq, batch.gt, *tensors(student), *tensors(teacher)]
    before = [tensor.clone() for tensor in given]
    built(name, case, student, teacher)(with_gradient(student), teacher, batch).backward()
    built(name, case, student, teacher)(student, teacher, batch)
    assert all(torch.equal(now, then) for now, then in zip(given, before))


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_order_of_the_batch(name, case):
    student, teacher, batch = outputs(case)
    loss = built(name, case, student, teacher)
    order = torch.tensor([2, 0, 1])
    other = loss(*[mapped(x, lambda t: t[order]) for x in (student, teacher)], Batch(batch.lq[order], batch.gt[order]))
    value = loss(student, teacher, batch)
    assert (abs(other / value - 1) < 1e-5) == case.any_order


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_finite_on_zeros(name, case):
    student, teacher, batch = outputs(case)
    zeros = with_gradient(mapped(student, torch.zeros_like))
    loss = built(name, case, student, teacher)
    for theirs in (teacher, mapped(teacher, torch.zeros_like)):
        value = loss(zeros, theirs, Batch(torch.zeros_like(batch.lq), torch.zeros_like(batch.gt)))
        value.backward()
        assert torch.isfinite(value)
        assert all(x.grad is None or torch.isfinite(x.grad).all() for x in tensors(zeros))
        assert all(torch.isfinite(p.grad).all() for p in loss.parameters() if p.grad is not None)


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_computed_in_single_precision_under_autocast(name, case):
    """Without helpers bf16 outputs give the float32 loss of the same numbers; helpers run in bf16 as networks do."""
    student, teacher, batch = outputs(case)
    loss = built(name, case, student, teacher)
    low = [with_gradient(mapped(x, lambda t: t.bfloat16())) for x in (student, teacher)]
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(*low, batch)
    value.backward()
    assert value.dtype == torch.float32
    assert gradient(low[0]) > 0
    assert all(x.grad is None or torch.isfinite(x.grad).all() for x in tensors(low[0]))
    exact = loss(*[mapped(x, lambda t: t.float()) for x in low], batch)
    torch.testing.assert_close(value, exact, rtol=0.05 if list(loss.parameters()) else 1e-5, atol=1e-7)


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_needs_the_teachers_image_if_it_says_so(name, case):
    """Where no loss needs it, teachers stop at their last tapped layer."""
    student, teacher, batch = outputs(case)
    loss = built(name, case, student, teacher)
    without = NetworkOutput(None, teacher.features)
    if loss.needs_teacher_image:
        with pytest.raises(ValueError, match='needs_teacher_image'):
            loss(student, without, batch)
    else:
        assert loss(student, without, batch) == loss(student, teacher, batch)


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_takes_maps_of_any_memory_layout(name, case):
    student, teacher, batch = outputs(case)
    loss = built(name, case, student, teacher)
    last = [mapped(x, lambda t: t.contiguous(memory_format=torch.channels_last)) for x in (student, teacher)]
    torch.testing.assert_close(loss(*last, batch), loss(student, teacher, batch), rtol=1e-5, atol=1e-7)
    tracked = with_gradient(last[0])
    loss(tracked, last[1], batch).backward()
    assert gradient(tracked) > 0


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_helpers_survive_a_checkpoint(name, case):
    student, teacher, batch = outputs(case)
    loss = built(name, case, student, teacher)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += 0.1
    other = built(name, case, student, teacher)
    if list(loss.parameters()):
        assert other(student, teacher, batch) != loss(student, teacher, batch)
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert other(student, teacher, batch) == loss(student, teacher, batch)


@pytest.mark.parametrize(('name', 'case'), TABLE)
def test_needs_no_gradient_and_no_feature_that_it_does_not_name(name, case):
    """Models call every loss once under no_grad before they train."""
    student, teacher, batch = outputs(case)
    with torch.no_grad():
        loss = built(name, case, student, teacher)
        value = loss(student, teacher, batch)
    torch.testing.assert_close(value, loss(student, teacher, batch).detach())
    if case.on_images:
        assert loss(NetworkOutput(student.sr), NetworkOutput(teacher.sr), batch) == value
    else:
        with pytest.raises(ValueError, match=f'{name}.*distillation.features'):
            loss(NetworkOutput(student.sr), NetworkOutput(teacher.sr), batch)
