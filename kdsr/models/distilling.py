"""The `distillation:` block at work in a model: teachers, taps, losses and views, whatever else it learns from."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from kdsr import options
from kdsr.data.teacher_cache import open_cache
from kdsr.distillation.building import build_loss_at
from kdsr.distillation.cached_teachers import CachedTeachers, without_border
from kdsr.distillation.checkpoint import load_weights, take_weights
from kdsr.distillation.distillation_loss import DistillationLoss, foreign_loss, measurements
from kdsr.distillation.feature_tap import FeatureTap, module_at
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch, NetworkOutput, Teacher
from kdsr.distillation.padding import run_padded
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.distillation.views import View, build_view, view_terms
from kdsr.errors import UserError
from kdsr.experiment import rules
from kdsr.models.student_pass import StudentPass
from kdsr.models.watching import check_reach, norms_by_term

_PERCEPTUAL_SLACK = 6.0  # dB; a wrong range or colour order costs more


class Distilling(StudentPass):
    """Mixin for a model class: its student, `net_g`, also learns from the teachers of the `distillation:` block.

    The other bases of the class take the training step. They call :meth:`distillation_terms` with the student's output
    for each batch and minimise what it returns.

    Attributes:
        teacher: The teachers, called as one.
        tap: Captures the student's features.
        losses: Of `distillation.losses`, by name.
        views: Of `distillation.views`, by name.
    """

    def init_training_settings(self) -> None:
        """Build teachers, taps and losses, then let SRModel build EMA, image losses, optimiser and schedulers."""
        options.check(self.opt)
        experiment = self.experiment
        rules.enforce((*rules.find_objective_problems(experiment), *rules.find_start_problems(experiment)))
        with torch.random.fork_rng(devices=[]):  # the student's own random stream stays that of its baseline
            cache = experiment.used_cache
            self.teacher: Teacher = self.build_teacher().to(self.device)
            self.take_over_weights()
            points = {feature.name: feature.student for feature in experiment.features}
            self.tap = FeatureTap(self.get_bare_model(self.net_g), points)
            student, teacher, pair = self._dry_run()
            example = self.add_discriminated(student, teacher, self._example_discriminator())
            self.losses = self._build_losses(*example, pair)
        self._margin = 0 if cache is None else cache.margin
        compares_images = any(loss.needs_teacher_image for loss in self.losses.values())
        self._needs_image = compares_images or bool(experiment.discriminator_features)
        self._unchecked = experiment.health_check and cache is None
        self.build_rest_of_model()
        with torch.random.fork_rng(devices=[]):
            self.views = self._build_views(pair)

    def build_teacher(self) -> TeacherEnsemble | CachedTeachers:
        """Return the teachers, or the cache of their images, on the CPU."""
        live = self.experiment.used_cache is None
        return build_teachers(self.experiment) if live else open_cache(self.experiment)

    def build_rest_of_model(self) -> None:
        """Let the model class build EMA, its own losses, optimisers and schedulers."""
        super().init_training_settings()

    def take_over_weights(self) -> None:
        """Start from a part of a teacher (`init_from`), before EMA copies the student; a resumed run has its own."""
        init = self.experiment.init_from
        if init is None or self.experiment.resumes:
            return
        assert isinstance(self.teacher, TeacherEnsemble)  # the options refuse a cache of images
        teacher = dict(zip(self.teacher.names, self.teacher.members))[init.teacher].network
        part = module_at(teacher, init.module, 'distillation.init_from.module')
        source = f'{init.module or "the network"} of teacher {init.teacher!r}'
        take_weights(self.get_bare_model(self.net_g), part.state_dict(), source, 'network_g')

    def _build_losses(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> nn.ModuleDict:
        losses = nn.ModuleDict()
        for name, loss_opt in self.experiment.losses.items():
            where = f'distillation.losses.{name}'
            loss = build_loss_at(where, loss_opt)
            if not isinstance(loss, DistillationLoss):
                raise UserError(f'{where}: {foreign_loss(type(loss))}')
            if loss.features is None and self.experiment.features:  # "all" are those of the networks themselves
                loss.features = [feature.name for feature in self.experiment.features]
            self._try_loss(where, loss, (student, teacher, batch))
            losses[name] = loss
        if self.opt['dist']:
            for tensor in losses.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)
        return losses

    def _try_loss(
        self, where: str, loss: DistillationLoss, example: tuple[NetworkOutput, NetworkOutput, Batch]
    ) -> None:
        """Build the helpers of a loss, and run it once: what does not fit shows before the first iteration.

        Raises:
            UserError: the loss does not fit the features, or asks for an image that it does not need.
        """
        student, teacher, batch = example
        seen = teacher if loss.needs_teacher_image else replace(teacher, sr=None)
        try:
            loss.build_helpers(student, teacher)
            with torch.no_grad():
                loss.to(self.device)(student, seen, batch)
        except ValueError as error:
            raise UserError(f'{where}: {error}') from None
        except (TypeError, AttributeError) as error:
            if loss.needs_teacher_image:
                raise
            raise UserError(
                f"{where}: {type(loss).__name__} says `needs_teacher_image = False`, but fails without the teacher's "
                f'image ({error}).'
            ) from error

    @torch.no_grad()
    def _build_views(self, batch: Batch) -> dict[str, View]:
        """Build the views and run each once: what does not fit shows here."""
        views = {}
        for name, view_opt in self.experiment.views.items():
            where = f'distillation.views.{name}'
            views[name] = build_view(where, view_opt, self.losses, batch)
            self.net_g.eval()
            try:
                terms = self._view_terms(views[name], batch)
            except (ValueError, RuntimeError) as error:
                raise UserError(f'{where}: {error}') from error
            finally:
                self.net_g.train()
            if not terms:
                raise UserError(f'{where}: nothing is compared. Views need a loss on images, for example ResponseLoss.')
        return views

    @torch.no_grad()
    def _dry_run(self) -> tuple[NetworkOutput, NetworkOutput, Batch]:
        """Run student and teachers once on a batch of the training size, to learn shapes and in-place changes."""
        network: nn.Module = self.get_bare_model(self.net_g)
        batch = self.example_batch(self._multiples())
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        # what training changes in place, dropout included
        self.tap.calibrate(lambda: network.train()(batch.lq.clone()))
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        network.eval()
        with self.tap as features:
            student = NetworkOutput(network(batch.lq.clone()), features)
        network.train()
        self.teacher.calibrate(batch)
        teacher = self.teacher(batch)
        wanted = batch.require('gt').shape
        if student.image.shape != wanted or teacher.image.shape != wanted:
            sizes = [tuple(image.shape[-2:]) for image in (batch.lq, batch.require('gt'), student.image, teacher.image)]
            raise UserError(
                f'`scale: {self.experiment.scale}` turns {sizes[0]} into {sizes[1]}, but the student returns '
                f'{sizes[2]} and the teacher {sizes[3]}: '
                "make `scale`, `network_g.upscale` and the teachers' `upscale` agree."
            )
        for name in sorted(self.tap.copied):
            get_root_logger().info(
                f'feature {name}: {type(network).__name__} changes {self.tap.points[name]} in place later; '
                'a copy from before the change is compared.'
            )
        return student, teacher, batch

    def _multiples(self) -> dict[str, int]:
        """Return, for each teacher, the number that the sides of its input must be multiples of."""
        if not isinstance(self.teacher, TeacherEnsemble):
            return {}
        return {name: member.multiple for name, member in zip(self.teacher.names, self.teacher.members)}

    def helpers(self) -> Iterator[nn.Parameter]:
        """Yield the trainable parameters of the losses, in a fixed order."""
        return self.losses.parameters()

    def setup_optimizers(self) -> None:
        """Give the losses' helpers the student's optimiser and learning rate."""
        super().setup_optimizers()
        helpers = list(self.helpers())
        if helpers:
            self.optimizer_g.add_param_group({'params': helpers})

    def own_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Run the student on a batch; return the model's image losses and those of the `distillation:` block."""
        with self.tap as features:
            self.output = self.run(self.network_input(batch))
        terms = self.image_terms(self.output, batch.gt)
        terms.update(self.distillation_terms(NetworkOutput(self.output, features), batch))
        return terms

    def distillation_terms(self, student: NetworkOutput, batch: Batch) -> dict[str, Tensor]:
        """Run the teachers on a batch; return the terms of `distillation.losses` and `distillation.views`.

        Args:
            student: Its output for `batch.lq`, with its graph.
            batch: Of the training.
        """
        if self._unchecked:  # on the first batch: no pair is at hand any earlier
            assert isinstance(self.teacher, TeacherEnsemble)
            slack = _PERCEPTUAL_SLACK if self.experiment.model.objective == 'other' else 0.0
            get_root_logger().info(check_teacher(self.teacher, [batch], self.experiment.scale, slack))
            self._unchecked = False
        terms: dict[str, Tensor] = {}
        if self.losses:
            pair = self.add_discriminated(student, self.teacher(batch, self._needs_image))
            compared = without_border(*pair, batch, self._margin)
            terms.update({name: loss(*compared) for name, loss in self.losses.items()})
        self.measured = measurements(self.losses)  # on the pair itself, not on its views
        for name, view in self.views.items():
            terms.update({f'{term}_{name}': value for term, value in self._view_terms(view, batch).items()})
        return terms

    def add_discriminated(
        self, student: NetworkOutput, teacher: NetworkOutput, discriminator: nn.Module | None = None
    ) -> tuple[NetworkOutput, NetworkOutput]:
        """Return both outputs with the features of `distillation.discriminator_features`, if there are any.

        The discriminator runs in eval mode: it learns nothing from this, and its running statistics stay.

        Args:
            student: With its image.
            teacher: With its image.
            discriminator: The bare network; that of the model when None.
        """
        points = self.experiment.discriminator_features
        if not points:
            return student, teacher
        network = self.get_bare_model(self.net_d) if discriminator is None else discriminator
        trained, needed = network.training, [(p, p.requires_grad) for p in network.parameters()]
        network.eval().requires_grad_(False)
        tap = FeatureTap(network, points)
        found = []
        for image in (student.image, teacher.image.detach()):
            tap.calibrate(partial(network, image))
            with tap as features:
                network(image)
            found.append(features)
        network.train(trained)
        for parameter, needs in needed:
            parameter.requires_grad_(needs)
        both = zip((student, teacher), found)
        ours, theirs = (replace(output, features={**output.features, **features}) for output, features in both)
        return ours, theirs

    def _example_discriminator(self) -> nn.Module | None:
        """Return a discriminator with any weights, for a dry run: the model has not built its own yet."""
        if not self.experiment.discriminator_features:
            return None
        return build_network(self.opt['network_d']).to(self.device)

    def check_terms(self, part: Batch) -> None:
        """Check on the first batch that the gradient of every term reaches the student, and log how large it is.

        Buffers and random numbers are restored, so the step that follows is that of a run without this check.

        Raises:
            UserError: a gradient does not reach it.
        """
        learnt = [p for p in self.net_g.parameters() if p.requires_grad]
        kept = [(buffer, buffer.clone()) for module in (self.net_g, self.losses) for buffer in module.buffers()]
        devices = [self.device] if self.device.type == 'cuda' else []
        with torch.random.fork_rng(devices=devices), self.without_wrapper():
            terms = self.own_terms(part)
            norms = norms_by_term(terms, learnt)
        for buffer, value in kept:
            buffer.copy_(value)
        warnings = check_reach(terms, norms)
        log = get_root_logger()
        log.info(
            'Gradients of the first batch: ' + ', '.join(f'{name} {norm:.3g}' for name, norm in norms.items()) + '.'
        )
        for warning in warnings:
            log.warning(warning)

    def _view_terms(self, view: View, batch: Batch) -> dict[str, Tensor]:
        # one forward through DistributedDataParallel is enough: the gradients of these, in the bare network, reach the
        # same parameters before it averages them
        network = partial(self.run, network=self.get_bare_model(self.net_g))
        student = partial(run_padded, network, multiple=self.window())
        return view_terms(view, batch, student, self.teacher, self.losses, self.image_terms)

    def tapped(self) -> Collection[nn.Module]:
        """Return the student's modules whose features are captured."""
        return self.tap.modules

    def after_backward(self) -> None:
        """Do for the helpers what DistributedDataParallel does for the student."""
        if not self.opt['dist']:
            return
        for parameter in self.helpers():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.opt['world_size']

    def _helper_path(self, label: int | str) -> str:
        return os.path.join(self.opt['path']['models'], f'net_distill_{label}.pth')

    def save_helpers(self, label: int | str) -> None:
        """Save the trainable parameters of the losses as `net_distill_<label>.pth`, if there are any."""
        if any(True for _ in self.helpers()):
            self.save_network(self.losses, 'net_distill', label)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore optimisers and schedulers, and the helpers that belong to them."""
        super().resume_training(resume_state)
        if any(True for _ in self.helpers()):
            load_weights(self.losses, self._helper_path(resume_state['iter']), 'params', 'distillation helpers')
