"""What is known of each method in one place: the tables of the documents and `kdsr methods` are made of it."""

from kdsr.methods.listing import list_methods, show_method
from kdsr.methods.table import METHODS, Measured, Method, Rows

__all__ = ['METHODS', 'Measured', 'Method', 'Rows', 'list_methods', 'show_method']
