"""The direction of metrics, as BasicSR then reads it."""

import pytest

from kdsr.options.metrics import direction_of, fill_direction, find_metric_problems
from kdsr.options.problems import WARNING


@pytest.mark.parametrize(
    ('kind', 'direction'),
    [
        ('calculate_psnr', 'higher'), ('calculate_ssim_pt', 'higher'), ('calculate_niqe', 'lower'),
        ('calculate_lpips', 'lower'), ('DISTS', 'lower'), ('calculate_fid', 'lower'), ('calculate_pixels', None),
        (None, None),
    ],
)  # fmt: skip
def test_the_direction_follows_from_the_name(kind, direction):
    assert direction_of(kind) == direction


def test_niqe_without_a_direction_keeps_the_lowest():
    """BasicSR takes `higher`, and kept the worst network as the best."""
    assert fill_direction({'type': 'calculate_niqe', 'crop_border': 4})['better'] == 'lower'
    assert fill_direction({'type': 'calculate_psnr'}) == {'type': 'calculate_psnr'}
    assert (
        fill_direction({'type': 'calculate_niqe', 'better': 'higher'})['better'] == 'higher'
    )  # said so, and warned of


def test_sets_of_one_name_are_refused_and_equal_names_of_training_and_validation_are_not():
    one = {'name': 'Set5', 'type': 'PairedImageDataset'}
    opt = {'datasets': {'train': one, 'val': one}, 'val': {'metrics': {'psnr': {'type': 'calculate_psnr'}}}}
    assert list(find_metric_problems(opt)) == []
    opt['datasets']['val_2'] = one
    assert [problem.path for problem in find_metric_problems(opt)] == [('datasets', 'val_2', 'name')]


def test_only_a_wrong_word_is_an_error():
    def kinds(**metric):
        opt = {'val': {'metrics': {'m': metric}}}
        return [problem.kind for problem in find_metric_problems(opt)]

    assert kinds(type='calculate_mine') == [WARNING]
    assert kinds(type='calculate_niqe', better='higher') == [WARNING]
    assert kinds(type='calculate_niqe', better='smaller') == ['error']
