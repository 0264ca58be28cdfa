"""Progress bars on a terminal; in a file, whole lines, one now and then."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_NOUNS = ('image', 'map')  # other units are abbreviations
LINE_SECONDS = 30.0  # between the lines of one bar


class ProgressBar(tqdm):
    """tqdm's bar. Where the output is redirected, each bar writes a line every 30 seconds and at its end.

    Several bars at a time move the cursor up and down, which in a file becomes an unreadable line of fragments.

    Args:
        args: As of tqdm.
        kwargs: As of tqdm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        stream = kwargs.get('file') or sys.stderr
        self.in_lines = not getattr(stream, 'isatty', bool)()
        if self.in_lines:
            kwargs.update(mininterval=LINE_SECONDS, maxinterval=LINE_SECONDS, leave=False, delay=1e-9)
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the bar, or write its line. Returns whether something was shown that must be cleared."""
        if not self.in_lines:
            return bool(super().display(msg, pos))
        if msg is None:
            self.fp.write(f'{self.describe()}\n')
            self.fp.flush()
        return False

    def describe(self) -> str:
        """Return the state of the bar in words."""
        now = self.format_dict
        of_total = f'/{self.total:,}' if self.total else ''
        done = f'{self.n:,.1f}'.removesuffix('.0')  # a part of an image counts, too
        plural = self.unit in _NOUNS and (self.total or self.n) != 1
        text = f'{self.desc.strip().rstrip(":") or "done"}: {done}{of_total} {self.unit}{"s" if plural else ""}'
        took = self.format_interval(now['elapsed'])
        rate = (self.n - self.initial) / now['elapsed'] if now['elapsed'] else 0.0
        left = f', {self.format_interval((self.total - self.n) / rate)} left' if rate and self.total else ''
        return f'{text} after {took}{left if self.n != self.total else ""}'

    def close(self) -> None:
        """Write the last line, and end the bar."""
        if self.in_lines and not self.disable:
            self.display()
        super().close()
