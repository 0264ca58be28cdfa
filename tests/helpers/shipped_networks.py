"""The networks of the shipped option files: their published sizes, and the same ones made tiny."""

import functools
import json

from basicsr.archs import build_network

TEACHERS = {
    ('EDSR', 2): 40_729_603, ('EDSR', 3): 43_680_003, ('EDSR', 4): 43_089_923,
    ('RCAN', 2): 15_444_643, ('RCAN', 3): 15_629_283, ('RCAN', 4): 15_592_355,
    ('SwinIR', 2): 11_752_487, ('SwinIR', 3): 11_937_127, ('SwinIR', 4): 11_900_199,
}  # fmt: skip


def parameters(network):
    return _parameters(json.dumps(network))


@functools.cache
def _parameters(network):
    return sum(p.numel() for p in build_network(json.loads(network)).parameters())


def shrink(network):
    """The same architecture, tiny."""
    small = dict(network)
    if small['type'] == 'SwinIR':
        small.update(img_size=16, depths=[2, 2], num_heads=[2, 2], embed_dim=8)
    elif small['type'] == 'DCTSwin':
        small.update(depths=[2] * len(small['depths']), num_heads=2, embed_dim=8, num_feat=8)
    elif small['type'] in ('EDSR', 'RCAN', 'SAN'):
        small.update(
            {'num_feat': 8, 'num_block': 1}, **({'num_group': 2, 'squeeze_factor': 4} if 'num_group' in small else {})
        )
    return small


def shrunk(opt, workspace):
    """The file's experiment on tiny images, with tiny networks that have random weights on disk."""
    scale = opt['scale']
    dataset = workspace.images(count=2, size=16 * scale, scale=scale)
    opt['datasets']['train'].update(**dataset, gt_size=8 * scale, batch_size_per_gpu=2, num_worker_per_gpu=0)
    opt['datasets'] = {'train': opt['datasets']['train'], 'val': dataset}
    opt['network_g'] = shrink(opt['network_g'])
    opt['train']['total_iter'] = 1
    opt['logger'].update(print_freq=1, save_checkpoint_freq=1, use_tb_logger=False)
    opt['num_gpu'] = 0
    block = opt.get('distillation', {})
    names = [t['name'] for t in block.get('teachers', [])]
    for teacher in block.get('teachers', []):
        teacher['network'] = shrink(teacher['network'])
        teacher['path'] = workspace.weights(teacher['network'], teacher['name'])
    if 'aggregator' in block:
        network = shrink(block['aggregator']['network'])
        block['aggregator'] = {'network': network, 'path': workspace.weights(network, 'agg', teachers=names)}
    return opt
