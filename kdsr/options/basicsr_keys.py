"""The keys that BasicSR 1.4.2 itself reads from an option file."""

from __future__ import annotations

from kdsr.options.table import DEGRADED_SET, RAW_SET, Option

NUMBER = (int, float)
ANY = (str, int, float, bool, list, dict)

OPTIMISERS = (
    'Adam', 'AdamW', 'Adadelta', 'Adafactor', 'Adagrad', 'Adamax', 'ASGD', 'Muon', 'NAdam', 'RAdam', 'RMSprop', 'Rprop',
    'SGD',
)  # fmt: skip

SECTIONS: dict[str, dict[str, Option]] = {
    'top level': {
        'name': Option((str, int, float), 'Name of the experiment and its folder.', required=True),
        'model_type': Option((str,), 'Registered model class: what is trained, and how.', required=True),
        'scale': Option((int,), 'Upscaling factor.', least=1),
        'num_gpu': Option((int, str), 'Number of GPUs; 0 for the CPU, `auto` for all.', least=0),
        'manual_seed': Option((int,), 'Seed of all random numbers. Default: drawn.', least=0, below=2**32),
        'datasets': Option((dict,), '`train`, `val`, `val_1`, ... or `test_1`, ...: a dataset each.', required=True),
        'network_g': Option((dict,), 'The network: `type` and its arguments.', required=True),
        'path': Option((dict,), 'Initial weights, and the state to resume from.'),
        'train': Option((dict,), 'Losses, optimiser and schedule.'),
        'val': Option((dict,), 'Validation during training, and tests.'),
        'logger': Option((dict,), 'What is logged and saved, and how often.'),
        'dist_params': Option((dict,), 'Options of distributed runs (`--launcher slurm`).'),
        'find_unused_parameters': Option((bool,), 'Option of DistributedDataParallel.'),
    },
    'path': {
        'resume_state': Option((str,), 'Resume from this `.state` file; `--auto_resume` finds the newest.'),
        'ignore_resume_networks': Option((list, str), 'Networks that keep their `pretrain_` path in a resumed run.'),
        'pretrain_network_g': Option((str,), 'Initial weights of the network.'),
        'param_key_g': Option((str,), 'Key of the weights in that file: `params` or `params_ema`.'),
        'strict_load_g': Option((bool,), 'Refuse weights that do not match the network.'),
    },
    'train': {
        'total_iter': Option(NUMBER, 'Iterations.', least=1, whole=True),
        'warmup_iter': Option(NUMBER, 'Iterations of learning-rate warm-up; -1 for none.', least=-1, whole=True),
        'ema_decay': Option(NUMBER, 'Decay of the averaged weights; 0 for none, often 0.999.', least=0, below=1),
        'optim_g': Option((dict,), 'Optimiser of the network.'),
        'scheduler': Option((dict,), 'Schedule of the learning rate.'),
        'pixel_opt': Option((dict,), 'Image loss against the ground truth, `l_pix` in the log.'),
        'perceptual_opt': Option((dict,), 'Loss between VGG features, `l_percep` and `l_style` in the log.'),
    },
    'train.optim': {
        'type': Option((str,), "An optimiser of PyTorch's.", required=True, choices=OPTIMISERS),
        'lr': Option(NUMBER, 'Learning rate.', required=True, least=0),
        'betas': Option((list,), 'Two numbers, from 0 to below 1.'),
        'weight_decay': Option(NUMBER, 'L2 penalty.', least=0),
        'eps': Option(NUMBER, 'Constant in the denominator.', least=0),
        'amsgrad': Option((bool,), 'Use the AMSGrad variant.'),
        'foreach': Option((bool,), "Option of PyTorch's implementation."),
        'fused': Option((bool,), "Option of PyTorch's implementation."),
        'maximize': Option((bool,), "Option of PyTorch's implementation."),
        'capturable': Option((bool,), "Option of PyTorch's implementation."),
        'differentiable': Option((bool,), "Option of PyTorch's implementation."),
    },
    'train.scheduler MultiStepLR': {
        'type': Option((str,), 'Name.', required=True),
        'milestones': Option((list,), 'Iterations after which the rate is multiplied by `gamma`.', required=True),
        'gamma': Option(NUMBER, 'Factor at a milestone. Default: 0.1.', least=0),
        'restarts': Option((list,), 'Iterations at which the learning rate restarts.'),
        'restart_weights': Option((list,), 'Factor on the initial rate, one for each restart.'),
    },
    'train.scheduler CosineAnnealingRestartLR': {
        'type': Option((str,), 'Name.', required=True),
        'periods': Option((list,), 'Iterations of each cosine; the sum must be at least `total_iter`.', required=True),
        'restart_weights': Option((list,), 'Factor on the initial rate, one for each period.'),
        'eta_min': Option(NUMBER, 'Smallest learning rate.', least=0),
    },
    'val': {
        'val_freq': Option(NUMBER, 'Iterations between validations.', least=1, whole=True),
        'save_img': Option((bool,), 'Save the images.'),
        'suffix': Option((str,), 'Suffix of the image names of a test.'),
        'pbar': Option((bool,), 'Show a progress bar.'),
        'metrics': Option((dict,), 'Names in the log, each with the `type` and arguments of a registered metric.'),
    },
    'logger': {
        'print_freq': Option(NUMBER, 'Iterations between log lines.', least=1, whole=True),
        'save_checkpoint_freq': Option(NUMBER, 'Iterations between checkpoints.', least=1, whole=True),
        'use_tb_logger': Option((bool,), 'Write TensorBoard logs.'),
        'wandb': Option((dict,), 'Weights & Biases: `project`, `resume_id`.'),
    },
    'logger.wandb': {
        'project': Option((str,), 'Project name; `~` for none.'),
        'resume_id': Option((str,), 'Identifier of the run to continue.'),
    },
    'dist_params': {
        'backend': Option((str,), 'nccl or gloo.'),
        'port': Option((int,), 'Port of the first process.', least=0),
    },
    'io_backend': {
        'type': Option((str,), 'How images are read.', required=True, choices=('disk', 'lmdb', 'memcached')),
        'db_paths': Option((list, str), 'Set by the dataset, for an LMDB.'),
        'client_keys': Option((list, str), 'Set by the dataset, for an LMDB.'),
        'readonly': Option((bool,), 'Option of LMDB.'),
        'lock': Option((bool,), 'Option of LMDB.'),
        'readahead': Option((bool,), 'Option of LMDB.'),
        'server_list_cfg': Option((str,), 'Option of memcached.'),
        'client_cfg': Option((str,), 'Option of memcached.'),
        'sys_path': Option((str,), 'Option of memcached.'),
    },
}  # fmt: skip
SCHEDULERS = {
    'MultiStepLR': 'MultiStepLR',
    'MultiStepRestartLR': 'MultiStepLR',
    'CosineAnnealingRestartLR': 'CosineAnnealingRestartLR',
}

_LOADER = {
    'name': Option((str, int), 'Name of the dataset in the log.', required=True),
    'type': Option((str,), 'A registered dataset.', required=True),
    'phase': Option((str,), 'Set by BasicSR: train, val or test.', choices=('train', 'val', 'test')),
    'scale': Option((int,), 'Set by BasicSR to the `scale` of the experiment.', least=1),
    'batch_size_per_gpu': Option((int,), 'Crops per iteration and GPU.', least=1),
    'num_worker_per_gpu': Option((int,), 'Number of loader processes; 0 to load in the main process.', least=0),
    'dataset_enlarge_ratio': Option(NUMBER, 'Repetitions of the dataset in an epoch.', least=0),
    'prefetch_mode': Option((str,), '`cpu`, `cuda` (with `pin_memory: true`), or `~`.', choices=('cpu', 'cuda')),
    'num_prefetch_queue': Option((int,), 'Number of prefetched batches with `prefetch_mode: cpu`.', least=1),
    'pin_memory': Option((bool,), 'Option of the data loader.'),
    'persistent_workers': Option((bool,), 'Keep the loader processes between epochs.'),
    'multiprocessing_context': Option(
        (str,), 'How the reading processes are started (a key of kdsr).', choices=('fork', 'spawn', 'forkserver')
    ),
}
_FILES = {
    'io_backend': Option((dict,), 'How images are read: `{type: disk}` or `{type: lmdb}`.', required=True),
}
_GT = {'dataroot_gt': Option((str,), 'Folder of the high-resolution images.', required=True)}
_LQ = {'dataroot_lq': Option((str,), 'Folder of the low-resolution images.', required=True)}
_CROPS = {
    'gt_size': Option((int,), 'Side of the high-resolution crops in training, a multiple of `scale`.', least=1),
    'use_hflip': Option((bool,), 'Random horizontal flips.'),
    'use_rot': Option((bool,), 'Random vertical flips and transpositions.'),
}
_VALUES = {
    'color': Option((str,), '`y` for luminance.', choices=('y', 'rgb')),
    'mean': Option((list,), 'Subtracted from the channels.'),
    'std': Option((list,), 'Divisors of the channels.'),
}
_NAMES = {
    'meta_info_file': Option((str,), 'Text file with one image name per line.'),
    'filename_tmpl': Option((str,), "Name of the low-resolution file, for example '{}x4'. Default: '{}'."),
}
_VIDEO = {
    key: Option(ANY, 'Option of video datasets.')
    for key in (
        'dataroot_gt', 'dataroot_lq', 'dataroot_flow', 'meta_info_file', 'val_partition', 'num_frame', 'interval_list',
        'random_reverse', 'flip_sequence', 'test_mode', 'cache_data', 'padding', 'use_duf_downsampling',
    )
}  # fmt: skip
_BLUR = {
    key: Option(ANY, 'Option of the degradation.')
    for key in (
        'blur_kernel_size', 'kernel_list', 'kernel_prob', 'blur_sigma', 'betag_range', 'betap_range', 'sinc_prob',
        'blur_kernel_size2', 'kernel_list2', 'kernel_prob2', 'blur_sigma2', 'betag_range2', 'betap_range2',
        'sinc_prob2', 'final_sinc_prob',
    )
}  # fmt: skip
_META = {'meta_info': Option((str, list), 'Text file with the names of the images.')}
_OF_VIDEO = {**_LOADER, **_FILES, **_CROPS, **_VIDEO}

_RAW = {
    **_LOADER, **_GT, **_LQ, **_CROPS, **_VALUES, **_NAMES,
    'io_backend': Option((dict,), 'Not needed.'),
    'uint8': Option((bool,), 'Deliver whole numbers; model classes of kdsr divide by 255 on the device.'),
    'dataroot_teacher': Option((str,), 'Set by kdsr for `distillation.cache`.'),
}  # fmt: skip

# Datasets of other packages are not checked.
DATASETS: dict[str, dict[str, Option]] = {
    'PairedImageDataset': {**_LOADER, **_FILES, **_GT, **_LQ, **_CROPS, **_VALUES, **_NAMES},
    RAW_SET: _RAW,
    DEGRADED_SET: {
        **_RAW, 'degradation': Option((dict,), 'Ranges of `blur`, `noise`, `jpeg`, and `clean_share`.', required=True),
    },
    'SingleImageDataset': {**_LOADER, **_FILES, **_LQ, **_VALUES, 'meta_info_file': _NAMES['meta_info_file']},
    'RealESRGANDataset': {**_LOADER, **_FILES, **_GT, **_CROPS, **_META, **_BLUR},
    'RealESRGANPairedDataset': {**_LOADER, **_FILES, **_GT, **_LQ, **_CROPS, **_VALUES, **_META, **_NAMES},
    'FFHQDataset': {**_LOADER, **_FILES, **_GT, **_CROPS, **_VALUES},
    **dict.fromkeys((
        'REDSDataset', 'REDSRecurrentDataset', 'Vimeo90KDataset', 'Vimeo90KRecurrentDataset', 'VideoTestDataset',
        'VideoTestVimeo90KDataset', 'VideoTestDUFDataset', 'VideoRecurrentTestDataset',
    ), _OF_VIDEO),
}  # fmt: skip

# Keys of older BasicSR files and of its forks that nothing reads (last part of the path).
OBSOLETE = (
    'use_shuffle', 'save_img', 'suffix', 'crop_border', 'task', 'print_network', 'entity', 'use_chop', 'self_ensemble',
)  # fmt: skip
