"""A checkpoint that cannot be written."""

import io
import traceback
from types import SimpleNamespace

import pytest
import torch

from kdsr.errors import UserError
from kdsr.lifecycle.saving import save_checkpoint, save_training_state


def test_a_failed_write_leaves_no_open_buffer(tmp_path):
    """Python 3.13 complains of one when it collects the error: BufferError, Existing exports of data."""
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write') as caught:
        save_checkpoint({'params': torch.zeros(1000)}, str(tmp_path / 'file' / 'net.pth'))
    errors = [caught.value, caught.value.__cause__]
    values = [v for e in errors for frame, _ in traceback.walk_tb(e.__traceback__) for v in frame.f_locals.values()]
    buffers = [value for value in values if isinstance(value, io.BytesIO)]
    assert not any(isinstance(value, memoryview) for value in values)
    for buffer in buffers:
        buffer.close()


def test_states_of_later_iterations_do_not_count_among_the_last_that_are_kept(tmp_path):
    """As after a resume from an old state (`path.resume_state`), in the folder that holds newer ones."""
    for name in ('2.state', '4.state', '6.state'):
        (tmp_path / name).touch()
    folders = {'training_states': str(tmp_path), 'models': str(tmp_path)}
    model = SimpleNamespace(optimizers=[], schedulers=[], opt={'path': folders, 'logger': {'keep_last': 2}})
    save_training_state(model, 0, 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['4.state', '5.state', '6.state']
