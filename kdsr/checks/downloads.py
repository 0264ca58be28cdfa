"""What a training would download when it starts."""

from __future__ import annotations

from collections.abc import Iterator

from kdsr.compat.short_errors import describe_vgg_place, find_vgg19
from kdsr.experiment import Experiment
from kdsr.options import WARNING, KeyPath, Problem


def find_download_problems(experiment: Experiment) -> Iterator[Problem]:
    """Warn of losses that need VGG19 where its file is not there: machines without a connection stop at the start."""
    if not experiment.is_train or find_vgg19() is not None:
        return
    users: list[KeyPath] = []
    perceptual = experiment.training.image_losses.get('perceptual_opt')
    if perceptual is not None and perceptual.get('type') == 'PerceptualLoss':
        users.append(('train', 'perceptual_opt'))
    vgg = (name for name, loss in experiment.losses.items() if loss.get('extractor') == 'vgg19')
    users += [('distillation', 'losses', name) for name in vgg]
    for path in users[:1]:
        yield Problem(path, f'the start downloads VGG19. Without a connection: {describe_vgg_place()}', WARNING)
