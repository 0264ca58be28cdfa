"""A checkpoint that cannot be written."""

import io
import traceback

import pytest
import torch

from kdsr.errors import UserError
from kdsr.lifecycle.saving import save_checkpoint


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
