"""Tiny networks of every kind, and files of them."""

import torch

# The same architectures, tiny, for what does not depend on the width.
TINY = {
    'RFDN': {'type': 'RFDN', 'num_feat': 8, 'num_block': 2},
    'RFDN srb': {'type': 'RFDN', 'num_feat': 8, 'num_block': 1, 'block': 'srb', 'block_skip': True},
    'E-RFDN': {'type': 'RFDN', 'num_feat': 8, 'num_block': 2, 'block': 'e_rfdb'},
    'IMDN': {'type': 'IMDN', 'num_feat': 8, 'num_block': 2, 'cca_reduction': 4},
    'FSRCNN': {'type': 'FSRCNN'},
    'VDSR': {'type': 'VDSR', 'num_feat': 8, 'num_block': 2},
    'IDN': {'type': 'IDN', 'num_feat': 16, 'num_kept': 4, 'num_block': 2},
    'IDN deconv': {'type': 'IDN', 'num_in_ch': 1, 'num_feat': 16, 'num_kept': 4, 'num_block': 1, 'upsampler': 'deconv'},
    'CARN': {'type': 'CARN', 'num_feat': 8},
    'CARN-M': {'type': 'CARN', 'num_feat': 8, 'mobile': True, 'multi_scale': True},
    'SAN': {'type': 'SAN', 'num_feat': 16, 'num_group': 2, 'num_block': 1},
    'RLFN': {'type': 'RLFN', 'num_feat': 8, 'num_block': 2, 'num_mid': 6, 'num_attention': 4},
    'BSRN': {'type': 'BSRN', 'num_feat': 16, 'num_block': 2, 'cca_reduction': 4},
    'PAN': {'type': 'PAN', 'num_feat': 8, 'num_block': 2, 'num_upsample_feat': 6},
    'EFDN': {'type': 'EFDN', 'num_feat': 8},
    'FMEN': {'type': 'FMEN', 'num_feat': 8, 'num_block': 2, 'num_mask': 8},
    'LapSRN': {'type': 'LapSRN', 'num_feat': 8, 'num_block': 2},
    'DCTSwin': {'type': 'DCTSwin', 'num_teachers': 2, 'embed_dim': 8, 'depths': [2], 'num_heads': 2, 'num_feat': 8},
    'PISRTeacher': {
        'type': 'PISRTeacher', 'num_feat': 8, 'num_shrink': 4,
        'decoder': {'type': 'FSRCNN', 'num_feat': 8, 'num_map': 1},
    },
}  # fmt: skip


LUMINANCE = ('FSRCNN', 'VDSR', 'IDN deconv', 'PISRTeacher', 'LapSRN')
POOLING = ('E-RFDN', 'RLFN', 'BSRN', 'EFDN')  # they need images of at least 15x15


def known(workspace, options):
    """Write random weights with the options of their network, as `kdsr convert` does; return the path."""
    path = workspace.weights(options, options['type'])
    torch.save({**torch.load(path), 'network': options}, path)
    return path
