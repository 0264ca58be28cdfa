"""Put this folder on PYTHONPATH while pip builds BasicSR 1.4.2 on Python 3.13 or newer.

BasicSR's setup.py runs `exec(...)` in a function and then reads `locals()['__version__']`. Since PEP 667 `exec` fills
a copy of the locals there, and the build ends in KeyError: '__version__'. Here `exec` without namespaces gets the
caller's own, as it had before. Older Pythons are left alone.
"""

import builtins
import sys

if sys.version_info >= (3, 13):
    _exec = builtins.exec

    def _exec_in_caller(source, *namespaces, **options):
        if not namespaces:
            caller = sys._getframe(1)
            namespaces = (caller.f_globals, caller.f_locals)
        return _exec(source, *namespaces, **options)

    builtins.exec = _exec_in_caller
