"""The experiment that an option file describes, as one typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdsr.errors import UserError
from kdsr.experiment.network import Network
from kdsr.options import Cache, Content, ModelClass

Options = Mapping[str, Any]  # of something that BasicSR builds: `type` and arguments


@dataclass(frozen=True)
class Feature:
    """One entry of `distillation.features`.

    Attributes:
        name: Key of the entry.
        student: Module path in the student; '' where the file lacks it.
        teacher: Module path in the teacher; '' where the file lacks it.
        source: Name of the teacher; '' where the file does not say which of several.
        shrink: How the teacher's map is brought to the student's size: 'average', 'subsample', or None.
    """

    name: str
    student: str
    teacher: str
    source: str
    shrink: str | None = None


@dataclass(frozen=True)
class InitFrom:
    """`distillation.init_from`: the student starts with the weights of the part `module` of a teacher ('': all)."""

    teacher: str
    module: str = ''


@dataclass(frozen=True)
class Training:
    """How one step is taken.

    Attributes:
        crop: Side of the high-resolution crops (`gt_size`), in pixels; 0 where the file names none.
        batch_size: Crops per iteration and device; 0 where the file names none.
        iterations: `total_iter`; 0 where the file names none.
        accumulate: Parts that a batch is run in, one after the other.
        amp: Precision of the network's pass, 'bf16' or 'fp16'; None for single precision.
        channels_last: Keep the channels innermost in memory.
        compile: Compile the network.
        clip_grad_norm: Largest norm of the gradient; None to not clip.
        quantise: 'int8' to compute as the int8 export will; None for not.
        quantise_budget: PSNR in dB that the rounding may cost before training; what costs more stays exact.
        skip_nonfinite: Steps with numbers that are not finite that are left out before the run stops.
        ema_decay: Of the averaged weights; 0 for none.
        image_losses: Key in `train` (`pixel_opt`, `perceptual_opt`, ...) to a loss of BasicSR.
        optimiser: `optim_g`.
        section: All of `train`, as BasicSR reads it.
    """

    crop: int = 0
    batch_size: int = 0
    iterations: int = 0
    accumulate: int = 1
    amp: str | None = None
    channels_last: bool = False
    compile: bool = False
    clip_grad_norm: float | None = None
    quantise: str | None = None
    quantise_budget: float = 0.03
    skip_nonfinite: int = 0
    ema_decay: float = 0.0
    image_losses: Mapping[str, Options] = field(default_factory=dict)
    optimiser: Options = field(default_factory=dict)
    section: Options = field(default_factory=dict)

    @property
    def has_image_loss(self) -> bool:
        """Whether SRModel has a loss of its own."""
        return 'pixel_opt' in self.image_losses or 'perceptual_opt' in self.image_losses


@dataclass(frozen=True)
class Validation:
    """How images are validated and tested (`val`).

    Attributes:
        metrics: Name in the log to the options of a metric of BasicSR.
        quadrants: Run images in four quarters: all of them, or those of the named sets.
        round_gt: Round the luminance of the ground truth to 8 bits, as that of the network's image is.
    """

    metrics: Mapping[str, Options] = field(default_factory=dict)
    quadrants: bool | tuple[str, ...] = False
    round_gt: bool = False

    def in_quadrants(self, set_name: str) -> bool:
        """Return whether the images of a set are run in four quarters."""
        return self.quadrants if isinstance(self.quadrants, bool) else set_name in self.quadrants


@dataclass(frozen=True)
class Experiment:
    """What is trained or tested, with what, on what: everything that kdsr reads from an option file.

    :func:`kdsr.experiment.read_experiment` builds it once from the completed options. The options themselves are for
    BasicSR, which reads its own part of them. What the file lacks or has in a wrong form is left out here;
    :mod:`kdsr.checks` reports it.

    Attributes:
        name: Of the run and its folder.
        model: What is known about its `model_type`.
        is_train: A training; else a test.
        scale: S; 0 where the file names none.
        luminance: `color: y`: RGB images are turned into luminance before any network sees them.
        channels: Of low-quality image and ground truth: 1 for luminance, else 3.
        networks: All that the file names: `network_g`, other networks of BasicSR, the teachers in their order, the
            aggregator of the `distillation:` block.
        features: What losses compare, early to late.
        discriminator_features: Name to module path in `network_d`, whose features of two images losses compare.
        losses: Name in the log to options; losses that a variant switches off (`~`) are left out.
        views: Name to options, likewise.
        init_from: Where the student's first weights come from, if from a teacher.
        cache: The cache that the file names.
        content: What a cache of this experiment holds of a training image, see
            :func:`~kdsr.options.caching.cached_content`.
        health_check: Compare the teachers with bicubic upsampling before anything is learnt from them.
        imports: Other packages whose networks, losses or models it names (`import_modules`).
        resumes: The run goes on from a saved state.
        distributed: It is one of several processes.
        cpu_only: `num_gpu: 0`: it uses no GPU even where there is one.
        datasets: Phase to options.
        training: How a step is taken.
        validation: How images are validated.
    """

    name: str
    model: ModelClass
    is_train: bool = True
    scale: int = 0
    luminance: bool = False
    channels: int = 3
    networks: tuple[Network, ...] = ()
    features: tuple[Feature, ...] = ()
    discriminator_features: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, Options] = field(default_factory=dict)
    views: Mapping[str, Options] = field(default_factory=dict)
    init_from: InitFrom | None = None
    cache: Cache | None = None
    content: Content = 'image'
    health_check: bool = True
    imports: tuple[str, ...] = ()
    resumes: bool = False
    distributed: bool = False
    cpu_only: bool = False
    datasets: Mapping[str, Options] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    validation: Validation = field(default_factory=Validation)

    @property
    def trained(self) -> Network:
        """The network `network_g`, which is trained, or tested.

        Raises:
            UserError: the file has none.
        """
        for network in self.networks:
            if network.path == ('network_g',):
                return network
        raise UserError(f'{self.name}: `network_g` is missing.')

    @property
    def student(self) -> Network | None:
        """The network with the role 'student'; None where another network is trained."""
        return next((network for network in self.networks if network.role == 'student'), None)

    @property
    def teachers(self) -> tuple[Network, ...]:
        """The frozen teachers, in the order in which an aggregator takes their images."""
        return tuple(network for network in self.networks if network.role == 'teacher')

    @property
    def aggregator(self) -> Network | None:
        """The frozen network that fuses the teachers' images (MTKD, stage 2); None without one."""
        return next((n for n in self.networks if n.role == 'aggregator' and n.frozen), None)

    @property
    def frozen(self) -> tuple[Network, ...]:
        """The teachers, then the aggregator if there is one."""
        return tuple(network for network in self.networks if network.frozen)

    @property
    def validation_sets(self) -> dict[str, Options]:
        """Name to options of the validation sets, in the order of the file."""
        return {str(d.get('name')): d for phase, d in self.datasets.items() if phase.split('_')[0] == 'val'}

    def uses(self, network: Network) -> bool:
        """Return whether a network is part of this run: a finished student is tested without its teachers."""
        return not network.frozen or self.is_train or self.model.teachers == 'always'

    def builds(self, network: Network) -> bool:
        """Return whether this run builds a network: where a cache replaces the teachers, it builds none."""
        replaced = network.frozen and self.is_train and self.used_cache is not None and self.content == 'image'
        return self.uses(network) and not replaced

    @property
    def teacher_names(self) -> list[str]:
        """The names of the teachers, in their order."""
        return [teacher.name for teacher in self.teachers]

    @property
    def used_cache(self) -> Cache | None:
        """The cache that the training reads; None where the teachers run live."""
        return None if self.cache is None or self.cache.exact else self.cache

    def taps(self, teacher: str) -> tuple[Feature, ...]:
        """Return the features that are taken from a teacher."""
        return tuple(feature for feature in self.features if feature.source == teacher)

    def live(self) -> Experiment:
        """Return the same experiment with teachers that run, whatever cache it names."""
        networks = tuple(replace(n, input='gt') if n.input == 'code' else n for n in self.networks)
        cache = None if self.cache is None else replace(self.cache, exact=True)
        return replace(self, networks=networks, cache=cache)
