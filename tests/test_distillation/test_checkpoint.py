import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdsr.distillation import checkpoint
from kdsr.distillation.checkpoint import load_weights, read_checkpoint, save_checkpoint
from kdsr.errors import UserError


def small(features=4):
    return nn.Sequential(nn.Conv2d(3, features, 3), nn.Conv2d(features, 3, 3))


@pytest.mark.parametrize('wrap', [
    lambda w: w,
    lambda w: {'params': w},
    lambda w: {'state_dict': w, 'epoch': 3},
    lambda w: {'params_ema': w, 'params': {k: v * 0 for k, v in w.items()}},
    lambda w: {'params': {f'module.{k}': v for k, v in w.items()}},
])  # fmt: skip
def test_foreign_wrappings_are_unwrapped(tmp_path, wrap):
    source, target = small(), small()
    torch.save(wrap(source.state_dict()), tmp_path / 'w.pth')
    load_weights(target, str(tmp_path / 'w.pth'))
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))


def test_the_key_asked_for_is_the_key_used(tmp_path):
    ema, plain, target = small(), small(), small()
    torch.save({'params': plain.state_dict(), 'params_ema': ema.state_dict()}, tmp_path / 'w.pth')
    load_weights(target, str(tmp_path / 'w.pth'), 'params')
    assert torch.equal(target[0].weight, plain[0].weight)
    with pytest.raises(UserError, match="no 'weights'; it has params, params_ema"):
        load_weights(target, str(tmp_path / 'w.pth'), 'weights')


@pytest.mark.parametrize(('change', 'words'), [
    (lambda w: {k: v for k, v in w.items() if k != '1.bias'}, '3 of its 4 tensors.*1 missing there.*1.bias'),
    (lambda w: {**w, 'extra': torch.zeros(1)}, '4 of its 4 tensors.*1 only there.*extra'),
    (lambda w: small(5).state_dict(), r'1 of its 4.*of another size.*\(5, 3, 3, 3\), here \(4, 3, 3, 3\)'),
])  # fmt: skip
def test_anything_but_a_full_match_is_refused_and_nothing_is_loaded(tmp_path, change, words):
    target = small()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    torch.save({'params': change(small().state_dict())}, tmp_path / 'w.pth')
    with pytest.raises(UserError, match=words):
        load_weights(target, str(tmp_path / 'w.pth'), name='teacher edsr')
    assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())


@pytest.mark.parametrize(('change', 'words'), [
    (lambda v: v * float('nan'), 'not finite'),
    (lambda v: v.to(torch.int64), 'torch.int64'),
    (lambda v: v > 0, 'torch.bool'),
    (lambda v: v.to(torch.complex64), 'torch.complex64'),
])  # fmt: skip
def test_damaged_numbers_are_refused(tmp_path, change, words):
    torch.save({k: change(v) for k, v in small().state_dict().items()}, tmp_path / 'w.pth')
    with pytest.raises(UserError, match=rf"'0\.weight'.*{words}"):
        load_weights(small(), str(tmp_path / 'w.pth'))


@pytest.mark.parametrize('content', [torch.zeros(3), [1, 2], {}])
def test_a_key_that_holds_no_weights_is_named(tmp_path, content):
    torch.save({'params': content}, tmp_path / 'w.pth')
    with pytest.raises(UserError, match="no weights under 'params'"):
        load_weights(small(), str(tmp_path / 'w.pth'), 'params')


def test_a_page_of_text_is_no_checkpoint(tmp_path):
    (tmp_path / 'w.pth').write_text('hello')
    with pytest.raises(UserError, match='not a checkpoint'):
        read_checkpoint(str(tmp_path / 'w.pth'))


class Hostile:
    def __reduce__(self):
        return os.system, ('touch pwned',)


def test_code_in_a_checkpoint_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'params': Hostile()}, 'w.pth')
    with pytest.raises(UserError, match='more than tensors'):
        read_checkpoint('w.pth')
    assert not os.path.exists('pwned')


def test_missing_truncated_and_foreign_files(tmp_path):
    path = tmp_path / 'w.pth'
    with pytest.raises(UserError, match='does not exist'):
        read_checkpoint(str(path))
    torch.save({'params': small().state_dict()}, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"w.pth'.*(truncated|damaged)"):
        read_checkpoint(str(path))
    torch.save([1, 2], path)
    with pytest.raises(UserError, match='holds a list'):
        read_checkpoint(str(path))
    torch.save({1: torch.zeros(1)}, path)
    with pytest.raises(UserError, match='0 of its 4 tensors'):
        load_weights(small(), str(path))
    torch.save({'params': {'a': 3}}, path)
    with pytest.raises(UserError, match='no weights'):
        load_weights(small(), str(path))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / 'w.pth')
    save_checkpoint({'params': {'a': torch.ones(1)}}, path)

    def full_disk(content, file):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checkpoint.torch, 'save', full_disk)
    with pytest.raises(OSError, match='No space'):
        save_checkpoint({'params': {'a': torch.zeros(1)}}, path)
    assert read_checkpoint(path)['params']['a'] == 1


def test_safetensors_are_weights_alone(tmp_path):
    network = torch.nn.Conv2d(1, 2, 3)
    path = str(tmp_path / 'x.safetensors')
    save_file(network.state_dict(), path)
    other = torch.nn.Conv2d(1, 2, 3)
    load_weights(other, path)
    assert torch.equal(other.weight, network.weight)
    (tmp_path / 'x.safetensors').write_bytes(b'12345678 nothing')
    with pytest.raises(UserError, match='cannot be read'):
        load_weights(other, path)
