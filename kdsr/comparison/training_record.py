"""The record of a training for programs: `record.jsonl` in its experiment folder, one event per line.

The events are `start` (iteration, commit, hardware), `log` (losses), `validation` (metrics at full precision) and
`end`. Times count training without validation. A run that was killed and resumed has several `start` events; reading
the record forgets what the run did after its last saved state, because it did that again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdsr.foreign import find_fault, parse_json
from kdsr.foreign.kinds import EVENT, EVENT_KINDS

FILE = 'record.jsonl'


@dataclass(frozen=True)
class Point:
    """One value on a curve.

    Attributes:
        iteration: The iteration after which it was measured.
        value: A metric or a loss.
        seconds: Training time until then, without validation.
        cpu_seconds: Processor time until then, of all threads and finished data workers together.
    """

    iteration: int
    value: float
    seconds: float
    cpu_seconds: float


@dataclass
class Record:
    """What a run has done so far.

    Attributes:
        starts: The `start` events; several when the run was resumed.
        curves: (validation set, metric) to points, in the order of iterations.
        losses: Name in the log to points.
        iteration: The last recorded iteration.
        seconds, cpu_seconds: Training time until then, without validation and without lost work.
        step_seconds: Wall-clock time of one step, for each line of the log.
        ended: When the run ended, in seconds since 1970; None while it is not finished.
        updated: When the last event was written, in seconds since 1970.
    """

    starts: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[str, str], list[Point]] = field(default_factory=dict)
    losses: dict[str, list[Point]] = field(default_factory=dict)
    iteration: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    ended: float | None = None
    updated: float = 0.0


class RecordWriter:
    """Appends events to the record of a run. Every event is written at once.

    Args:
        folder: Folder of the experiment.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, FILE)
        self._file = open(self.path, 'a+', encoding='utf-8')  # noqa: SIM115 - open until the process ends
        if self._file.tell() and not _ends_with_newline(self.path):
            self._file.write('\n')  # a killed process may have left an incomplete line

    def write(self, event: str, iteration: int, **values: Any) -> None:
        """Append one event."""
        self._file.write(json.dumps({'event': event, 'iter': iteration, 'date': time.time(), **values}) + '\n')
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _ends_with_newline(path: str) -> bool:
    with open(path, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b'\n'


def read_record(folder: str) -> Record | None:
    """Return the record of the experiment in `folder`; None where there is none."""
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
        return None
    with open(path, encoding='utf-8', errors='replace') as file:
        events = list(_parse_events(file))
    record = Record()
    offset = (0.0, 0.0)  # training time of earlier processes
    for event in events:
        record.updated = event['date']
        if event['event'] == 'start':
            offset = _rewind(record, event['iter'])
            record.starts.append(event)
            record.ended = None
            continue
        record.iteration = event['iter']
        record.seconds = offset[0] + event['seconds']
        record.cpu_seconds = offset[1] + event['cpu_seconds']
        _add(record, event)
    return record


def _parse_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = parse_json(line, EVENT)
        except ValueError:  # an incomplete line of a killed process
            continue
        kind = find_fault(event, EVENT_KINDS[event['event']]) if event['event'] in EVENT_KINDS else 'unknown'
        if kind is None:
            yield event


def _add(record: Record, event: Mapping[str, Any]) -> None:
    at = (record.seconds, record.cpu_seconds)
    if event['event'] == 'validation':
        for metric, value in event['values'].items():
            _append(record.curves.setdefault((event['set'], metric), []), Point(event['iter'], value, *at))
    elif event['event'] == 'log':
        for name, value in event['losses'].items():
            _append(record.losses.setdefault(name, []), Point(event['iter'], value, *at))
        if event.get('step_seconds') is not None:
            record.step_seconds.append(event['step_seconds'])
    elif event['event'] == 'end':
        record.ended = event['date']


def _append(curve: list[Point], point: Point) -> None:
    if curve and curve[-1].iteration == point.iteration:  # BasicSR may validate the last iteration twice
        curve.pop()
    curve.append(point)


def _rewind(record: Record, iteration: int) -> tuple[float, float]:
    """Forget everything after `iteration`; return the training time until then."""
    curves = [*record.curves.values(), *record.losses.values()]
    for curve in curves:
        curve[:] = [p for p in curve if p.iteration <= iteration]
    kept = [p for curve in curves for p in curve]
    record.iteration = iteration
    record.seconds = max((p.seconds for p in kept), default=0.0)
    record.cpu_seconds = max((p.cpu_seconds for p in kept), default=0.0)
    return record.seconds, record.cpu_seconds
