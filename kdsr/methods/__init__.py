"""The table of methods, and the documents and `kdsr methods`, which are made from it."""

from kdsr.methods.listing import list_methods, show_method
from kdsr.methods.table import METHODS, Measured, Method, Rows

__all__ = ['METHODS', 'Measured', 'Method', 'Rows', 'list_methods', 'show_method']
