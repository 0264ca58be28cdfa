"""The options of an experiment: read them, and find mistakes before anything is built."""

from kdsr.options.caching import Cache, Content, cache_of, cached_content, used_cache, with_cache
from kdsr.options.checking import check, check_values, find_option_problems
from kdsr.options.model_classes import ModelClass, NetworkInput, Role, model_class_of
from kdsr.options.names import check_name, clean_name, find_name_fault
from kdsr.options.positions import Places, read_with_places, read_yaml, shorten_path
from kdsr.options.problems import ERROR, MISSING, WARNING, KeyPath, Place, Problem, dotted, list_problems, report
from kdsr.options.reading import OptionFile, clean, complete, find_missing_keys, load, load_experiment, merge, read
from kdsr.options.rows import block_of
from kdsr.options.safe_yaml import SafeDumper, SafeLoader, dump, parse_value
from kdsr.options.schema import build_schema
from kdsr.options.table import TABLE, Option, document
from kdsr.options.test_sets import leave_out_missing_sets

__all__ = [
    'ERROR',
    'MISSING',
    'TABLE',
    'WARNING',
    'Cache',
    'Content',
    'KeyPath',
    'ModelClass',
    'NetworkInput',
    'Option',
    'OptionFile',
    'Place',
    'Places',
    'Problem',
    'Role',
    'SafeDumper',
    'SafeLoader',
    'block_of',
    'build_schema',
    'cache_of',
    'cached_content',
    'check',
    'check_name',
    'check_values',
    'clean',
    'clean_name',
    'complete',
    'document',
    'dotted',
    'dump',
    'find_missing_keys',
    'find_name_fault',
    'find_option_problems',
    'leave_out_missing_sets',
    'list_problems',
    'load',
    'load_experiment',
    'merge',
    'model_class_of',
    'parse_value',
    'read',
    'read_with_places',
    'read_yaml',
    'report',
    'shorten_path',
    'used_cache',
    'with_cache',
]
