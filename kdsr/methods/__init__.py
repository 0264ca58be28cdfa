"""What is known of each method in one place: the tables of the documents and `kdsr methods` are made of it."""

from kdsr.methods.documents import documents, write_documents
from kdsr.methods.table import METHODS, Measured, Method, Rows

__all__ = ['METHODS', 'Measured', 'Method', 'Rows', 'documents', 'write_documents']
