"""`kdsr export --all` writes what can be written, and gives the reason for the rest."""

import pytest

from kdsr.cli import main
from kdsr.export_targets import exporting
from kdsr.export_targets.targets import TARGETS
from tests.conftest import network_opt
from tests.helpers.networks import known


def test_all_goes_on_after_a_target_that_the_network_cannot_have(workspace, monkeypatch, capsys):
    pytest.importorskip('spandrel')
    path = known(workspace, {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4, 'num_map': 1})
    monkeypatch.setattr(exporting, 'writable_targets', lambda: ['safetensors', 'spandrel', 'torchscript'])
    main(['export', path, '--formats', 'safetensors', '--all', '--out', 'out', '--repeats', '0'])
    assert 'for spandrel: not written. spandrel has no FSRCNN' in capsys.readouterr().out
    out = workspace.root / 'out'
    assert sorted(''.join(file.suffixes) for file in out.iterdir()) == ['.md', '.safetensors', '.torchscript.pt']
    page = next(out.glob('*.md')).read_text()
    assert 'for spandrel: not written' in page
    assert TARGETS['torchscript'].preprocessing in page


def test_a_target_whose_package_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr('kdsr.export_targets.targets.is_installed', lambda package: package != 'pnnx')
    assert TARGETS['ncnn'].missing().startswith('pnnx missing: ')
    assert '.[ncnn]' in TARGETS['ncnn'].missing()
    assert TARGETS['openvino'].missing() == ''


@pytest.mark.parametrize(('network', 'multiple'), [({'type': 'FSRCNN', 'upscale': 2}, 1), (network_opt('SwinIR'), 4)])
def test_the_page_says_for_each_target_what_sides_must_be_multiples_of(workspace, network, multiple):
    path = known(workspace, network)
    main(['export', path, '--formats', 'safetensors', 'torchscript', '--out', 'out', '--repeats', '0'])
    page = next((workspace.root / 'out').glob('*.md')).read_text()
    rows = {line.split('|')[1].strip(): line for line in page.splitlines() if 'float32 in [0, 1]' in line}
    assert f'sides that are multiples of {multiple} |' in rows['safetensors']
    assert 'sides of any length (multiple 1)' in rows['torchscript']
