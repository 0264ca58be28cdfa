"""The table of the kinds of files that kdsr reads: the shape that the content of each must have."""

from __future__ import annotations

from kdsr.foreign.shapes import Fields, FixedList, Instance, ListOf, MapOf, Maybe, Number, Plain, Text, whole

# Options of a network in a checkpoint (`network`) or a safetensors file: `type` and arguments.
NETWORK = Fields({'type': Text(r'\w{1,100}')}, {})

# The texts beside the tensors of a safetensors file, and of an ONNX file of kdsr, after their numbers are parsed.
CARD = Fields(
    {
        'name': Text(),
        'network': NETWORK,
        'scale': whole(1, 16),
        'multiple': whole(1, 1024),
        'parameters': whole(),
        'bytes_per_pixel': whole(),
        'reach': Maybe(whole(0, 2**31)),
        'training': Text(),
        'metrics': MapOf(MapOf(Number())),
        'data_licence': Text(),
        'protocol': Text(),
        'purpose': Text(),
    }
)

# `kdsr compare`: what the code that reads a comparison relies on, beyond the keys of its top level and of its runs.
_EXPERIMENT_BLOCKS = {name: Maybe(MapOf(Plain())) for name in ('train', 'val', 'path', 'logger', 'network_g')}
_EXPERIMENT_BLOCKS['datasets'] = Maybe(MapOf(Maybe(MapOf(Plain()))))
RUN_OPTIONS = Fields({}, _EXPERIMENT_BLOCKS)

# `<iteration>.state`, of BasicSR or kdsr.
_GROUPS = ListOf(Fields({'params': ListOf(whole())}))
_ORDER = {
    'manual_seed': whole(-(2**63), 2**64), 'processes': whole(1), 'batch_size_per_gpu': whole(1),
    'dataset_enlarge_ratio': Number(0), 'training images': whole(),
}  # fmt: skip
_OPTIMISERS = {name: Maybe(MapOf(Instance())) for name in ('optim_g', 'optim_d')}
TRAINING_STATE = Fields(
    {
        'epoch': whole(),
        'iter': whole(),
        'optimizers': ListOf(Fields({'state': Instance((dict,)), 'param_groups': _GROUPS})),
        'schedulers': ListOf(MapOf(Instance())),
    },
    {
        'networks': Maybe(ListOf(Text(r'net_\w+\.pth'))),
        'validated': Maybe(MapOf(whole())),
        'best_metric_results': Maybe(
            MapOf(MapOf(Fields({'better': Text(), 'val': Instance((int, float)), 'iter': whole()})))
        ),
        'data_order': Maybe(Fields(_ORDER)),
        'options': Maybe(Fields({}, {'train': Maybe(Fields({}, _OPTIMISERS))})),
    },
)

# `index.json` of a raw set or a cache.
RAW_INDEX = Fields(
    {
        'format': Text(),
        'channels': whole(1, 4096),
        'bytes': whole(),
        'frames': ListOf(FixedList((str, int, int, int))),
        'windows': ListOf(FixedList((int, str, int, int, int, int))),
    },
    {
        'dtype': Text(r'uint8|float16|float32'),
        'crc32': Maybe(ListOf(whole(0, 2**32 - 1))),
        'seconds': Number(0),
        'cpu_seconds': Number(0),
    },
)

# `kdsr_prepare.json`, the settings that a set was made with, and the lines of the journals of sets not yet finished.
SET_SETTINGS = Fields({'settings': MapOf(Plain()), 'sources': MapOf(Instance((int, str)))})
_SOURCE = {'file': Text(), 'bytes': Plain()}
RAW_JOURNAL_LINE = Fields(
    {
        **_SOURCE,
        'frame': FixedList((int, int), least=1),
        'entries': ListOf(FixedList((str, int, int, int, int), least=0)),
    },
    {'crc32': whole(0, 2**32 - 1)},
)
# an older version kept no checksums
LMDB_JOURNAL_LINE = Fields({**_SOURCE, 'entries': ListOf(FixedList((str, int, int), least=0, optional=(int,)))})
CHECKSUMS = MapOf(whole(0, 2**32 - 1))

# A line of `record.jsonl`.
EVENT = Fields({'event': Text(), 'iter': whole(), 'date': Number()})
_CLOCK = {'seconds': Number(0), 'cpu_seconds': Number(0)}
EVENT_KINDS = {
    'start': Fields({}),
    'log': Fields({**_CLOCK, 'losses': MapOf(Instance((int, float)))}, {'step_seconds': Maybe(Number(0))}),
    'validation': Fields({**_CLOCK, 'set': Text(), 'values': MapOf(Instance((int, float)))}),
    'end': Fields(_CLOCK),
}

# The process that holds a lock.
HOLDER = Fields({'pid': whole(1, 2**31), 'host': Text(), 'since': Text()})

# What is kept so that it is not computed again: scores of a benchmark, of bicubic and the teachers, headers of images.
_VALUE = Instance((int, float))
_IMAGE_SCORE = Fields({'image': Text(), 'psnr': _VALUE, 'ssim': _VALUE}, {'bicubic': Maybe(_VALUE)})
SET_SCORES = Fields(
    {
        **{name: Text() for name in ('model', 'set_name', 'lr_origin', 'source', 'fingerprint')},
        **{name: whole(1) for name in ('scale', 'crop')},
        **{name: Instance((bool,)) for name in ('luminance', 'quadrants')},
        'parameters': Maybe(whole()),
        'seconds': Number(0),
        'images': ListOf(_IMAGE_SCORE, least=1),
    }
)
REFERENCE_VALUES = MapOf(ListOf(FixedList((str, str, float))))
