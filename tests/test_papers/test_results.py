"""The papers' tables."""

import csv
from collections import Counter

from kdsr.papers.results import FILE, paper_cells


def test_the_tables_are_whole():
    assert Counter(cell.paper for cell in paper_cells()) == {
        'FACD': 352, 'MTKD': 328, 'RFDN': 262, 'LSFD': 238, 'PISR': 211,
    }  # fmt: skip
    for cell in paper_cells():
        if cell.kind == 'result':
            assert cell.psnr is None or 20 < cell.psnr < 45
            assert cell.ssim is None or 0.4 < cell.ssim < 1
            assert cell.scale in (2, 3, 4)


def test_known_cells():
    wanted = {
        ('LSFD', '2', 'RCAN', 2, 'LSFD', 'Urban100'): 32.704,
        ('MTKD', '2', 'RCAN_lightweight', 4, 'MTKD (ours)', 'Urban100'): 27.08,
        ('PISR', '2', 'FSRCNN (Ours)', 3, 'FSRCNN (Ours)', 'Set5'): 33.31,
        ('RFDN', '3', 'RFDN (Ours)', 4, 'RFDN (Ours)', 'Set5'): 32.24,
    }
    found = {(c.paper, c.table, c.network, c.scale, c.row, c.set): c.psnr for c in paper_cells()}
    assert {key: found[key] for key in wanted} == wanted


def test_misprints_are_flagged_and_can_be_mended():
    misprints = {(c.paper, c.row, c.set): c for c in paper_cells() if c.misprint}
    assert len(misprints) == 6
    cell = misprints['LSFD', 'FAKD + FFT', 'Set14']
    assert (cell.psnr, cell.likely('psnr')) == (23.547, 33.547)
    cell = misprints['MTKD', 'MTKD (ours)', 'B100']
    assert (cell.ssim, cell.likely('ssim'), cell.likely('psnr')) == (0.4707, 0.7407, 27.69)
    assert misprints['LSFD', 'LSFD', 'B100'].likely('psnr') == 32.276


def test_the_complexity_table_is_readable():
    with FILE.with_name('complexity.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    found = {(r['paper'], r['network'], r['scale'], r['quantity']): r['value'] for r in rows}
    assert found['PISR', 'IMDN', '4', 'multiadds'] == '41.1'
    assert found['MTKD', 'MT', '4', 'LAM diffusion index'] == '26.09'
