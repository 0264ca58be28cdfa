"""The weights that an experiment starts from are compared with its network before a run."""

import torch

from kdsr import options
from kdsr.checks.experiment import find_problems


def problems(workspace, content):
    torch.save(content, 'start.pth')
    opt = workspace.options(path={'pretrain_network_g': 'start.pth'})
    found = find_problems(options.read(workspace.write(opt)))
    return [problem.text for problem in found if problem.path == ('path', 'pretrain_network_g')]


def test_weights_of_another_network_are_reported(workspace):
    network = workspace.options()['network_g']['type']
    assert problems(workspace, {'params': {'other.weight': torch.zeros(3)}}) == [
        f"no tensor of 'start.pth' fits {network}: the file is of another network."
    ]


def test_a_file_without_weights_is_reported(workspace):
    (text,) = problems(workspace, {'params': {}})
    assert 'holds no weights' in text


def test_weights_of_the_network_are_fine(workspace):
    path = workspace.weights(workspace.options()['network_g'], 'student')
    assert problems(workspace, torch.load(path, weights_only=True)) == []
