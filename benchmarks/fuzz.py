"""Feed damaged and hostile files of every kind to kdsr, and count what is not answered with one message.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --minutes 10        # writes benchmarks/results/fuzz_cpu.md

Every round takes a right file of one kind, changes it in one to three places (a value of another type or size, a key
that is missing, flipped or missing bytes), and gives it to the code that reads such files. The answer must come within
seconds and be a result, or a UserError: one message. Anything else is a finding: its kind, round and traceback are
printed, and the script ends with status 1. A round depends on its number and `--seed` alone, so `--kind KIND --round N`
repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fuzz_kinds import Kinds
from side_by_side import keep, machine

from kdsr.errors import UserError

SLOW, STUCK = 20.0, 120.0  # processor seconds, and seconds on the clock; a round takes milliseconds


def answer(read: Callable[[random.Random], object], seed: str) -> tuple[str, float]:
    """Run one round; return 'taken', 'refused', or the traceback of a finding, and its processor seconds."""
    began, worked = time.monotonic(), time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            read(random.Random(seed))
        result = 'taken'
    except UserError:
        result = 'refused'
    except Exception:
        result = traceback.format_exc()
    seconds, waited = time.process_time() - worked, time.monotonic() - began
    quick = seconds < SLOW and waited < STUCK
    return (result if quick else f'{result}: it took {seconds:.1f} processor seconds, {waited:.1f} s in all'), seconds


def main() -> None:
    """Run rounds until the time is over, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kind', help='only this kind')
    parser.add_argument('--round', type=int, help='only this round')
    parser.add_argument('--findings', type=int, default=20, help='stop after so many')
    args = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all='ignore')
    warnings.simplefilter('ignore')
    began, findings = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix='kdsr_fuzz_') as temporary:
        os.chdir(temporary)
        os.environ['XDG_CACHE_HOME'] = str(Path(temporary) / 'cache')
        os.fsync = lambda _: None  # no round loses power; waiting for the disk takes most of the time
        with contextlib.redirect_stdout(io.StringIO()):
            readers = Kinds(Path(temporary)).readers
        logging.disable(logging.CRITICAL)
        chosen = {name: read for name, read in readers.items() if args.kind in (None, name)}
        counts = {name: {'taken': 0, 'refused': 0, 'slowest': 0.0} for name in chosen}
        number = args.round or 0
        while findings < args.findings:
            for name, read in chosen.items():
                result, seconds = answer(read, f'{args.seed} {name} {number}')
                counts[name]['slowest'] = max(counts[name]['slowest'], seconds)
                if result in ('taken', 'refused'):
                    counts[name][result] += 1
                else:
                    findings += 1
                    print(f'FINDING {name}, round {number}:\n{result}', flush=True)
            number += 1
            if args.round is not None or time.monotonic() - began > 60 * args.minutes:
                break
        os.chdir('/')
    rounds = sum(int(count['taken'] + count['refused']) for count in counts.values())
    print(f'{rounds} rounds, {findings} findings')
    if findings:
        sys.exit(1)
    if args.kind is None and args.round is None:
        lines = [
            f'| {name} | {count["taken"]} | {count["refused"]} | {count["slowest"]:.2f} |'
            for name, count in counts.items()
        ]
        about = (
            f'{rounds} rounds in {(time.monotonic() - began) / 60:.1f} min, seed {args.seed}: no traceback, and '
            f'nothing that took {SLOW:g} processor seconds. {machine()} Written by `OMP_NUM_THREADS=1 python '
            f'benchmarks/fuzz.py --minutes {args.minutes:g} --seed {args.seed}`.'
        )
        head = ['| file | taken | refused with one message | slowest round (processor seconds) |', '|---|---|---|---|']
        keep('fuzz', ['# Damaged and hostile files', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
