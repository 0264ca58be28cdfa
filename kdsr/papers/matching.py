"""Which rows of the papers a run is comparable with, and how its training differs from the paper's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.data.benchmark_sets import describe_crop, find_crop_of
from kdsr.experiment import argument_of
from kdsr.options import model_class_of
from kdsr.papers.results import TABLES, Cell, paper_cells
from kdsr.wording import counted

# The papers' students: type of the network, and the options that must be equal.
STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    'RCAN': ('RCAN', {'num_feat': 64, 'num_group': 10, 'num_block': 6}),
    'EDSR': ('EDSR', {'num_feat': 64, 'num_block': 16}),
    'SAN': ('SAN', {'num_feat': 64, 'num_group': 6, 'num_block': 10}),
    'SwinIR': ('SwinIR', {'embed_dim': 60, 'depths': [6, 6, 6, 6]}),
    'FSRCNN': ('FSRCNN', {'num_in_ch': 1, 'num_feat': 56, 'num_shrink': 12, 'num_map': 4}),
    'FSRCNN-L': ('FSRCNN', {'num_in_ch': 1, 'num_feat': 56, 'num_shrink': 56, 'num_map': 4}),
    'VDSR': ('VDSR', {'num_in_ch': 1, 'num_feat': 64, 'num_block': 18}),
    'IDN': ('IDN', {'num_in_ch': 1, 'num_feat': 64, 'num_kept': 16, 'num_block': 4}),
    'CARN': ('CARN', {'num_feat': 64, 'rgb_mean': [0.4379]}),
    'RFDN': ('RFDN', {'num_feat': 48, 'num_block': 6, 'block': 'rfdb', 'distillation_rate': 0.5, 'cca_reduction': 4}),
    'RFDN-L': ('RFDN', {'num_feat': 52, 'num_block': 6, 'block': 'rfdb', 'distillation_rate': 0.5, 'cca_reduction': 4}),
}

# The losses of each method, by type, and the options that must be equal; an option that is left out counts as equal.
_WITH_TEACHER = 'ResponseLoss'
LOSSES_OF_METHOD: dict[str, dict[str, dict[str, Any]]] = {
    'KD': {_WITH_TEACHER: {}},
    'FitNet': {_WITH_TEACHER: {}, 'FitNetLoss': {}},
    'AT': {_WITH_TEACHER: {}, 'AttentionTransferLoss': {}},
    'FAKD': {_WITH_TEACHER: {}, 'FAKDLoss': {'selective': 'none'}},
    'LSFD': {_WITH_TEACHER: {}, 'LSFDLoss': {'selective': True}},
    'LFD': {_WITH_TEACHER: {}, 'LSFDLoss': {'selective': False}},
    'FAKD + FFT': {_WITH_TEACHER: {}, 'FAKDLoss': {'selective': 'none'}, 'FFTLoss': {}},
    'LSFD + FFT': {_WITH_TEACHER: {}, 'LSFDLoss': {'selective': True}, 'FFTLoss': {}},
    'FACD': {'FACDLoss': {'adaptive': True, 'domain': 'feature', 'similarity': 'l1_ratio'}},
    'PISR': {'VIDLoss': {'pdf': 'laplace'}},
    'MTKD': {'WaveletLoss': {'level': 1, 'high_frequency_only': False}},
}

# (paper, method) to the rows of the paper's own trainings; rows that it copies from other papers are left out.
ROWS: dict[tuple[str, str], tuple[str, ...]] = {
    ('LSFD', 'alone'): ('Student',),
    ('LSFD', 'FitNet'): ('FitNet',),
    ('LSFD', 'FAKD'): ('FAKD*',),
    ('LSFD', 'LFD'): ('LFD',),
    ('LSFD', 'LSFD'): ('LSFD',),
    ('LSFD', 'FAKD + FFT'): ('FAKD + FFT',),
    ('LSFD', 'LSFD + FFT'): ('LSFD + FFT',),
    ('FACD', 'alone'): ('Student',),
    ('FACD', 'FAKD'): ('FAKD**',),
    ('FACD', 'LFD'): ('LFD*', 'LFD**'),
    ('FACD', 'FACD'): ('FACD (ours)',),
    ('PISR', 'alone'): ('{student}*',),
    ('PISR', 'PISR'): ('{student} (Ours)',),
    ('MTKD', 'alone'): ('Compact',),
    ('MTKD', 'KD'): ('KD',),
    ('MTKD', 'AT'): ('AT',),
    ('MTKD', 'FAKD'): ('FAKD',),
    ('MTKD', 'DUKD'): ('DUKD',),
    ('MTKD', 'MTKD'): ('MTKD (ours)',),
    ('RFDN', 'alone'): ('{student} (Ours)',),
}


@dataclass(frozen=True)
class Setting:
    """The training of a paper.

    Attributes:
        iterations: None where the paper counts epochs.
        batch: Samples of one iteration, on all GPUs together.
        lr_side: Side of the LR crop in pixels; None where the paper gives the HR crop.
        gt_side: Side of the HR crop in pixels; None where the paper gives the LR crop.
        lr: First learning rate; None where the paper does not print it.
        betas: Of Adam; None where the paper does not print them.
        use_rot: Whether training crops are also rotated; None where the paper does not say.
        test_crop: Test images are cropped to a multiple of this number; None: of the scale.
    """

    iterations: int | None
    batch: int
    lr_side: int | None
    gt_side: int | None = None
    lr: float | None = None
    betas: tuple[float, float] | None = None
    use_rot: bool | None = None
    test_crop: int | None = None


SETTINGS = {
    'LSFD': Setting(300_000, 16, 48, lr=1e-4, betas=(0.9, 0.99), use_rot=False),
    'FACD': Setting(600_000, 16, 48, lr=2e-4, betas=(0.9, 0.999), use_rot=True),
    'PISR': Setting(1_000_000, 16, None, 192, lr=1e-3, betas=(0.9, 0.999), use_rot=True),
    'MTKD': Setting(250_000, 16, 64, lr=1e-4, betas=(0.9, 0.999), use_rot=True, test_crop=12),
    'RFDN': Setting(None, 64, 64),
}


def student_of(opt: Mapping[str, Any]) -> str | None:
    """Return the papers' name of an experiment's network; None if no paper has this student."""
    network = opt['network_g']
    for name, (kind, wanted) in STUDENTS.items():
        if network.get('type') == kind and all(_plain(argument_of(network, k)) == v for k, v in wanted.items()):
            return name
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def method_of(opt: Mapping[str, Any]) -> str | None:
    """Return the papers' name of an experiment's method: 'alone', 'KD', ...; None for other methods.

    Students that start from given weights match no method, except those of RFDN, and of PISR by `init_from`.
    """
    block = opt.get('distillation')
    if model_class_of(opt['model_type']).trains != 'student':
        return None
    starts = bool((opt.get('path') or {}).get('pretrain_network_g')) and opt['network_g'].get('type') != 'RFDN'
    if not block:
        plain = ((opt.get('train') or {}).get('pixel_opt') or {}).get('type') == 'L1Loss'
        return 'alone' if plain and not starts else None
    losses = {loss['type']: loss for loss in (block.get('losses') or {}).values() if loss}
    found = next((name for name, wanted in LOSSES_OF_METHOD.items() if _match(losses, wanted)), None)
    if any((block.get('views') or {}).values()):
        found = 'DUKD' if found == 'KD' else None
    if bool(block.get('init_from')) != (found == 'PISR') or bool(block.get('aggregator')) != (found == 'MTKD'):
        return None
    return None if starts else found


def _match(losses: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    return set(losses) == set(wanted) and all(
        losses[kind].get(key, value) == value for kind, keys in wanted.items() for key, value in keys.items()
    )


def comparable_rows(opt: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Cell]]:
    """Return the rows of the papers for this student, method and scale.

    Args:
        opt: All options of an experiment.

    Returns:
        (paper, table, row) to the cells of each set; empty where no row matches.
    """
    student, method = student_of(opt), method_of(opt)
    found: dict[tuple[str, str, str], dict[str, Cell]] = {}
    for cell in paper_cells() if student and method else ():
        wanted = [row.format(student=student) for row in ROWS.get((cell.paper, str(method)), ())]
        mine = cell.network.removesuffix('_lightweight').removesuffix('_baseline') if cell.paper != 'PISR' else student
        if cell.paper == 'RFDN':
            mine = cell.network.removesuffix(' (Ours)')
        if (
            cell.kind == 'result' and cell.row in wanted and cell.table in TABLES[cell.paper]
            and mine == student and cell.scale == int(opt.get('scale') or 0)
        ):  # fmt: skip
            found.setdefault((cell.paper, cell.table, cell.row), {})[cell.set] = cell
    return found


def metric_of_papers(metric: Mapping[str, Any], opt: Mapping[str, Any]) -> Literal['psnr', 'ssim', '']:
    """Return 'psnr' or 'ssim' if a metric of `val.metrics` is computed as in the papers; otherwise an empty text."""
    known: dict[str, Literal['psnr', 'ssim']] = {'calculate_psnr': 'psnr', 'calculate_ssim': 'ssim'}
    on_y = opt.get('color') == 'y' or bool(metric.get('test_y_channel'))
    same = on_y and metric.get('crop_border') == int(opt.get('scale') or 0)
    return known.get(str(metric.get('type')), '') if same else ''


def differences_from(paper: str, opt: Mapping[str, Any]) -> list[str]:
    """Return the known differences between an experiment and a paper, in training and in the test images, in words."""
    setting, train = SETTINGS[paper], opt['datasets'].get('train') or {}
    found = []
    source = str(train.get('dataroot_gt') or '')
    if 'DIV2K' not in source:
        found.append(f'{train.get("name") or source} instead of DIV2K')
    iterations = int((opt.get('train') or {}).get('total_iter') or 0)
    if setting.iterations and iterations != setting.iterations:
        found.append(f'{counted(iterations, "iteration")} instead of {setting.iterations:,}')
    batch = int(train.get('batch_size_per_gpu') or 0)
    if batch != setting.batch:
        found.append(f'batch {batch} per GPU instead of {setting.batch} in all')
    wanted = setting.gt_side or (setting.lr_side or 0) * int(opt.get('scale') or 0)
    if wanted and int(train.get('gt_size') or 0) != wanted:
        found.append(f'crops of {train.get("gt_size")} instead of {wanted}')
    found += _other_steps(setting, opt)
    return [*found, *_other_losses(opt), *_other_teachers(paper, opt), *_other_crops(setting, opt)]


def _other_steps(setting: Setting, opt: Mapping[str, Any]) -> list[str]:
    """Return how optimiser and augmentation differ from the paper's, in words."""
    optimiser = (opt.get('train') or {}).get('optim_g') or {}
    found = []
    lr, betas = optimiser.get('lr'), tuple(optimiser.get('betas') or (0.9, 0.999))
    if setting.lr is not None and lr is not None and float(lr) != setting.lr:
        found.append(f'learning rate {float(lr):g} instead of {setting.lr:g}')
    if setting.betas is not None and betas != setting.betas:
        found.append(f'betas {betas} instead of {setting.betas}')
    rotates = bool((opt['datasets'].get('train') or {}).get('use_rot'))
    if setting.use_rot is not None and rotates != setting.use_rot:
        found.append('with rotations' if rotates else 'without rotations')
    return found


def _other_losses(opt: Mapping[str, Any]) -> list[str]:
    """Return the choices (words and switches) of distillation losses that are not the default reading, in words."""
    named = {key for losses in LOSSES_OF_METHOD.values() for keys in losses.values() for key in keys}
    found = []
    for loss in ((opt.get('distillation') or {}).get('losses') or {}).values():
        kind = str((loss or {}).get('type'))
        if kind not in LOSS_REGISTRY:
            continue
        defaults = inspect.signature(LOSS_REGISTRY.get(kind)).parameters
        for key, value in loss.items():
            default = defaults[key].default if key in defaults else value
            if key not in named and isinstance(value, (str, bool)) and value != default:
                found.append(f'{kind} with {key} {value} instead of {default}')
    return found


def _other_crops(setting: Setting, opt: Mapping[str, Any]) -> list[str]:
    """Return the validation sets whose ground truth is cropped otherwise than in the paper, in words."""
    scale = int(opt.get('scale') or 1)
    wanted = setting.test_crop or scale
    sets: dict[int, list[str]] = {}
    for phase, dataset in opt['datasets'].items():
        if phase.startswith('val') and dataset:
            sets.setdefault(find_crop_of(dataset, scale), []).append(str(dataset.get('name') or phase))
    return [
        f'{describe_crop(crop, scale)} instead of {describe_crop(wanted, scale).removeprefix("GT cropped to ")} '
        f'({", ".join(names)})'
        for crop, names in sets.items()
        if crop != wanted
    ]


def _other_teachers(paper: str, opt: Mapping[str, Any]) -> Sequence[str]:
    block = opt.get('distillation') or {}
    kinds = [str((t.get('network') or {}).get('type')) for t in block.get('teachers') or ()]
    if not kinds or paper in ('PISR', 'RFDN'):
        return []
    own = str(opt['network_g'].get('type'))
    wanted = ['EDSR', 'RCAN', 'SwinIR'] if block.get('aggregator') else [own]
    return [] if sorted(kinds) == wanted else [f'{" + ".join(kinds)} as teacher instead of {" + ".join(wanted)}']
