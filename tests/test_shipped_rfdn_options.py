"""The option files of RFDN, RFDN-L and E-RFDN: built at full size, and trained for one iteration, shrunk."""

from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network

from kdsr import options

FOLDER = Path(__file__).parents[1] / 'options'
# Parameters as the paper (Liu et al., AIM 2020) prints them, exactly.
PARAMETERS = {
    'rfdn_x2': 534_036, 'rfdn_x3': 540_531, 'rfdn_x4': 549_624,
    'rfdn_l_x2': 625_962, 'rfdn_l_x3': 632_997, 'rfdn_l_x4': 642_846,
    'e_rfdn_x4': 433_448, 'e_rfdn_finetune_x4': 433_448,
    'ablations/rfdn/table1_base': 652_146, 'ablations/rfdn/table1_srb': 652_146,
    'ablations/rfdn/table1_fdc': 636_546, 'ablations/rfdn/table1_rfdb': 636_546,
    'ablations/rfdn/table2_ratio_25': 523_434, 'ablations/rfdn/table2_ratio_50': 544_386,
    'ablations/rfdn/table2_ratio_75': 565_338,
    'ablations/rfdn/scratch_x3': 540_531, 'ablations/rfdn/scratch_x4': 549_624,
    'ablations/rfdn/scratch_imdn_x4': 715_176,
}  # fmt: skip
STARTS_FROM = {
    'rfdn_x3': 'rfdn_x2', 'rfdn_x4': 'rfdn_x2', 'rfdn_l_x3': 'rfdn_l_x2', 'rfdn_l_x4': 'rfdn_l_x2',
    'e_rfdn_finetune_x4': 'e_rfdn_x4',
}  # fmt: skip


def load(name):
    return options.load(str(FOLDER / f'{name}.yml'))


def shrunk(opt, workspace):
    """The file's experiment on tiny images, with a tiny network; what it starts from is on disk."""
    scale = opt['scale']
    dataset = workspace.images(count=2, size=24 * scale, scale=scale)
    opt['datasets']['train'].update(**dataset, gt_size=16 * scale, batch_size_per_gpu=2, num_worker_per_gpu=0)
    opt['datasets'] = {'train': opt['datasets']['train'], 'val': dataset}
    opt['network_g'].update(num_feat=16, num_block=1)
    opt['train']['total_iter'] = 1
    opt['logger'].update(print_freq=1, save_checkpoint_freq=1, use_tb_logger=False)
    opt['num_gpu'] = 0
    start = opt['path']['pretrain_network_g']
    if start:
        upscale = load(start.split('/')[1])['scale']
        opt['path']['pretrain_network_g'] = workspace.weights({**opt['network_g'], 'upscale': upscale}, 'start')
    return opt


def test_the_table_holds_every_file():
    files = {str(p.relative_to(FOLDER).with_suffix('')) for p in FOLDER.rglob('*.yml') if 'rfdn' in str(p)}
    assert files - {f for f in files if f.startswith(('real_world/', 'recipes/', 'tables/', 'test/', 'zoo/'))} == set(
        PARAMETERS
    )


@pytest.mark.parametrize('name', PARAMETERS)
def test_networks_have_the_published_sizes(name):
    opt = load(name)
    assert opt['network_g']['upscale'] == opt['scale']
    assert opt['network_g']['type'] == 'IMDN' or opt['network_g']['img_range'] == 255
    assert sum(p.numel() for p in build_network(opt['network_g']).parameters()) == PARAMETERS[name]


def test_the_ablation_blocks_differ_in_more_than_their_size():
    blocks = {
        name: load(f'ablations/rfdn/table1_{name}')['network_g']['block'] for name in ('base', 'srb', 'fdc', 'rfdb')
    }
    assert all(name == block for name, block in blocks.items())


@pytest.mark.parametrize('name', PARAMETERS)
def test_the_settings_are_the_papers(name):
    opt = load(name)
    train, data, finetune = opt['train'], opt['datasets']['train'], 'finetune' in name
    assert (data['batch_size_per_gpu'], data['gt_size']) == (64, 64 * opt['scale'])
    assert opt['model_type'] == 'SRModel'
    assert train['optim_g'] == {
        'type': 'Adam',
        'lr': 1e-5 if finetune else 5e-4,
        'weight_decay': 0,
        'betas': [0.9, 0.999],
    }
    kind, weight = ('MSELoss', 255**2) if finetune else ('L1Loss', 1.0)
    assert train['pixel_opt'] == {'type': kind, 'loss_weight': weight, 'reduction': 'mean'}
    if not finetune:
        halved = [200_000, 400_000, 600_000, 800_000]
        assert train['scheduler'] == {'type': 'MultiStepLR', 'milestones': halved, 'gamma': 0.5}
        assert train['total_iter'] == 1_000_000
    assert all(m['crop_border'] == opt['scale'] and m['test_y_channel'] for m in opt['val']['metrics'].values())


@pytest.mark.parametrize('name', PARAMETERS)
def test_runs_start_where_the_paper_says(name):
    path = load(name)['path']
    if name in STARTS_FROM:
        first = load(STARTS_FROM[name])
        assert path['pretrain_network_g'] == f'experiments/{first["name"]}/models/net_g_latest.pth'
        assert path['strict_load_g'] == (first['scale'] == load(name)['scale'])
    else:
        assert path['pretrain_network_g'] is None


@pytest.mark.parametrize('name', PARAMETERS)
def test_each_file_trains_validates_and_saves(name, workspace):
    folder = workspace.train(shrunk(load(name), workspace))
    assert (folder / 'models' / 'net_g_latest.pth').exists()


@pytest.mark.parametrize('name', ['rfdn_x3', 'rfdn_l_x4'])
def test_a_larger_scale_takes_over_all_but_the_upsampler(name, workspace):
    opt = shrunk(load(name), workspace)
    opt['train']['optim_g']['lr'] = 0.0
    folder = workspace.train(opt)
    before = torch.load(opt['path']['pretrain_network_g'], weights_only=True)['params']
    after = torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)['params']
    assert {k for k in after if before[k].shape != after[k].shape} == {'upsample.0.weight', 'upsample.0.bias'}
    assert all(torch.equal(before[k], after[k]) for k in after if not k.startswith('upsample'))
