"""Files of other projects, imported as they are: names that earlier BasicSR versions or copies of BasicSR have."""

import sys

import numpy as np
import pytest
from basicsr.utils import color_util
from basicsr.utils.registry import ARCH_REGISTRY

from kdsr import plugins
from kdsr.checks.registered import find_type_problems
from kdsr.errors import UserError


def test_hats_and_drcts_imports_work():
    """Both packages failed with ImportError at these lines."""
    from basicsr.losses.losses import CharbonnierLoss, GANLoss, L1Loss, PerceptualLoss, weighted_loss
    from basicsr.utils.matlab_functions import bgr2ycbcr, imresize, rgb2ycbcr, ycbcr2bgr, ycbcr2rgb

    image = np.random.default_rng(0).random((4, 4, 3), np.float32)
    np.testing.assert_array_equal(rgb2ycbcr(image, y_only=True), color_util.rgb2ycbcr(image, y_only=True))
    names = {f.__name__ for f in (bgr2ycbcr, imresize, ycbcr2bgr, ycbcr2rgb)}
    assert names == {'bgr2ycbcr', 'imresize', 'ycbcr2bgr', 'ycbcr2rgb'}
    assert (L1Loss.__module__, GANLoss.__module__) == ('basicsr.losses.basic_loss', 'basicsr.losses.gan_loss')
    assert all((CharbonnierLoss, PerceptualLoss, weighted_loss))


def test_a_network_file_finds_its_neighbours_as_basicsrs(tmp_path, monkeypatch):
    """As BSRN: its file imports `basicsr.archs.Upsamplers`, which lies beside it."""
    (tmp_path / 'models').mkdir()
    (tmp_path / 'models' / 'neighbour_blocks.py').write_text('VALUE = 42\n')
    text = 'import basicsr.archs.neighbour_blocks as blocks\nvalue = blocks.VALUE\n'
    (tmp_path / 'models' / 'foreign_arch.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    plugins.import_named(['models.foreign_arch'])
    assert sys.modules['models.foreign_arch'].value == 42
    with pytest.raises(ModuleNotFoundError, match=r'basicsr\.archs\.never_there'):
        __import__('basicsr.archs.never_there')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, r"there is no module 'failing_arch'"),
        ('import never_installed_package\n', "is there, but .*Install 'never_installed_package'"),
        (
            'from basicsr.archs import nothing_like_it\n',
            'is there, but its import fails with ImportError: cannot import',
        ),
        ('raise RuntimeError("no GPU")\n', 'is there, but its import fails with RuntimeError: no GPU'),
    ],
)
def test_the_message_of_a_failed_import_is_its_own(text, message, tmp_path, monkeypatch):
    if text is not None:
        (tmp_path / 'failing_arch.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    with pytest.raises(UserError, match=message):
        plugins.import_named(['failing_arch'])


def hint(name):
    (problem,) = find_type_problems(ARCH_REGISTRY, ('network_g',), {'type': name})
    return problem.text


def test_a_close_name_does_not_hide_where_a_network_comes_from():
    """ "DAT: did you mean SAN" was all that was said."""
    assert 'zhengchen1999/DAT' in hint('DAT')
    assert 'import_modules: [dat_arch]' in hint('DAT')
    assert 'put its dat_arch.py' in hint('DAT')
    assert "Did you mean 'EDVR' or 'EDSR'? Or is the package" in hint('EDRS')
    assert '_basicsr' not in hint('ResNetArcFac')


def test_options_of_the_authors_network_lead_to_the_authors_file():
    """kdsr's BSRN has no `conv`: files of the authors' repository say it."""
    (problem,) = find_type_problems(ARCH_REGISTRY, ('network_g',), {'type': 'BSRN', 'conv': 'BSConvU'})
    assert 'xiaom233/BSRN: put its BSRN_arch.py' in problem.text
    assert 'import_modules: [BSRN_arch]' in problem.text
    (problem,) = find_type_problems(ARCH_REGISTRY, ('network_g',), {'type': 'RFDN', 'conv': 'BSConvU'})
    assert 'import_modules' not in problem.text
