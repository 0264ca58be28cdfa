"""The keys that BasicSR 1.4.2 itself reads from an option file, as its source does."""

from __future__ import annotations

from kdsr.options.table import DEGRADED_SET, RAW_SET, Option

NUMBER = (int, float)
ANY = (str, int, float, bool, list, dict)

SECTIONS: dict[str, dict[str, Option]] = {
    'top level': {
        'name': Option((str, int, float), 'Of the experiment and its folder.', required=True),
        'model_type': Option((str,), 'What is trained and how: a registered model.', required=True),
        'scale': Option((int,), 'How many times larger the images become.', least=1),
        'num_gpu': Option((int, str), 'GPUs; 0 for the CPU, `auto` for what is there.', least=0),
        'manual_seed': Option((int,), 'Of all random numbers; drawn when left out.', least=0),
        'datasets': Option((dict,), '`train`, `val`, `val_1`, ... or `test_1`, ... to a dataset each.', required=True),
        'network_g': Option((dict,), 'The network: `type` and its arguments.', required=True),
        'path': Option((dict,), 'Weights to start with, and the state to resume from.'),
        'train': Option((dict,), 'Losses, optimiser, schedule.'),
        'val': Option((dict,), 'Validation in training, and tests.'),
        'logger': Option((dict,), 'What is written, how often.'),
        'dist_params': Option((dict,), 'Of several processes (`--launcher slurm`).'),
        'find_unused_parameters': Option((bool,), 'Of DistributedDataParallel.'),
    },
    'path': {
        'resume_state': Option((str,), 'A `.state` file to go on from; `--auto_resume` finds the newest.'),
        'ignore_resume_networks': Option((list, str), 'Networks whose `pretrain_` path counts also when resuming.'),
        'pretrain_network_g': Option((str,), 'Weights that the network starts with.'),
        'param_key_g': Option((str,), 'Key of the weights in that file: `params` or `params_ema`.'),
        'strict_load_g': Option((bool,), 'Refuse weights that do not fit the network.'),
    },
    'train': {
        'total_iter': Option(NUMBER, 'Iterations.', least=1, whole=True),
        'warmup_iter': Option(NUMBER, 'Iterations in which the rate grows; -1 for none.', least=-1, whole=True),
        'ema_decay': Option(NUMBER, 'Of the averaged weights; 0 for none, often 0.999.', least=0, below=1),
        'optim_g': Option((dict,), "The network's optimiser."),
        'scheduler': Option((dict,), 'How the learning rate changes.'),
        'pixel_opt': Option((dict,), 'Image loss to the ground truth, `l_pix` in the log.'),
        'perceptual_opt': Option((dict,), 'Loss in the features of a VGG, `l_percep` and `l_style` in the log.'),
    },
    'train.optim': {
        'type': Option((str,), "BasicSR 1.4.2 knows PyTorch's Adam.", required=True, choices=('Adam',)),
        'lr': Option(NUMBER, 'Learning rate.', required=True, least=0),
        'betas': Option((list,), 'Two numbers, from 0 to below 1.'),
        'weight_decay': Option(NUMBER, 'L2 penalty.', least=0),
        'eps': Option(NUMBER, 'Added to the denominator.', least=0),
        'amsgrad': Option((bool,), "Adam's variant."),
        'foreach': Option((bool,), "PyTorch's implementation."),
        'fused': Option((bool,), "PyTorch's implementation."),
        'maximize': Option((bool,), "PyTorch's implementation."),
        'capturable': Option((bool,), "PyTorch's implementation."),
        'differentiable': Option((bool,), "PyTorch's implementation."),
    },
    'train.scheduler MultiStepLR': {
        'type': Option((str,), 'Name.', required=True),
        'milestones': Option((list,), 'Iterations after which the rate is multiplied by `gamma`.', required=True),
        'gamma': Option(NUMBER, 'Factor at a milestone; 0.1 when left out.', least=0),
        'restarts': Option((list,), 'Iterations at which the rate starts anew.'),
        'restart_weights': Option((list,), 'Factor on the first rate at each restart.'),
    },
    'train.scheduler CosineAnnealingRestartLR': {
        'type': Option((str,), 'Name.', required=True),
        'periods': Option((list,), 'Iterations of each cosine; together at least `total_iter`.', required=True),
        'restart_weights': Option((list,), 'Factor on the first rate in each period; one for every period.'),
        'eta_min': Option(NUMBER, 'The smallest rate.', least=0),
    },
    'val': {
        'val_freq': Option(NUMBER, 'Iterations between validations.', least=1, whole=True),
        'save_img': Option((bool,), 'Write the images.'),
        'suffix': Option((str,), 'Ends the names of the images of a test.'),
        'pbar': Option((bool,), 'Show a progress bar.'),
        'metrics': Option((dict,), 'Name in the log to a registered metric and its arguments.'),
    },
    'logger': {
        'print_freq': Option(NUMBER, 'Iterations between lines of the log.', least=1, whole=True),
        'save_checkpoint_freq': Option(NUMBER, 'Iterations between checkpoints.', least=1, whole=True),
        'use_tb_logger': Option((bool,), 'Write for TensorBoard.'),
        'wandb': Option((dict,), 'Weights & Biases: `project`, `resume_id`.'),
    },
    'logger.wandb': {
        'project': Option((str,), 'Name of the project; `~` for none.'),
        'resume_id': Option((str,), 'Of a run to be continued.'),
    },
    'dist_params': {
        'backend': Option((str,), 'nccl or gloo.'),
        'port': Option((int,), 'Of the first process.', least=0),
    },
    'io_backend': {
        'type': Option((str,), 'How images are read.', required=True, choices=('disk', 'lmdb', 'memcached')),
        'db_paths': Option((list, str), 'Of an LMDB; the dataset sets it.'),
        'client_keys': Option((list, str), 'Of an LMDB; the dataset sets it.'),
        'readonly': Option((bool,), 'Of an LMDB.'),
        'lock': Option((bool,), 'Of an LMDB.'),
        'readahead': Option((bool,), 'Of an LMDB.'),
        'server_list_cfg': Option((str,), 'Of memcached.'),
        'client_cfg': Option((str,), 'Of memcached.'),
        'sys_path': Option((str,), 'Of memcached.'),
    },
}  # fmt: skip
SCHEDULERS = {
    'MultiStepLR': 'MultiStepLR',
    'MultiStepRestartLR': 'MultiStepLR',
    'CosineAnnealingRestartLR': 'CosineAnnealingRestartLR',
}

_LOADER = {
    'name': Option((str, int), 'Of the set, in the log.', required=True),
    'type': Option((str,), 'A registered dataset.', required=True),
    'phase': Option((str,), 'BasicSR sets it: train, val or test.', choices=('train', 'val', 'test')),
    'scale': Option((int,), 'BasicSR sets it to the `scale` of the experiment.', least=1),
    'batch_size_per_gpu': Option((int,), 'Crops per iteration and GPU.', least=1),
    'num_worker_per_gpu': Option((int,), 'Processes that read images; 0 for none.', least=0),
    'dataset_enlarge_ratio': Option(NUMBER, 'How often the set is repeated in an epoch.', least=0),
    'prefetch_mode': Option((str,), '`cpu`, `cuda` (with `pin_memory: true`), or `~`.', choices=('cpu', 'cuda')),
    'num_prefetch_queue': Option((int,), 'Batches ahead, with `prefetch_mode: cpu`.', least=1),
    'pin_memory': Option((bool,), 'Of the data loader.'),
    'persistent_workers': Option((bool,), 'Keep the reading processes between epochs.'),
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
    'use_hflip': Option((bool,), 'Flip at random.'),
    'use_rot': Option((bool,), 'Flip and transpose at random.'),
}
_VALUES = {
    'color': Option((str,), '`y` for luminance.', choices=('y', 'rgb')),
    'mean': Option((list,), 'Subtracted from the channels.'),
    'std': Option((list,), 'What the channels are divided by.'),
}
_NAMES = {
    'meta_info_file': Option((str,), 'Text file with a name a line, of the images to be used.'),
    'filename_tmpl': Option((str,), "How a low-resolution file is called, for example '{}x4'; '{}' when left out."),
}
_VIDEO = {
    key: Option(ANY, 'Of a video set.')
    for key in (
        'dataroot_gt', 'dataroot_lq', 'dataroot_flow', 'meta_info_file', 'val_partition', 'num_frame', 'interval_list',
        'random_reverse', 'flip_sequence', 'test_mode', 'cache_data', 'padding', 'use_duf_downsampling',
    )
}  # fmt: skip
_BLUR = {
    key: Option(ANY, 'Of the degradation.')
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
    'uint8': Option((bool,), 'Hand out whole numbers; a model of kdsr divides by 255 on the device.'),
    'dataroot_teacher': Option((str,), 'kdsr sets it for `distillation.cache`.'),
}  # fmt: skip

# Datasets of other packages are not judged.
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

# Keys of older BasicSR files that nothing reads any more; the last part of the path.
OBSOLETE = ('use_shuffle', 'save_img', 'suffix', 'crop_border')
