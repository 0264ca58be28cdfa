"""Options of Real-ESRGAN's models as parse_options leaves them, and batches as RealESRGANDataset gives them."""

import torch

DEGRADATION = {
    'resize_prob': [0.2, 0.7, 0.1], 'resize_range': [0.15, 1.5], 'gaussian_noise_prob': 0.5, 'noise_range': [1, 30],
    'poisson_scale_range': [0.05, 3], 'gray_noise_prob': 0.4, 'jpeg_range': [30, 95],
    'second_blur_prob': 0.8, 'resize_prob2': [0.3, 0.4, 0.3], 'resize_range2': [0.3, 1.2], 'gaussian_noise_prob2': 0.5,
    'noise_range2': [1, 25], 'poisson_scale_range2': [0.05, 2.5], 'gray_noise_prob2': 0.4, 'jpeg_range2': [30, 95],
    'gt_size': 32, 'queue_size': 4,
}  # fmt: skip
DISCRIMINATOR = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4, 'skip_connection': True}
VGG_STYLE = {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 2, 'input_size': 128}
GAN = {'type': 'GANLoss', 'gan_type': 'vanilla', 'real_label_val': 1.0, 'fake_label_val': 0.0, 'loss_weight': 0.1}
USM = {'l1_gt_usm': True, 'percep_gt_usm': True, 'gan_gt_usm': False}


def with_discriminator(opt, network=DISCRIMINATOR):
    """Options of a GAN training."""
    train = {**opt['train'], 'gan_opt': GAN, 'optim_d': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]}}
    return {**opt, 'network_d': network, 'train': train}


def model_options(opt, model_type):
    """Options of the same training with another model class of BasicSR."""
    opt = {**opt, 'model_type': model_type}
    if model_type in ('SRGANModel', 'ESRGANModel', 'RealESRGANModel'):
        opt = with_discriminator(opt)
    if model_type.startswith('RealESR'):
        opt = {**opt, **DEGRADATION, 'gt_usm': True}
    if model_type == 'RealESRGANModel':
        opt = {**opt, **USM}
    return opt


def gt_batch(seed=0, side=64, count=2):
    """A batch of RealESRGANDataset: images and kernels."""
    generator = torch.Generator().manual_seed(seed)
    kernels = torch.rand(3, count, 21, 21, generator=generator)
    kernels = kernels / kernels.sum((-1, -2), keepdim=True)
    gt = torch.rand(count, 3, side, side, generator=generator)
    return {'gt': gt, 'kernel1': kernels[0], 'kernel2': kernels[1], 'sinc_kernel': kernels[2]}


def real_world_set(folder, names):
    """Options of a RealESRGANDataset: images of a folder, with random kernels."""
    kinds = ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    blur = {'kernel_list': kinds, 'kernel_prob': [0.45, 0.25, 0.12, 0.03, 0.12, 0.03], 'sinc_prob': 0.1}
    blur.update(blur_kernel_size=21, blur_sigma=[0.2, 3], betag_range=[0.5, 4], betap_range=[1, 2])
    return {
        'name': 'photos', 'type': 'RealESRGANDataset', 'dataroot_gt': folder, 'meta_info': names,
        'io_backend': {'type': 'disk'}, **blur, **{f'{key}2': value for key, value in blur.items()},
        'final_sinc_prob': 0.8, 'gt_size': 32, 'use_hflip': True, 'use_rot': False, 'num_worker_per_gpu': 0,
        'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 2,
    }  # fmt: skip
