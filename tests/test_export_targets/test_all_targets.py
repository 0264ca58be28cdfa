"""`kdsr export --all` writes what can be written, and gives the reason for the rest."""

import pytest

from kdsr.cli import main
from kdsr.export_targets import exporting
from kdsr.export_targets.targets import TARGETS
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
