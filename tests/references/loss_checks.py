"""What must hold for every loss, as assertions that the tests of a loss call."""

import pytest
import torch

from kdsr.distillation.outputs import Batch, NetworkOutput

NO_BATCH = Batch(lq=torch.zeros(1, 3, 4, 4))


def image_output(image):
    return NetworkOutput(sr=image)


def random_images(shape=(2, 3, 16, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def check_image_loss(make_loss):
    """make_loss: loss_weight to a loss on images."""
    image, target = random_images()
    loss = make_loss(1.0)
    check_scale_and_order(lambda weight: make_loss(weight), image_output, image, target)
    image.requires_grad_()
    target.requires_grad_()
    loss(image_output(image), image_output(target), NO_BATCH).backward()
    assert image.grad.abs().sum() > 0
    assert target.grad is None, 'a gradient reaches the teacher'
    assert loss(image_output(target), image_output(target), NO_BATCH) == 0
    check_low_precision_and_zeros(loss, image_output, image.detach(), target.detach())
    with pytest.raises(ValueError, match=r'\(2, 3, 16, 16\).*\(2, 3, 8, 8\)'):
        loss(image_output(image), image_output(target[..., :8, :8]), NO_BATCH)


def check_scale_and_order(make_loss, as_output, student, teacher):
    value = make_loss(1.0)(as_output(student), as_output(teacher), NO_BATCH)
    assert value.shape == ()
    torch.testing.assert_close(make_loss(3.5)(as_output(student), as_output(teacher), NO_BATCH), 3.5 * value)
    assert make_loss(0.0)(as_output(student), as_output(teacher), NO_BATCH) == 0
    swapped = make_loss(1.0)(as_output(student.flip(0)), as_output(teacher.flip(0)), NO_BATCH)
    torch.testing.assert_close(swapped, value)


def check_low_precision_and_zeros(loss, as_output, student, teacher):
    """bf16 images must give the float32 loss of those images: the comparison itself is not done in bf16."""
    rounded = [x.bfloat16() for x in (student, teacher)]
    exact = loss(*[as_output(x.float()) for x in rounded], NO_BATCH)
    with torch.autocast('cpu', torch.bfloat16):
        low = loss(*[as_output(x) for x in rounded], NO_BATCH)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, rtol=1e-5, atol=1e-7)
    zeros = torch.zeros_like(student).requires_grad_()
    value = loss(as_output(zeros), as_output(torch.zeros_like(teacher)), NO_BATCH)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(zeros.grad).all()
