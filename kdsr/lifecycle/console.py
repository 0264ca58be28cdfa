"""What a run prints: what a person wants to know. The log file has everything.

BasicSR begins with about 150 lines: a banner, all options, all modules of the network. They go into the file only,
unless `logger.verbose` (or `--verbose`) asks for them. Warnings are always printed.
"""

from __future__ import annotations

import logging
from typing import Any

from basicsr.utils import get_root_logger as basicsr_get_root_logger

from kdsr.compat.option_files import settings


class Console:
    """Whether BasicSR's messages are printed now.

    Attributes:
        building: The run is being built; only warnings are printed.
        file: The log file of the run; '' before it is opened.
    """

    def __init__(self) -> None:
        self.building = False
        self.file = ''


console = Console()


class _Printed(logging.Filter):
    """Let the console print what is not part of the building of a run."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not console.building


def get_root_logger(logger_name: str = 'basicsr', log_level: int = logging.INFO, log_file: Any = None) -> Any:
    """Return BasicSR's logger, which prints little until :func:`say_start` ends the building of the run.

    Args:
        logger_name: As in BasicSR.
        log_level: As in BasicSR.
        log_file: The file of the run, if it begins now.
    """
    logger = basicsr_get_root_logger(logger_name, log_level, log_file)
    if log_file is not None:
        console.file, console.building = str(log_file), not settings['verbose']
        for handler in logger.handlers:
            is_file = isinstance(handler, logging.FileHandler)
            if not is_file and not any(isinstance(kind, _Printed) for kind in handler.filters):
                handler.addFilter(_Printed())
    return logger


def say_start(summary: str) -> None:
    """Print and log what the run is, and from now on every message.

    Args:
        summary: Some lines.
    """
    console.building = False
    basicsr_get_root_logger().info(f'\n{summary}')


def forget() -> None:
    """Print everything again: the run is over."""
    console.building, console.file = False, ''
