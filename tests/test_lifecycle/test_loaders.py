"""The loaders of a run."""

import basicsr.train
import pytest


@pytest.mark.parametrize(('dist', 'workers', 'asked', 'expected'), [
    (True, 2, None, True), (True, 2, False, False), (True, 0, True, False), (False, 2, None, False),
])  # fmt: skip
def test_loader_processes_survive_the_epoch_of_a_distributed_run(dist, workers, asked, expected):
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': workers}
    if asked is not None:
        dataset_opt['persistent_workers'] = asked
    loader = basicsr.train.build_dataloader(list(range(4)), dataset_opt, num_gpu=0, dist=dist, seed=0)
    assert loader.persistent_workers is expected
    assert 'persistent_workers' not in dataset_opt or asked is not None


def test_threads_of_a_prefetcher_get_an_iterator_each():
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 1, 'prefetch_mode': 'cpu'}
    loader = basicsr.train.build_dataloader(list(range(4)), dataset_opt, num_gpu=0, dist=True, seed=0)
    assert loader.persistent_workers is False
