"""The table of all keys that kdsr adds to a BasicSR option file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdsr.markdown import markdown_table
from kdsr.options.renamed import describe_renamed


@dataclass(frozen=True)
class Option:
    """One row of the option table.

    Attributes:
        types: Allowed types of the value.
        doc: One sentence for the user.
        required: The key must be given.
        choices: The allowed values; empty for any.
        least: The smallest allowed number.
        below: Numbers must be below this one.
        whole: Numbers must be whole; `5e3` is whole.
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
    """Return the type of an option's value in words."""
    words = dict.fromkeys(_KINDS[t] for t in option.types)
    if option.whole or float not in option.types:
        words = dict.fromkeys('whole number' if word == 'number' else word for word in words)
    return ' or '.join(words)


RAW_SET = 'RawPairedImageDataset'
DEGRADED_SET = 'RawDegradedImageDataset'
RAW_SETS = (RAW_SET, DEGRADED_SET)
PAIRED_SETS = ('PairedImageDataset', *RAW_SETS)

NETWORK = Option((dict,), "`type` and arguments of the network, as in BasicSR's `network_g`.", required=True)
WEIGHTS = Option((str,), 'Checkpoint file. It must match the network to 100 %.', required=True)
PRECISION = Option(
    (str,),
    'Precision of convolutions and matrix products; the output is fp32.',
    choices=('fp32', 'bf16', 'fp16'),
)
CHANNELS_LAST = Option((bool,), 'Store channels last in memory, which makes most convolutions faster.')
DEVICE = Option(
    (str,), 'Device of the network in a run of one process, for example `cuda:1`. Default: the device of the student.'
)
PARAM_KEY = Option((str,), 'Key of the weights in the file. Default: `params_ema`, else `params`.')

TABLE: dict[str, dict[str, Option]] = {
    'top level': {
        'base': Option((str,), 'The option file that this one varies; the path is relative to this file.'),
        'import_modules': Option(
            (list,), 'Modules of other BasicSR-based packages to import. This runs their code, as `python` would.'
        ),
        'color': Option(
            (str,), '`y`: train on the luminance of RGB images, for networks with one channel.', choices=('y',)
        ),
    },
    'distillation': {
        'health_check': Option((bool,), 'Refuse teachers that are worse than bicubic upsampling. Default: true.'),
        'teachers': Option((list,), 'The frozen teachers. Their order is part of the experiment.', required=True),
        'aggregator': Option((dict,), "A frozen network that fuses the teachers' images into one (MTKD, stage 2)."),
        'cache': Option(
            (str, dict),
            "Folder of the teachers' images (`kdsr cache`), or a mapping. No teacher runs then (PISR: no encoder).",
        ),
        'features': Option(
            (dict,), 'Feature names, early to late, each with the tapped module paths of student and teacher.'
        ),
        'discriminator_features': Option(
            (dict,),
            'Names of feature pairs, each with a module path in `network_d`: its features of the two images '
            '(feature matching). Losses name them in their `features`.',
        ),
        'views': Option(
            (dict,), 'Names of extra batches, each with a `type` (`ZoomIn`, ...) that makes it from the training pair.'
        ),
        'losses': Option(
            (dict,), 'Names in the log (`l_*`), each with the `type` and arguments of a loss; `~` switches one off.'
        ),
        'init_from': Option((dict,), 'The student starts with the weights of this part of a teacher (PISR).'),
    },
    'train': {
        'amp': Option(
            (str,),
            "Precision of the network's forward and backward pass in training; losses and weights stay fp32.",
            choices=('bf16', 'fp16'),
        ),
        'channels_last': CHANNELS_LAST,
        'compile': Option(
            (bool,), "Compile the network for training with PyTorch's compiler, which takes minutes at the start."
        ),
        'accumulate': Option(
            (int,), least=1, doc='Run each batch in this many parts with one optimiser step, to save memory.'
        ),
        'clip_grad_norm': Option((int, float), 'Largest norm of the gradient of all trained weights, as one vector.'),
        'quantise': Option(
            (str,),
            'Train with the rounding of the int8 file that `kdsr export --int8` will write.',
            choices=('int8',),
        ),
        'quantise_budget': Option(
            (int, float),
            'PSNR in dB that the rounding to int8 may cost before training (0.03): the most sensitive convolutions '
            'beyond it stay in single precision.',
            least=0,
        ),
        'skip_nonfinite': Option(
            (int,),
            'Skip up to this many steps with a loss or gradient that is not finite; the next one stops the run.',
            least=0,
        ),
        'imitation_opt': Option(
            (dict,), "PrivilegedTeacherModel: loss between the encoder's output and the LR image (PISR)."
        ),
    },
    'val': {
        'quadrants': Option(
            (bool, list),
            'Run the student on four quarters of each image, as in the tables of SAN: true, or names of datasets.',
        ),
        'round_gt': Option(
            (bool,), 'With `color: y`: round the luminance of the ground truth. Default: false, as in PISR.'
        ),
    },
    'path': {
        'resume_with_other_data': Option(
            (bool,), 'Resume a run although its seed, batch size, processes or training images changed.'
        ),
    },
    'logger': {
        'verbose': Option(
            (bool,), "Print BasicSR's banner, all options and all modules at the start too. The log file has them."
        ),
        'keep_last': Option(
            (int,), least=1, doc='Keep only the newest states and checkpoints, this many, besides `best` and `latest`.'
        ),
    },
    'distillation.teachers[]': {
        'name': Option((str,), 'Short unique name; checkpoints of stage 1 contain it.', required=True),
        'network': NETWORK,
        'path': Option((str,), f'{WEIGHTS.doc} Left out if `network` names the file itself (`type: Spandrel`).'),
        'param_key': PARAM_KEY,
        'input': Option(
            (str,),
            'Input of the teacher. Privileged information: `gt`, the ground truth (PISR); `lq_clean`, its bicubic LR '
            'image where the student gets a degraded one.',
            choices=('lq', 'lq_clean', 'gt'),
        ),
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
        'self_ensemble': Option((bool,), 'Cache the mean output over the eight flips and rotations of the image.'),
        'margin': Option(
            (int,), 'Distillation losses ignore this many LR pixels at the border of a crop. Default: 0.', least=0
        ),
        'exact': Option((bool,), 'Ignore the cache and run the teachers on the crops.'),
    },
    'distillation.init_from': {
        'teacher': Option((str,), 'Name of the teacher.', required=True),
        'module': Option((str,), 'Module path in the teacher, for example `decoder`. Default: the whole teacher.'),
    },
    'distillation.features.*': {
        'student': Option(
            (str,), 'Module path in the student; `path:input` taps the input of the module.', required=True
        ),
        'teacher': Option((str,), 'Module path in the teacher.', required=True),
        'from': Option((str,), 'Name of the teacher; required if there are several.'),
        'shrink': Option(
            (str,),
            "Reduces a teacher's map that is `scale` times too large: mean of each square, or its first value.",
            choices=('average', 'subsample'),
        ),
    },
}


def document() -> str:
    """Return the option table as Markdown, for docs/options.md."""
    lines = [
        '# Options',
        '',
        'Every key that kdsr adds to a BasicSR option file. Made by `make docs` from `kdsr/options/table.py`.',
        '',
        '`base: FILE` at the top names the option file that this one varies; the path is relative to this file.',
        'Mappings are merged key by key; lists and plain values are replaced. A mapping with another `type:` is',
        'replaced completely.',
        '',
        '`import_modules: [hat.archs]` imports other BasicSR-based packages, whose networks can then be used. An',
        'option file with this key is code: every command that you give the file to, `kdsr check` too, imports the',
        'modules, also from the current folder. A file that kdsr finds beside a checkpoint never imports anything.',
        '',
        "`kdsr check FILE...` finds all mistakes, also in BasicSR's options, before a run: what a start would find, it",
        'finds. It reads names and headers of all images, compares all weights with their networks, takes one',
        'training step on shapes alone, and compares the teachers with bicubic upsampling on two training pairs.',
        '`--quick` leaves out the last three, `--options-only` all of it.',
        '',
        'Editors with yaml-language-server show mistakes and explain keys while you type, if the first line of the',
        'file names the schema (`kdsr check --schema` prints it), relative to the file:',
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
    lines += describe_renamed()
    return '\n'.join(lines) + '\n'
