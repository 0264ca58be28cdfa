"""The options that kdsr adds to a BasicSR YAML file: reading them, and checking them before anything is built."""

from kdsr.options.caching import Cache, cache_of, caches_code, used_cache, with_cache
from kdsr.options.checking import check, check_files, check_model, check_values
from kdsr.options.reading import (
    SafeDumper,
    SafeLoader,
    complete,
    dump,
    load,
    load_experiment,
    merge,
    parse_value,
    read_yaml,
)
from kdsr.options.table import TABLE, Option, document

__all__ = [
    'TABLE',
    'Cache',
    'Option',
    'SafeDumper',
    'SafeLoader',
    'cache_of',
    'caches_code',
    'check',
    'check_files',
    'check_model',
    'check_values',
    'complete',
    'document',
    'dump',
    'load',
    'load_experiment',
    'merge',
    'parse_value',
    'read_yaml',
    'used_cache',
    'with_cache',
]
