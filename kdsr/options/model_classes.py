"""The table of model classes that an option file can name. A new model class is one row here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal['student', 'teacher', 'aggregator', 'privileged', 'other']
NetworkInput = Literal['lq', 'lq_clean', 'gt', 'teacher_images', 'code']
Teachers = Literal['unused', 'optional', 'training', 'always']
Objective = Literal['image', 'distillation', 'other']


@dataclass(frozen=True)
class ModelClass:
    """What is known about a `model_type`.

    Attributes:
        name: The registered name.
        package: Who brings it; 'other' for all that this table does not list.
        trains: Role of `network_g`.
        input: Input of `network_g`: the low-quality image, the ground truth, or the images of all teachers.
        teachers: When the teachers of the `distillation:` block run: never, in training if there is a block, in
            training, or in validation and tests too.
        unused_keys: Keys of the `distillation:` block that the class does not read.
        objective: 'image': losses between its image and the ground truth only; 'distillation': these and
            `distillation.losses`; 'other': more than that (GAN losses, video).
        own_keys: Keys that few classes read, at the top level or in a section (`train.gan_opt`).
        video: Trains on sequences of frames.
        reads_window: Reads `network_g.window_size` itself.
        makes_lq: Makes the low-quality images in each step (blur, noise, JPEG), unless `high_order_degradation: false`.
        relativistic: Its GAN loss compares real and fake images with each other.
    """

    name: str
    package: Literal['kdsr', 'BasicSR', 'other'] = 'other'
    trains: Role = 'student'
    input: NetworkInput = 'lq'
    teachers: Teachers = 'unused'
    unused_keys: tuple[str, ...] = ()
    objective: Objective = 'other'
    own_keys: tuple[str, ...] = ()
    video: bool = False
    reads_window: bool = False
    makes_lq: bool = False
    relativistic: bool = False

    @property
    def known(self) -> bool:
        """Whether this table describes the class."""
        return self.package != 'other'


_GAN = ('network_d', 'train.optim_d', 'train.gan_opt', 'train.net_d_iters', 'train.net_d_init_iters', 'train.ldl_opt')
_DEGRADATION = (
    'queue_size', 'high_order_degradation', 'resize_prob', 'resize_range', 'gray_noise_prob', 'gaussian_noise_prob',
    'noise_range', 'poisson_scale_range', 'jpeg_range', 'second_blur_prob', 'resize_prob2', 'resize_range2',
    'gray_noise_prob2', 'gaussian_noise_prob2', 'noise_range2', 'poisson_scale_range2', 'jpeg_range2', 'gt_size',
)  # fmt: skip
_RECURRENT = ('train.fix_flow', 'train.flow_lr_mul', 'val.flip_seq', 'val.center_frame_only')
_STYLE = (
    'train.r1_reg_weight', 'train.path_reg_weight', 'train.path_batch_shrink', 'train.net_g_reg_every',
    'train.net_d_reg_every', 'train.mixing_prob', 'val.num_val_samples',
)  # fmt: skip

_ROWS = (
    ModelClass('SRModel', 'BasicSR', teachers='optional', objective='image'),
    ModelClass('SwinIRModel', 'BasicSR', teachers='optional', objective='image', reads_window=True),
    ModelClass('SRGANModel', 'BasicSR', teachers='optional', own_keys=_GAN),
    ModelClass('ESRGANModel', 'BasicSR', teachers='optional', own_keys=_GAN, relativistic=True),
    ModelClass('RealESRNetModel', 'BasicSR', teachers='optional', own_keys=(*_DEGRADATION, 'gt_usm'), makes_lq=True),
    ModelClass(
        'RealESRGANModel',
        'BasicSR',
        teachers='optional',
        own_keys=(*_GAN, *_DEGRADATION, 'l1_gt_usm', 'percep_gt_usm', 'gan_gt_usm'),
        makes_lq=True,
    ),
    ModelClass('EDVRModel', 'BasicSR', own_keys=('train.tsa_iter', 'train.dcn_lr_mul'), video=True),
    ModelClass('HiFaceGANModel', 'BasicSR', own_keys=(*_GAN, 'train.feature_matching_opt')),
    ModelClass('StyleGAN2Model', 'BasicSR', own_keys=(*_GAN, *_STYLE)),
    ModelClass('VideoBaseModel', 'BasicSR', video=True),
    ModelClass('VideoGANModel', 'BasicSR', own_keys=_GAN, video=True),
    ModelClass('VideoRecurrentModel', 'BasicSR', own_keys=_RECURRENT, video=True),
    ModelClass('VideoRecurrentGANModel', 'BasicSR', own_keys=(*_GAN, *_RECURRENT, 'train.lr_flow'), video=True),
    ModelClass('StudentModel', 'kdsr', objective='image'),
    ModelClass('DistillationModel', 'kdsr', teachers='training', objective='distillation'),
    ModelClass(
        'AggregationModel',
        'kdsr',
        trains='aggregator',
        input='teacher_images',
        teachers='always',
        unused_keys=('losses', 'features', 'views', 'aggregator', 'init_from'),
        objective='image',
    ),
    ModelClass('PrivilegedTeacherModel', 'kdsr', trains='privileged', input='gt', objective='image'),
)
MODEL_CLASSES = {row.name: row for row in _ROWS}
BASICSR_MODELS = tuple(row.name for row in _ROWS if row.package == 'BasicSR')
KDSR_MODELS = tuple(row.name for row in _ROWS if row.package == 'kdsr')


def model_class_of(model_type: object) -> ModelClass:
    """Return the row of a `model_type`; one that assumes little for classes of other packages."""
    name = str(model_type)
    return MODEL_CLASSES.get(name, ModelClass(name, teachers='optional', video=name.startswith('Video')))
