"""`kdsr complexity`: the cost of networks, in the format of the NTIRE efficient super-resolution challenges."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdsr.cost.complexity import Complexity, count_networks, count_option_files
from kdsr.cost.latency import Timing
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.markdown import markdown_table

Tables = Mapping[str, Sequence[Complexity]]


def make_complexity_tables(
    option_files: Sequence[str],
    networks: Sequence[Mapping[str, Any]],
    output_size: tuple[int, int] = (720, 1280),
    input_size: tuple[int, int] = (256, 256),
    timing: Timing | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, list[Complexity]]:
    """Count networks at two sizes: the input of the challenges, and the output of the papers.

    Args:
        option_files: Option files; their students, teachers and aggregators are counted.
        networks: Options of other networks.
        output_size: (H, W) of the super-resolved image.
        input_size: (h, w) of the low-resolution image.
        timing: How to time the networks; None runs none.
        overrides: As after `--force_yml`, for all option files.

    Returns:
        Heading of each table to its rows.

    Raises:
        UserError: there is nothing to count, or a network cannot be counted.
    """
    if not option_files and not networks:
        raise UserError("name option files, or networks: --network '{type: RFDN, upscale: 4}'.")
    sizes = {
        f'{input_size[1]}x{input_size[0]} input': input_size,
        f'{output_size[1]}x{output_size[0]} output': None,
    }
    return {
        heading: [
            *count_option_files(option_files, output_size, size, timing, overrides),
            *count_networks(networks, output_size, size, timing),
        ]
        for heading, size in sizes.items()
    }


def format_tables(tables: Tables, timing: Timing | None = None) -> str:
    """Return the tables as Markdown, with the meaning of their numbers.

    Args:
        tables: Heading of each table to its rows.
        timing: How the networks were timed; None if they were not.
    """
    gpu = timing is not None and timing.device.startswith('cuda')
    memory = "the GPU's own peak" if gpu else 'weights and the tensors alive at a time in fp32, without workspaces'
    about = (
        'MultiAdds: of convolutions, linear layers and matrix products (the challenges call them FLOPs). '
        f'Activations: values that convolutions return. Memory: {memory}.'
    )
    head = ['network', 'parameters', 'MultiAdds [G]', 'activations [M]', 'conv', 'memory [MB]']
    if timing:
        about += f' Latency: {timing.describe()}.'
        head.append('latency [ms]')
    blocks = [about]
    for heading, rows in tables.items():
        blocks += [f'{heading}:', markdown_table(head, map(_format_cells, rows), numbers=range(1, len(head)))]
    return '\n\n'.join(blocks)


def _format_cells(row: Complexity) -> list[str]:
    cells = [
        row.name,
        f'{row.parameters:,}',
        f'{row.multi_adds / 1e9:,.3f}',
        f'{row.activations / 1e6:,.2f}',
        str(row.convolutions),
        f'{row.memory / 1e6:,.1f}',
    ]
    return cells if row.seconds is None else [*cells, f'{row.seconds * 1e3:,.1f}']


def write_tables(tables: Tables, file: str, timing: Timing | None = None) -> None:
    """Write the tables to a file; its ending says the format.

    Args:
        tables: Heading of each table to its rows.
        file: Ends in .csv, .json or .md; or ``csv:FILE``, ``json:FILE`` for a file with any ending.
        timing: How the networks were timed; None if they were not.

    Raises:
        UserError: the ending is another one.
    """
    kind, colon, path = file.partition(':')
    if not colon or kind not in ('csv', 'json'):
        kind, path = Path(file).suffix.lower().lstrip('.'), file
    if kind == 'csv':
        write_csv(tables, path)
    elif kind == 'json':
        write_json(tables, path, timing)
    elif kind == 'md':
        write_durably(Path(path), f'{format_tables(tables, timing)}\n'.encode())
    else:
        raise UserError(f'--out {file}: the name must end in .csv, .json or .md.')


def write_csv(tables: Tables, path: str) -> None:
    """Write the tables as CSV, one line per network and size, in plain numbers, bytes and seconds."""
    text = io.StringIO()
    fields = [field.name for field in dataclasses.fields(Complexity)]
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['size', *fields])
    for heading, rows in tables.items():
        writer.writerows([heading, *(getattr(row, field) for field in fields)] for row in rows)
    write_durably(Path(path), text.getvalue().encode())


def write_json(tables: Tables, path: str, timing: Timing | None = None) -> None:
    """Write the tables as JSON, with the way of timing."""
    content = {
        'timing': timing.describe() if timing else None,
        'sizes': {heading: [dataclasses.asdict(row) for row in rows] for heading, rows in tables.items()},
    }
    write_durably(Path(path), (json.dumps(content, indent=1) + '\n').encode())
