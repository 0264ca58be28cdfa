"""One boundary for every kind of file: content of a wrong shape ends in one message, or is made anew.

`benchmarks/fuzz.py` tries thousands of such changes; here is one of each kind that had ended in a traceback.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from PIL import Image
from safetensors.torch import save_file

import kdsr
from kdsr.comparison import references
from kdsr.comparison.plan import read_comparison
from kdsr.comparison.training_record import read_record
from kdsr.data.growing_folder import GrowingFolder, read_settings
from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_images import RawImages
from kdsr.deployment.card import read_card
from kdsr.deployment.sources import make_card, read_model
from kdsr.errors import UserError
from kdsr.foreign import find_fault
from kdsr.foreign.kinds import SET_SCORES, TRAINING_STATE
from kdsr.lifecycle.locking import FolderLock, Holder
from kdsr.metadata import safetensors_metadata
from tests.conftest import network_opt


def changed(content, place, value):
    """Return a copy with one value replaced; `...` removes it."""
    copy = json.loads(json.dumps(content))
    node = copy
    for key in place[:-1]:
        node = node[key]
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return copy


# comparison files


@pytest.mark.parametrize(
    'place', [('common', 'train'), ('common', 'val'), ('common', 'datasets'), ('runs', 'a', 'train')]
)
@pytest.mark.parametrize('value', [3, 'x', [1]])
def test_a_comparison_whose_blocks_are_no_mappings(workspace, place, value):
    opt = {k: v for k, v in workspace.options().items() if k not in ('name', 'manual_seed')}
    study = {'name': 's', 'seeds': [0], 'baseline': 'a', 'common': opt, 'runs': {'a': {'title': 'A'}}}
    Path('study.yml').write_text(yaml.safe_dump(changed(study, place, value)))
    with pytest.raises(UserError, match=rf'runs\.a: {place[-1]} must be a mapping'):
        read_comparison('study.yml')


# checkpoints

TENSORS = {
    'quantised': (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), 'is quantised'),
    'sparse': (lambda t: t.to_sparse(), 'is sparse'),
    'meta': (lambda t: t.to('meta'), 'is a tensor without values'),
    'expanded': (lambda t: t.reshape(-1)[:1].expand(99, 99), 'is an expanded tensor'),
}


@pytest.mark.filterwarnings('ignore')  # of PyTorch, on what it may drop one day
@pytest.mark.parametrize(('make', 'words'), TENSORS.values(), ids=TENSORS)
def test_a_checkpoint_with_other_kinds_of_tensors(tmp_path, make, words):
    weights = build_network(network_opt('EDSR')).state_dict()
    weights['conv_first.weight'] = make(weights['conv_first.weight'])
    torch.save({'params': weights, 'network': network_opt('EDSR')}, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=f"'conv_first.weight' {words}"):
        kdsr.load_network(str(tmp_path / 'x.pth'))


@pytest.mark.parametrize(
    ('network', 'words'),
    [
        ({'type': ['EDSR']}, 'type must be a text'),
        ({'type': 'EDSR\n'}, 'type must be a text like'),
        ({**network_opt('EDSR'), 'num_feat': -3}, 'refuses its arguments'),
        ({**network_opt('EDSR'), 'num_block': 10**8}, 'num_block is larger than'),
        ({**network_opt('EDSR'), 'num_block': {}}, 'num_block. must be a number'),
        ({**network_opt('EDSR'), 'x': 1}, "no option 'x'"),
    ],
)
def test_a_checkpoint_whose_stored_options_are_odd(tmp_path, network, words):
    torch.save({'params': build_network(network_opt('EDSR')).state_dict(), 'network': network}, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=words):
        kdsr.load_network(str(tmp_path / 'x.pth'))


# cards of safetensors files


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('network', '[]'), ('network', '{"type": ["EDSR"]}'), ('network', '{'), ('network', 'null'), ('network', ...),
        ('scale', '1000000'), ('scale', ''), ('scale', '-1'), ('scale', '2.5'), ('multiple', '0'), ('parameters', 'x'),
        ('bytes_per_pixel', '-5'), ('reach', '9' * 30), ('metrics', '[1]'), ('metrics', '{"Set5": {"psnr": "x"}}'),
        ('metrics', '{"Set5": 3}'), ('metrics', '{"Set5": {"psnr": NaN}}'), ('name', ...),
    ],
)  # fmt: skip
def test_a_card_of_a_wrong_shape(tmp_path, key, value):
    network = build_network(network_opt('EDSR'))
    torch.save({'params': network.state_dict(), 'network': network_opt('EDSR')}, tmp_path / 'x.pth')
    one, _ = read_model(str(tmp_path / 'x.pth'))
    metadata = {**make_card(one, one.source).metadata(), key: value}
    if value is ...:
        del metadata[key]
    path = str(tmp_path / 'x.safetensors')
    save_file(network.state_dict(), path, metadata=metadata)
    with pytest.raises(UserError, match=f'its metadata is damaged: {key}'):
        read_card(safetensors_metadata(path), path)
    with pytest.raises(UserError, match='its metadata is damaged'):
        read_model(path)


# training states

STATES = {
    'an iteration that is a text': (('iter',), '2', 'iter must be a whole number'),
    'a negative epoch': (('epoch',), -1, 'epoch must be a whole number from 0'),
    'no optimisers': (('optimizers',), ..., 'optimizers is missing'),
    'an optimiser that is a list': (('optimizers', 0), [], r'optimizers\[0\] must be a mapping'),
    'a learning rate that is a text': (('optimizers', 0, 'param_groups', 0, 'lr'), 'x', "'lr' of an optimiser"),
    'a parameter of another size': (('optimizers', 0, 'state', 0, 'exp_avg'), torch.ones(3), 'size of its weights'),
    'a list for a weight': (('optimizers', 0, 'state', 0), [], 'must have a mapping'),
    'schedulers that are a number': (('schedulers',), 3, 'schedulers must be a list'),
    'an attribute of a scheduler': (('schedulers', 0, 'optimizer'), 1, "no value 'optimizer'"),
    'a scheduler of texts': (('schedulers', 0, 'last_epoch'), 'x', "'last_epoch' of a scheduler"),
    'a name that leads elsewhere': (('networks',), ['../net_g_2.pth'], r'networks\[0\] must be a text like'),
    'an order of texts': (('data_order', 'processes'), 'x', r'data_order\.processes must be a whole number'),
    'best results of another kind': (('best_metric_results',), [1], 'best_metric_results must be a mapping'),
    'sets that are no mapping': (('validated',), 5, 'validated must be a mapping'),
}  # fmt: skip


@pytest.fixture(scope='module')
def stopped_run(tmp_path_factory):
    from tests.conftest import Workspace

    workspace = Workspace(tmp_path_factory.mktemp('run'))
    opt = workspace.options()
    folder = workspace.train({**opt, 'datasets': {'train': opt['datasets']['train']}})
    path = folder / 'training_states' / '2.state'
    return workspace, opt, path, torch.load(path, weights_only=False)


@pytest.mark.parametrize(('place', 'value', 'words'), STATES.values(), ids=STATES)
def test_a_training_state_of_a_wrong_shape(stopped_run, capsys, place, value, words):
    workspace, opt, path, right = stopped_run
    state = {**right}
    node = state
    for key in place[:-1]:
        node[key] = dict(node[key]) if isinstance(node[key], dict) else list(node[key])
        node = node[key]
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    torch.save(state, path)
    opt['path']['resume_state'] = str(path)
    opt['train']['total_iter'] = 3
    with pytest.raises(UserError) as refused:
        workspace.train({**opt, 'datasets': {'train': opt['datasets']['train']}})
    assert re.search(words, str(refused.value) + capsys.readouterr().out)


# raw sets and prepared sets

INDEX = {
    'format': 'kdsr raw 1', 'channels': 3, 'dtype': 'uint8', 'bytes': 48, 'frames': [['a.png', 0, 4, 4]],
    'windows': [[0, 'a', 0, 0, 4, 4]], 'crc32': [0],
}  # fmt: skip


@pytest.mark.parametrize(
    ('place', 'value'),
    [
        (('channels',), '3'), (('channels',), 0), (('channels',), 10**9), (('dtype',), 'object'), (('dtype',), 'x'),
        (('bytes',), 48.0), (('frames',), {}), (('frames', 0), []), (('frames', 0, 1), None), (('frames', 0, 2), -4),
        (('frames', 0, 2), 2**62), (('windows',), 1), (('windows', 0), [0]), (('windows', 0, 0), 7),
        (('windows', 0, 1), 3), (('windows', 0, 4), 2**60), (('crc32',), 'x'), (('crc32',), [-1]), (('crc32',), []),
        (('format',), ...), (('windows',), ...),
    ],
)  # fmt: skip
def test_a_raw_index_of_a_wrong_shape(tmp_path, place, value):
    (tmp_path / 'pixels.bin').write_bytes(bytes(48))
    (tmp_path / 'index.json').write_text(json.dumps(changed(INDEX, place, value)))
    with pytest.raises(UserError, match=r'is damaged|bytes instead of'):
        RawImages(tmp_path)


@pytest.mark.parametrize(
    'content', ['[]', '{"settings": 1, "sources": {}}', '{"settings": {}, "sources": {"a": []}}', '{']
)
def test_settings_of_a_set_of_a_wrong_shape(tmp_path, content):
    (tmp_path / 'kdsr_prepare.json').write_text(content)
    with pytest.raises(UserError, match=r'kdsr_prepare\.json is damaged.*Delete'):
        read_settings(tmp_path)


# what is read again or made anew


@pytest.mark.parametrize(
    'line',
    [
        '[]', '{"event": "log"}', '{"event": "log", "iter": 1, "date": 1.0, "losses": 5}',
        '{"event": "odd", "iter": 1, "date": 1.0}', '{"event": [], "iter": 1, "date": 1.0}',
    ],
)  # fmt: skip
def test_lines_of_a_record_of_a_wrong_shape_are_left_out(tmp_path, line):
    good = '{"event": "end", "iter": 4, "date": 2.0, "seconds": 1.0, "cpu_seconds": 1.0}'
    (tmp_path / 'record.jsonl').write_text(f'{line}\n{good}\n')
    record = read_record(str(tmp_path))
    assert record.iteration == 4
    assert record.ended == 2.0


@pytest.mark.parametrize(
    'content', ['[]', '{"pid": "x", "host": "h", "since": "s"}', '{"pid": -1, "host": "h", "since": 1}']
)
def test_a_damaged_holder_names_nobody(tmp_path, content):
    lock = FolderLock(tmp_path / 'set', 'being written')
    lock.holder_path.write_text(content)
    assert Holder.read(lock.holder_path) is None
    with lock:
        assert Holder.read(lock.holder_path) is not None


LMDB_LINES = {
    'no entries': {'entries': ...}, 'an entry without sizes': {'entries': [['a_s001']]},
    'a number for a key': {'entries': [[3, 24, 24, 0]]}, 'a negative size': {'entries': [['a_s001', -24, 24, 0]]},
}  # fmt: skip
RAW_LINES = {
    'no frame': {'frame': ...}, 'a frame of texts': {'frame': ['x', 4]}, 'a negative frame': {'frame': [-48, 48]},
    'one side': {'frame': [48]}, 'a window without sides': {'entries': [['a_s001', 0, 0]]},
    'a checksum of text': {'crc32': 'x'},
}  # fmt: skip


@pytest.mark.parametrize(
    ('raw', 'change'),
    [(False, change) for change in LMDB_LINES.values()] + [(True, change) for change in RAW_LINES.values()],
    ids=[*LMDB_LINES, *RAW_LINES],
)
def test_lines_of_a_journal_of_a_wrong_shape_are_made_again(tmp_path, monkeypatch, raw, change):
    (tmp_path / 'hr').mkdir()
    for name in 'ab':
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'hr' / f'{name}.png')

    def prepare(out):
        return prepare_training_set(tmp_path / 'hr', tmp_path / out, (2,), 24, 24, 1, progress=False, raw=raw)

    def stop(growing):
        raise UserError('stopped')

    monkeypatch.setattr(GrowingFolder, 'finish', stop)
    with pytest.raises(UserError, match='stopped'):
        prepare('set')
    monkeypatch.undo()
    ending = 'raw' if raw else 'lmdb'
    journal = tmp_path / f'set/hr_HR_sub.{ending}.partial/finished.jsonl'
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for key, value in change.items():
        lines[0] = changed(lines[0], (key,), value)
    journal.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    prepare('set')
    prepare('whole')
    file = f'hr_HR_sub.{ending}/' + ('index.json' if raw else 'checksums.json')
    assert json.loads((tmp_path / 'set' / file).read_text()) == json.loads((tmp_path / 'whole' / file).read_text())


SCORES = {
    'model': 'm', 'scale': 2, 'set_name': 's', 'lr_origin': 'o', 'crop': 2, 'source': 'f', 'fingerprint': '0',
    'parameters': None, 'luminance': False, 'quadrants': False, 'seconds': 1.0,
    'images': [{'image': 'a', 'psnr': 30.0, 'ssim': 0.5, 'bicubic': None}],
}  # fmt: skip


@pytest.mark.parametrize(
    ('place', 'value'),
    [
        (('images',), []), (('images', 0, 'psnr'), 'x'), (('images', 0, 'bicubic'), 'x'), (('seconds',), 'x'),
        (('parameters',), [1]), (('crop',), 0), (('scale',), '2'), (('lr_origin',), 5), (('quadrants',), 'no'),
    ],
)  # fmt: skip
def test_kept_scores_of_a_wrong_shape_are_computed_again(place, value):
    assert find_fault(SCORES, SET_SCORES) is None
    assert place[-1] in str(find_fault(changed(SCORES, place, value), SET_SCORES))


@pytest.mark.parametrize('values', [[], ['x'], ['x', 'psnr'], [['x'], 'psnr', 30.0], ['x', 'psnr', '30']])
def test_kept_values_of_references_of_a_wrong_shape_are_computed_again(tmp_path, values):
    right = {'a': [['x', 'psnr', 30.0]]}
    for content, kept in ((right, right), ({**right, 'b': [values]}, {})):
        (tmp_path / 'references.json').write_text(json.dumps(content))
        assert references._read(tmp_path / 'references.json') == kept


@pytest.mark.parametrize('options', ['x', ['x'], {'train': 1}, {'train': {'optim_g': ['x']}}])
def test_the_options_of_a_state_are_mappings(options):
    """They are compared with those of the run, which had ended in a traceback."""
    state = {'epoch': 0, 'iter': 2, 'optimizers': [], 'schedulers': []}
    right = {'model_type': 'SRModel', 'train': {'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'total_iter': 2}}
    for good in (None, {}, right):
        assert find_fault({**state, 'options': good}, TRAINING_STATE) is None
    assert 'options' in str(find_fault({**state, 'options': options}, TRAINING_STATE))
