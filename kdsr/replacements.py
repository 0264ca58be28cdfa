"""Every attribute of BasicSR that kdsr replaces, in one table: by what, and why.

Nothing is replaced twice. A replacement shows in its body what happens, in its order, and may call BasicSR's function.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

from kdsr.compat import (
    cuda_calls,
    dataset_files,
    distributed,
    folders,
    lmdb_files,
    loading,
    option_files,
    prefetching,
    registry,
    short_errors,
    swinir,
)
from kdsr.lifecycle import console, loaders, optimisers, pipeline, progress, resuming, saving

_TRAIN, _TEST, _OPTIONS = 'basicsr.train', 'basicsr.test', 'basicsr.utils.options'
_MODEL = 'basicsr.models.base_model.BaseModel'
_DATA = 'basicsr.data.*'
_READING_NETWORKS = tuple(
    f'basicsr.archs.{name}' for name in ('spynet_arch', 'dfdnet_arch', 'basicvsr_arch', 'tof_arch', 'vgg_arch')
)
_PREFETCH = 'basicsr.data.prefetch_dataloader.PrefetchGenerator'


@dataclass(frozen=True)
class Replacement:
    """One function of BasicSR that kdsr replaces.

    Attributes:
        owners: The modules or classes that hold it, as dotted names; ``basicsr.data.*`` stands for every module of
            `basicsr.data` that has imported it.
        name: Its name there.
        by: What stands in its place. Its `__wrapped__` is BasicSR's function.
        why: What BasicSR's function does wrong, or lacks.
    """

    owners: tuple[str, ...]
    name: str
    by: Any
    why: str


TABLE = (
    # repairs, `kdsr.compat`
    Replacement(('basicsr.utils.registry.Registry',), 'get', registry.get, 'names no close words'),
    Replacement(
        ('basicsr.utils.registry.Registry',), '_do_register', registry.register, 'stops where two packages share a name'
    ),
    Replacement((_OPTIONS,), 'ordered_yaml', option_files.ordered_yaml, 'runs code in option files'),
    Replacement((_OPTIONS,), 'exec', option_files.refuse_execution, 'runs code on the command line'),
    Replacement((_OPTIONS,), 'eval', option_files.refuse_execution, 'runs code on the command line'),
    Replacement((_OPTIONS, _TRAIN, _TEST), 'parse_options', option_files.parse_options, 'no defaults, no checks'),
    Replacement(('basicsr.utils.dist_util', _OPTIONS), 'init_dist', distributed.init_dist, 'needs a GPU'),
    Replacement((_MODEL,), 'model_to_device', distributed.model_to_device, 'needs a GPU when distributed'),
    Replacement((_MODEL,), 'load_network', loading.load_network, 'runs code in checkpoints'),
    Replacement(
        ('basicsr.archs.vgg_arch.VGGFeatureExtractor',),
        '__init__',
        short_errors.init_vgg,
        'does not say where its file belongs',
    ),
    Replacement(('basicsr.metrics.niqe',), 'niqe', short_errors.niqe, 'fails at small images without saying so'),
    Replacement(_READING_NETWORKS, 'torch', loading.SafeTorch, 'runs code in the files that networks read'),
    Replacement(
        (_TRAIN, 'basicsr.utils', 'basicsr.utils.misc'),
        'mkdir_and_rename',
        folders.mkdir_and_rename,
        'fails at the third start within a second',
    ),
    Replacement((_DATA,), 'scandir', dataset_files.scandir, 'the order is that of the file system'),
    Replacement(
        (_DATA,),
        'paired_paths_from_meta_info_file',
        dataset_files.paired_paths_from_meta_info_file,
        'cuts names at spaces',
    ),
    Replacement((_DATA, 'basicsr.utils'), 'imfrombytes', dataset_files.imfrombytes, 'ignores the orientation of WebP'),
    Replacement((_DATA,), 'paired_paths_from_lmdb', lmdb_files.paired_paths_from_lmdb, 'misreads some lists'),
    Replacement(
        ('basicsr.utils.file_client.LmdbBackend',), '__init__', lmdb_files.open_backend, 'opens an LMDB only once'
    ),
    Replacement(
        ('basicsr.archs.swinir_arch.SwinTransformerBlock',),
        'calculate_mask',
        swinir.calculate_mask,
        'computes the masks again in every forward pass',
    ),
    *(
        Replacement((f'basicsr.models.{module}.{owner}',), name, by, 'calls .cuda() on a CPU too')
        for module, owner, name, by in (
            ('realesrnet_model', 'RealESRNetModel', '__init__', cuda_calls.init_realesrnet),
            ('realesrnet_model', 'RealESRNetModel', '_dequeue_and_enqueue', cuda_calls.fill_pool_of_realesrnet),
            ('realesrgan_model', 'RealESRGANModel', '__init__', cuda_calls.init_realesrgan),
            ('realesrgan_model', 'RealESRGANModel', '_dequeue_and_enqueue', cuda_calls.fill_pool_of_realesrgan),
            ('video_base_model', 'VideoBaseModel', 'dist_validation', cuda_calls.validate_video),
            ('video_recurrent_model', 'VideoRecurrentModel', 'dist_validation', cuda_calls.validate_recurrent_video),
        )
    ),
    Replacement(
        tuple(f'basicsr.{m}' for m in ('models.realesrnet_model', 'models.realesrgan_model', 'utils.img_process_util')),
        'filter2D',
        cuda_calls.filter2d,
        'fails on the memory layouts of a CPU',
    ),
    Replacement((_PREFETCH,), 'run', prefetching.fill_queue, 'loses errors, and the training waits forever'),
    Replacement((_PREFETCH,), '__next__', prefetching.take_batch, 'loses errors, and the training waits forever'),
    # what happens to a run, `kdsr.lifecycle`
    Replacement((_TRAIN,), 'train_pipeline', pipeline.train_pipeline, 'a signal loses what was not saved'),
    Replacement((_TEST,), 'test_pipeline', pipeline.test_pipeline, 'prints 150 lines before the first that matters'),
    Replacement((_TRAIN, _TEST), 'get_root_logger', console.get_root_logger, 'prints the banner, options and modules'),
    Replacement((_TRAIN,), 'load_resume_state', resuming.load_resume_state, 'needs a GPU, locks nothing'),
    Replacement((_TRAIN,), 'create_train_val_dataloader', loaders.create_train_val_dataloader, 'repeats samples'),
    Replacement((_TRAIN, _TEST), 'build_dataloader', loaders.build_dataloader, 'samples depend on the processes'),
    Replacement((_TRAIN, _TEST), 'build_model', pipeline.build_model, 'hides the model until the first step'),
    Replacement((_TRAIN,), 'MessageLogger', progress.ProgressLogger, 'lacks speed and memory'),
    Replacement((_TRAIN,), 'init_tb_loggers', progress.init_tb_loggers, 'does not name a missing package'),
    Replacement((_MODEL,), 'get_optimizer', optimisers.get_optimizer, 'knows Adam alone'),
    Replacement((_MODEL,), 'update_learning_rate', pipeline.update_learning_rate, 'a step cannot be repeated'),
    Replacement((_MODEL,), 'validation', pipeline.validation, 'waits for other processes, forgets after a kill'),
    Replacement((_MODEL,), 'save_network', saving.save_network, 'leaves half a file after a kill'),
    Replacement((_MODEL,), 'save_training_state', saving.save_training_state, 'leaves half a file, forgets the best'),
    Replacement((_MODEL,), 'resume_training', saving.resume_training, 'forgets the best metrics'),
)

# what BasicSR gets when it is imported, from a stand-in for a library (`kdsr.compat.imports.defer_scipy_stats`)
IMPORTED = (('basicsr.data.degradations', 'multivariate_normal'),)


def install() -> None:
    """Put every replacement of the table in its place. kdsr does this once, when BasicSR is first needed."""
    for replacement in TABLE:
        for owner in find_owners(replacement):
            original = getattr(owner, replacement.name, None)
            if original is not replacement.by:
                setattr(owner, replacement.name, replacement.by)
                if original is not None and not isinstance(replacement.by, type):
                    replacement.by.__wrapped__ = original


def find_owners(replacement: Replacement) -> list[Any]:
    """Return the modules and classes that hold a replaced function."""
    owners: list[Any] = []
    for dotted in replacement.owners:
        package, _, name = dotted.rpartition('.')
        if name == '*':
            loaded = [module for key, module in sys.modules.items() if f'{key}.'.startswith(f'{package}.')]
            owners += [module for module in loaded if hasattr(module, replacement.name)]
        elif name[0].isupper():
            owners.append(getattr(importlib.import_module(package), name))
        else:
            owners.append(importlib.import_module(dotted))
    return owners
