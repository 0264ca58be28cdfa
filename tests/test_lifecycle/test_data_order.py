"""Which changes of a run let a resumed one draw other samples."""

from types import SimpleNamespace

import pytest

from kdsr.errors import UserError
from kdsr.lifecycle.data_order import check_order, describe_order, has_same_steps

OPT = {'manual_seed': 1, 'world_size': 1, 'rank': 0, 'datasets': {'train': {'dataset_enlarge_ratio': 1, 'gt_size': 48}}}


class Images:
    """A training set of files, as BasicSR's PairedImageDataset lists them."""

    def __init__(self, names):
        self.paths = [{'gt_path': f'photos/gt/{name}.png'} for name in names]

    def __len__(self):
        return len(self.paths)


def order(names=('a', 'b', 'c'), batch_size=4, **changes):
    loader = SimpleNamespace(dataset=Images(names), batch_size=batch_size)
    return {**describe_order(loader, {**OPT, 'datasets': {'train': OPT['datasets']['train'] | changes}}), **changes}


def resume(now, then, **path):
    check_order(now, then, {'path': {'resume_state': '2.state', **path}})


def test_the_same_images_may_be_resumed_and_others_of_the_same_number_not():
    resume(order(), order())
    with pytest.raises(UserError, match=r'other data:\n  - names of the images: \w{8}, now \w{8}\nUndo'):
        resume(order(names=('a', 'b', 'd')), order())
    with pytest.raises(UserError, match='names of the images'):
        resume(order(names=('b', 'a', 'c')), order())
    resume(order(names=('a', 'b', 'd')), order(), resume_with_other_data=True)


@pytest.mark.parametrize(
    ('images', 'processes', 'batch_size', 'same'),
    [
        (8, 1, 4, True),  # each step has 4 samples, and an epoch 8
        (7, 1, 4, False),  # two processes fill up the last step of an epoch: 8 samples, not 7
        (8, 1, 2, False),
        (8, 4, 1, True),
        (7, 4, 1, True),  # both fill up to 8
        (6, 4, 1, False),  # four processes fill up to 8, two do not
    ],
)
def test_another_number_of_processes_has_the_same_steps_where_batches_and_epochs_are_as_large(
    images, processes, batch_size, same
):
    then = {**order(range(images), batch_size=2), 'processes': 2}
    now = {**order(range(images), batch_size=batch_size), 'processes': processes}
    assert has_same_steps(now, then) == same
    if same:
        resume(now, then)
    else:
        with pytest.raises(UserError, match=rf'processes: 2, now {processes}'):
            resume(now, then)
