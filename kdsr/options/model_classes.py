"""The model classes that an option file can name, and what each one trains. A new model class is one row here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal['student', 'teacher', 'aggregator', 'privileged', 'other']
Shown = Literal['lq', 'gt', 'teacher_images', 'code']
Teachers = Literal['unused', 'optional', 'training', 'always']
Objective = Literal['image', 'distillation', 'other']


@dataclass(frozen=True)
class ModelClass:
    """What is known about a `model_type`.

    Attributes:
        name: The registered name.
        package: Who brings it; 'other' for all that this table does not list.
        trains: Role of `network_g`.
        shown: Input of `network_g`: the low-quality image, the ground truth, or the images of all teachers.
        teachers: When the teachers of the `distillation:` block run: never, in training if there are any, in training,
            or in validation and tests too.
        unused_keys: Keys of the `distillation:` block that the class does not read.
        objective: 'image': losses between its image and the ground truth only; 'distillation': these and
            `distillation.losses`; 'other': more than that (GAN losses, video).
        video: Trains on sequences of frames.
        reads_window: Reads `network_g.window_size` itself.
    """

    name: str
    package: Literal['kdsr', 'BasicSR', 'other'] = 'other'
    trains: Role = 'student'
    shown: Shown = 'lq'
    teachers: Teachers = 'unused'
    unused_keys: tuple[str, ...] = ()
    objective: Objective = 'other'
    video: bool = False
    reads_window: bool = False

    @property
    def known(self) -> bool:
        """Whether this table describes the class."""
        return self.package != 'other'


_ROWS = (
    ModelClass('SRModel', 'BasicSR', objective='image'),
    ModelClass('SwinIRModel', 'BasicSR', objective='image', reads_window=True),
    ModelClass('SRGANModel', 'BasicSR'),
    ModelClass('ESRGANModel', 'BasicSR'),
    ModelClass('RealESRNetModel', 'BasicSR'),
    ModelClass('RealESRGANModel', 'BasicSR'),
    ModelClass('EDVRModel', 'BasicSR', video=True),
    ModelClass('HiFaceGANModel', 'BasicSR'),
    ModelClass('StyleGAN2Model', 'BasicSR'),
    ModelClass('VideoBaseModel', 'BasicSR', video=True),
    ModelClass('VideoGANModel', 'BasicSR', video=True),
    ModelClass('VideoRecurrentModel', 'BasicSR', video=True),
    ModelClass('VideoRecurrentGANModel', 'BasicSR', video=True),
    ModelClass('StudentModel', 'kdsr', objective='image'),
    ModelClass('DistillationModel', 'kdsr', teachers='training', objective='distillation'),
    ModelClass(
        'AggregationModel',
        'kdsr',
        trains='aggregator',
        shown='teacher_images',
        teachers='always',
        unused_keys=('losses', 'features', 'views', 'aggregator', 'init_from'),
        objective='image',
    ),
    ModelClass('PrivilegedTeacherModel', 'kdsr', trains='privileged', shown='gt', objective='image'),
)
MODEL_CLASSES = {row.name: row for row in _ROWS}
BASICSR_MODELS = tuple(row.name for row in _ROWS if row.package == 'BasicSR')
KDSR_MODELS = tuple(row.name for row in _ROWS if row.package == 'kdsr')


def model_class_of(model_type: object) -> ModelClass:
    """Return the row of a `model_type`; one that assumes little for classes of other packages."""
    name = str(model_type)
    return MODEL_CLASSES.get(name, ModelClass(name, teachers='optional', video=name.startswith('Video')))
