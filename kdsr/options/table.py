"""The table of every key that kdsr adds to a BasicSR option file, and what a row of such a table says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdsr.markdown import markdown_table


@dataclass(frozen=True)
class Option:
    """One row of the option table.

    Attributes:
        types: What the value may be.
        doc: One sentence for people.
        required: Whether it must be given.
        choices: The only values allowed; empty for any.
        least: The smallest number allowed.
        below: What a number must be below.
        whole: Whether a number must be whole; `5e3` is.
    """

    types: tuple[type, ...]
    doc: str
    required: bool = False
    choices: tuple[Any, ...] = ()
    least: float | None = None
    below: float | None = None
    whole: bool = False


_KINDS = {dict: 'mapping', list: 'list', str: 'text', bool: 'true or false', int: 'number', float: 'number'}


def kind_of(option: Option) -> str:
    """Say in words what an option takes."""
    words = dict.fromkeys(_KINDS[t] for t in option.types)
    if option.whole or float not in option.types:
        words = dict.fromkeys('whole number' if word == 'number' else word for word in words)
    return ' or '.join(words)


RAW_SET = 'RawPairedImageDataset'
DEGRADED_SET = 'RawDegradedImageDataset'
RAW_SETS = (RAW_SET, DEGRADED_SET)
PAIRED_SETS = ('PairedImageDataset', *RAW_SETS)

NETWORK = Option((dict,), "`type` and the network's own arguments, as in BasicSR's `network_g`.", required=True)
WEIGHTS = Option((str,), 'Checkpoint file. It must match the network to 100 %.', required=True)
PRECISION = Option(
    (str,),
    'Of convolutions and matrix products; the answer is fp32.',
    choices=('fp32', 'bf16', 'fp16'),
)
CHANNELS_LAST = Option((bool,), 'Keep the channels innermost in memory, which most convolutions prefer.')
DEVICE = Option((str,), 'Where it runs, in a run of one process: `cuda:1`; beside the student when left out.')
PARAM_KEY = Option((str,), 'Key of the weights in the file; `params_ema`, then `params` when left out.')

TABLE: dict[str, dict[str, Option]] = {
    'top level': {
        'base': Option((str,), 'The option file that this one varies, relative to it.'),
        'import_modules': Option((list,), 'Other BasicSR-based packages to import, whose networks can then be named.'),
        'color': Option(
            (str,), '`y`: a kdsr model turns RGB images into luminance, for networks of one channel.', choices=('y',)
        ),
    },
    'distillation': {
        'health_check': Option((bool,), 'Refuse teachers that are worse than bicubic upsampling; true when left out.'),
        'teachers': Option((list,), 'The frozen teachers. Their order is part of the experiment.', required=True),
        'aggregator': Option((dict,), "A frozen network that fuses the teachers' images into one (MTKD, stage 2)."),
        'cache': Option(
            (str, dict),
            "Folder of the teachers' images (`kdsr cache`), or a mapping; then no teacher runs (PISR: no encoder).",
        ),
        'features': Option((dict,), 'Feature name to the module paths tapped in student and teacher, early to late.'),
        'views': Option((dict,), 'Name to an extra batch made of the training pair (`ZoomIn`, ...) and its arguments.'),
        'losses': Option((dict,), 'Name in the log (`l_*`) to a loss of the registry and its arguments; `~` for none.'),
        'init_from': Option((dict,), 'The part of a teacher whose weights the student starts with (PISR).'),
    },
    'train': {
        'amp': Option(
            (str,),
            "Precision of the network's pass in training; losses and weights stay fp32.",
            choices=('bf16', 'fp16'),
        ),
        'channels_last': CHANNELS_LAST,
        'compile': Option(
            (bool,), "PyTorch's compiler for the network in training, around tapped layers; takes minutes first."
        ),
        'accumulate': Option(
            (int,), least=1, doc='Run a batch in this many parts, one optimiser step for all: less memory.'
        ),
        'clip_grad_norm': Option((int, float), 'Largest norm of the gradient of all that is learnt, as one vector.'),
        'skip_nonfinite': Option(
            (int,),
            'Leave out up to this many steps whose loss or gradient is not finite; at the next the run stops.',
            least=0,
        ),
        'imitation_opt': Option(
            (dict,), "PrivilegedTeacherModel: loss of the encoder's output to the LR image (PISR)."
        ),
    },
    'val': {
        'quadrants': Option(
            (bool, list),
            'Run the student on four quarters of the image, as in the tables of SAN; or for which datasets.',
        ),
        'round_gt': Option((bool,), 'With `color: y`: round the luminance of the ground truth; false as in PISR.'),
    },
    'path': {
        'resume_with_other_data': Option(
            (bool,), 'Resume although seed, batch size, processes or training images are not those of the killed run.'
        ),
    },
    'logger': {
        'keep_last': Option(
            (int,), least=1, doc='Keep this many states and their checkpoints, besides `best` and `latest`.'
        ),
    },
    'distillation.teachers[]': {
        'name': Option((str,), 'Short name; unique, stored in the checkpoints of stage 1.', required=True),
        'network': NETWORK,
        'path': Option((str,), f'{WEIGHTS.doc} Left out where `network` names the file itself (`type: Spandrel`).'),
        'param_key': PARAM_KEY,
        'input': Option((str,), 'What the teacher is shown; `gt` for privileged information.', choices=('lq', 'gt')),
        'precision': PRECISION,
        'channels_last': CHANNELS_LAST,
        'device': DEVICE,
    },
    'distillation.aggregator': {
        'network': NETWORK,
        'path': WEIGHTS,
        'param_key': PARAM_KEY,
        'precision': PRECISION,
        'channels_last': CHANNELS_LAST,
        'device': DEVICE,
    },
    'distillation.cache': {
        'path': Option((str,), 'Folder of the cache.', required=True),
        'self_ensemble': Option((bool,), 'Cache the mean answer over the eight flips and turns of the image.'),
        'margin': Option(
            (int,), 'LR pixels at the border of a crop that distillation losses leave out; 0 by default.', least=0
        ),
        'exact': Option((bool,), 'Run the teachers live, on the crops, all the same.'),
    },
    'distillation.init_from': {
        'teacher': Option((str,), 'Name of the teacher.', required=True),
        'module': Option((str,), 'Module path in it, for example `decoder`; all of it when left out.'),
    },
    'distillation.features.*': {
        'student': Option((str,), 'Module path in the student; `path:input` taps what goes into it.', required=True),
        'teacher': Option((str,), 'Module path in the teacher.', required=True),
        'from': Option((str,), 'Name of the teacher; needed when there are several.'),
        'shrink': Option(
            (str,),
            "Where the teacher's map is `scale` times too large: average each square, or take its first value.",
            choices=('average', 'subsample'),
        ),
    },
}


def document() -> str:
    """Return the option table as Markdown; `make docs` writes it to docs/options.md."""
    lines = [
        '# Options',
        '',
        'Every key that kdsr adds to a BasicSR option file. Made by `make docs` from `kdsr/options/table.py`.',
        '',
        '`base: FILE` at the top names the option file that this one varies, relative to it. Mappings are merged key',
        'by key; lists and plain values are replaced; a mapping with another `type:` is replaced whole.',
        '',
        '`import_modules: [hat.archs]` imports other BasicSR-based packages, whose networks can then be named.',
        '',
        "`kdsr check FILE...` finds all mistakes, in BasicSR's options too, before anything is built; every run does",
        'the same at its start. An editor with yaml-language-server shows them while you type, and explains the keys,',
        'when the first line of the file names the schema (`kdsr check --schema` prints it), seen from the file:',
        '',
        '```yaml',
        '# yaml-language-server: $schema=../docs/options.schema.json',
        '```',
    ]
    for block, rows in TABLE.items():
        cells = [
            (
                f'`{key}`',
                (' or '.join(option.choices) or kind_of(option)) + (', required' if option.required else ''),
                option.doc,
            )
            for key, option in rows.items()
        ]
        lines += ['', f'## `{block}`', '', markdown_table(['key', 'value', ''], cells)]
    return '\n'.join(lines) + '\n'
