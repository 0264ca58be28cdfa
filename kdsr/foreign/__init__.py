"""The boundary to files of any origin: what their content must look like before other code reads it."""

from kdsr.foreign.shapes import find_fault, parse_json

__all__ = ['find_fault', 'parse_json']
