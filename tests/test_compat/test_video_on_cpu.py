"""BasicSR's recurrent video models train and validate on a CPU."""

import cv2
import numpy as np

from tests.helpers.logs import log_of

FRAMES = 100  # BasicSR's REDS datasets count on as many


def clip(folder, side):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    image = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (side, side))
    for i in range(FRAMES):
        cv2.imwrite(str(folder / f'{i:08d}.png'), np.roll(image, i, axis=1))


def test_a_recurrent_model_trains_and_validates(workspace):
    for name in ('one', 'two'):
        clip(workspace.root / 'gt' / name, 256)
        clip(workspace.root / 'lq' / name, 64)
    meta = workspace.root / 'meta.txt'
    meta.write_text(''.join(f'{name} {FRAMES} (256,256,3)\n' for name in ('one', 'two')), encoding='utf-8')
    roots = {f'dataroot_{kind}': str(workspace.root / kind) for kind in ('gt', 'lq')}
    opt = workspace.options(model_type='VideoRecurrentModel', scale=4)
    opt['network_g'] = {'type': 'BasicVSR', 'num_feat': 4, 'num_block': 1}
    opt['datasets'] = {
        'train': {
            'name': 'clips', 'type': 'REDSRecurrentDataset', **roots, 'dataroot_flow': None,
            'meta_info_file': str(meta),
            'val_partition': 'REDS4', 'test_mode': False, 'io_backend': {'type': 'disk'}, 'num_frame': 3,
            'gt_size': 256,
            'interval_list': [1], 'random_reverse': False, 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 0,
            'batch_size_per_gpu': 1, 'dataset_enlarge_ratio': 1,
        },
        'val': {
            'name': 'REDS4', 'type': 'VideoRecurrentTestDataset', **roots, 'io_backend': {'type': 'disk'},
            'cache_data': True, 'num_frame': -1,
        },
    }  # fmt: skip
    opt['train'].update(fix_flow=1, flow_lr_mul=0.125, ema_decay=0)
    opt['val'] = {'val_freq': 2, 'save_img': False, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}}
    log = log_of(workspace.train(opt))  # BasicSR knows test sets by their names
    assert 'Validation REDS4' in log
    assert 'psnr' in log
