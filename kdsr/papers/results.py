"""The result tables of the five papers, and which of their rows a run is comparable with.

`results.csv` holds every printed cell as it is printed; `misprint` names the number that was likely meant.
`complexity.csv` holds parameters, MultiAdds and run times. PSNR and SSIM are on Y, with a border of S pixels left
out.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdsr.experiment import argument_of
from kdsr.options import model_class_of

FILE = Path(__file__).with_name('results.csv')
SETS = {'bsd100': 'B100', 'b100': 'B100', 'set5': 'Set5', 'set14': 'Set14', 'urban100': 'Urban100',
        'manga109': 'Manga109'}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell of a paper's table.

    Attributes:
        paper, table, network, row: As printed; `row` is the method.
        scale: S.
        set: Name of the test set.
        psnr, ssim: As printed; None where there is none.
        kind: 'result', or what else the number is: a gain, of features, of one image, of a crop, of a teacher that
            sees the ground truth (privileged).
        misprint: 'psnr 33.547': the metric, and what was likely meant; empty where nothing looks wrong.
        note: What else is to be known.
    """

    paper: str
    table: str
    network: str
    scale: int
    row: str
    set: str
    psnr: float | None
    ssim: float | None
    kind: str
    misprint: str
    note: str

    def likely(self, metric: str) -> float | None:
        """Return the value of 'psnr' or 'ssim', a misprint mended."""
        name, _, value = self.misprint.partition(' ')
        return float(value) if name == metric else getattr(self, metric)


@lru_cache(maxsize=1)
def paper_cells() -> tuple[Cell, ...]:
    """Return all cells of all tables."""
    with FILE.open(encoding='utf-8', newline='') as file:
        return tuple(
            Cell(
                r['paper'], r['table'], r['network'], int(r['scale']), r['row'], r['set'],
                float(r['psnr']) if r['psnr'] else None, float(r['ssim']) if r['ssim'] else None, r['kind'],
                r['misprint'], r['note'],
            )
            for r in csv.DictReader(file)
        )  # fmt: skip


# What of a network's options makes it the papers' student.
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

# Types of the losses, and the options with which they are the method; what is not given counts as in the first entry.
_WITH_TEACHER = 'ResponseLoss'
LOSSES_OF_METHOD: dict[str, dict[str, dict[str, Any]]] = {
    'KD': {_WITH_TEACHER: {}},
    'FitNet': {_WITH_TEACHER: {}, 'FitNetLoss': {}},
    'AT': {_WITH_TEACHER: {}, 'AttentionTransferLoss': {}},
    'FAKD': {_WITH_TEACHER: {}, 'FAKDLoss': {'selective': False}},
    'LSFD': {_WITH_TEACHER: {}, 'LSFDLoss': {'selective': True}},
    'LFD': {_WITH_TEACHER: {}, 'LSFDLoss': {'selective': False}},
    'FAKD + FFT': {_WITH_TEACHER: {}, 'FAKDLoss': {'selective': False}, 'FFTLoss': {}},
    'LSFD + FFT': {_WITH_TEACHER: {}, 'LSFDLoss': {'selective': True}, 'FFTLoss': {}},
    'FACD': {'FACDLoss': {'adaptive': True, 'domain': 'feature', 'similarity': 'l1_ratio'}},
    'PISR': {'VIDLoss': {'pdf': 'laplace'}},
    'MTKD': {'WaveletLoss': {'level': 1, 'high_frequency_only': False}},
}

# (paper, method) to the rows that show the paper's own trainings of it; what it copies from others is left out.
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
TABLES = {'LSFD': ('2', '3', '4'), 'FACD': ('2',), 'PISR': ('2', '3'), 'MTKD': ('2', '3', '4'), 'RFDN': ('3',)}


@dataclass(frozen=True)
class Setting:
    """How a paper trains: iterations (None where it says epochs), batch, side of the HR crop at x4."""

    iterations: int | None
    batch: int
    lr_side: int | None
    gt_side: int | None = None


SETTINGS = {
    'LSFD': Setting(300_000, 16, 48),
    'FACD': Setting(600_000, 16, 48),
    'PISR': Setting(1_000_000, 16, None, 192),
    'MTKD': Setting(250_000, 16, 64),
    'RFDN': Setting(None, 64, 64),
}


def student_of(opt: Mapping[str, Any]) -> str | None:
    """Return the papers' name of an experiment's network; None where they have no such student."""
    network = opt['network_g']
    for name, (kind, wanted) in STUDENTS.items():
        if network.get('type') == kind and all(_plain(argument_of(network, k)) == v for k, v in wanted.items()):
            return name
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def method_of(opt: Mapping[str, Any]) -> str | None:
    """Return the papers' name of what a student learns from: 'alone', 'KD', ...; None for anything else.

    A student that starts from other weights is of no row, except where the paper does it too (PISR, RFDN).
    """
    block = opt.get('distillation')
    if model_class_of(opt['model_type']).trains != 'student':
        return None
    starts = bool((opt.get('path') or {}).get('pretrain_network_g')) and opt['network_g'].get('type') != 'RFDN'
    if not block:
        plain = ((opt.get('train') or {}).get('pixel_opt') or {}).get('type') == 'L1Loss'
        return 'alone' if plain and not starts else None
    losses = {loss['type']: loss for loss in (block.get('losses') or {}).values() if loss}
    found = next((name for name, wanted in LOSSES_OF_METHOD.items() if _are(losses, wanted)), None)
    if any((block.get('views') or {}).values()):
        found = 'DUKD' if found == 'KD' else None
    if bool(block.get('init_from')) != (found == 'PISR') or bool(block.get('aggregator')) != (found == 'MTKD'):
        return None
    return None if starts else found


def _are(losses: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Mapping[str, Any]]) -> bool:
    return set(losses) == set(wanted) and all(
        losses[kind].get(key, value) == value for kind, keys in wanted.items() for key, value in keys.items()
    )


def comparable_rows(opt: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Cell]]:
    """Return the rows of the papers for this student, method and scale.

    Args:
        opt: All options of an experiment.

    Returns:
        (paper, table, row) to set to cell; empty where there is none.
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


def is_papers_metric(metric: Mapping[str, Any], opt: Mapping[str, Any]) -> str:
    """Return 'psnr' or 'ssim' where a metric of `val.metrics` is measured as the papers do; empty otherwise."""
    name = {'calculate_psnr': 'psnr', 'calculate_ssim': 'ssim'}.get(str(metric.get('type')), '')
    on_y = opt.get('color') == 'y' or bool(metric.get('test_y_channel'))
    return name if on_y and metric.get('crop_border') == int(opt.get('scale') or 0) else ''


def differences_from(paper: str, opt: Mapping[str, Any]) -> list[str]:
    """Return in what the training of an experiment is known to differ from a paper's, in words."""
    setting, train = SETTINGS[paper], opt['datasets'].get('train') or {}
    told = []
    source = str(train.get('dataroot_gt') or '')
    if 'DIV2K' not in source:
        told.append(f'{train.get("name") or source} instead of DIV2K')
    iterations = int((opt.get('train') or {}).get('total_iter') or 0)
    if setting.iterations and iterations != setting.iterations:
        told.append(f'{iterations:,} iterations instead of {setting.iterations:,}')
    batch = int(train.get('batch_size_per_gpu') or 0)
    if batch != setting.batch:
        told.append(f'batch {batch} a GPU instead of {setting.batch} in all')
    wanted = setting.gt_side or (setting.lr_side or 0) * int(opt.get('scale') or 0)
    if wanted and int(train.get('gt_size') or 0) != wanted:
        told.append(f'crops of {train.get("gt_size")} instead of {wanted}')
    return [*told, *_other_teachers(paper, opt)]


def _other_teachers(paper: str, opt: Mapping[str, Any]) -> Sequence[str]:
    block = opt.get('distillation') or {}
    kinds = [str((t.get('network') or {}).get('type')) for t in block.get('teachers') or ()]
    if not kinds or paper in ('PISR', 'RFDN'):
        return []
    own = str(opt['network_g'].get('type'))
    wanted = ['EDSR', 'RCAN', 'SwinIR'] if block.get('aggregator') else [own]
    return [] if sorted(kinds) == wanted else [f'{" + ".join(kinds)} as teacher instead of {" + ".join(wanted)}']
