"""Every recipe is read, has networks of the published sizes, and is cached and stepped once, shrunk."""

from pathlib import Path

import pytest

from kdsr import options
from kdsr.data.teacher_cache import make_cache
from tests.helpers.logs import log_of
from tests.helpers.shipped_networks import parameters, shrunk

FILES = sorted((Path(__file__).parents[1] / 'options' / 'recipes').glob('*.yml'))
STUDENTS = {
    ('rfdn', 2): 32_904, ('rfdn', 3): 35_079, ('rfdn', 4): 38_124,
    ('fsrcnn', 2): 24_518, ('fsrcnn', 3): 24_518, ('fsrcnn', 4): 24_518,
    ('edsr', 2): 1_369_859, ('edsr', 3): 1_554_499, ('edsr', 4): 1_517_571,
    ('swinir', 2): 910_152, ('swinir', 3): 918_267, ('swinir', 4): 929_628,
}  # fmt: skip
TEACHERS = {('imdn', 2): 694_404, ('imdn', 3): 703_059, ('imdn', 4): 715_176, ('e_rfdn', 4): 433_448}


def test_each_student_has_a_recipe_at_each_scale():
    assert [p.stem for p in FILES] == [f'{n}_x{s}' for n in ('edsr', 'fsrcnn', 'rfdn', 'swinir') for s in (2, 3, 4)]


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_networks_have_the_published_sizes(path):
    opt = options.load(str(path))
    student, scale = path.stem.split('_x')[0], opt['scale']
    assert parameters(opt['network_g']) == STUDENTS[student, scale]
    (teacher,) = opt['distillation']['teachers']
    assert teacher['network']['upscale'] == opt['network_g']['upscale'] == scale
    assert parameters(teacher['network']) == TEACHERS[teacher['name'], scale]
    assert opt['datasets']['train']['gt_size'] == 32 * scale
    assert all(metric['crop_border'] == scale for metric in opt['val']['metrics'].values())


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_each_recipe_is_cached_and_trains(path, workspace):
    opt = shrunk(options.load(str(path)), workspace)
    opt['train']['scheduler']['periods'] = [1]
    opt['distillation']['health_check'] = False
    opt['distillation']['cache'] = str(workspace.root / 'cache.raw')
    make_cache(opt, progress=False)
    log = log_of(workspace.train(opt))
    assert 'l_pix: ' in log
    assert 'l_kd: ' in log
