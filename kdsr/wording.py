"""Grammar for messages: counted nouns and articles; names that any stream can print."""

from __future__ import annotations

_VOWEL_LETTERS = 'AEFHILMNORSX'  # their names begin with a vowel sound: "an IMDN", "an RFDN", but "a VDSR"


def counted(count: int, noun: str, plural: str = '') -> str:
    """Return a number with its noun: ``'1 image'``, ``'2 images'``, ``'1,200 images'``.

    Args:
        count: How many there are.
        noun: The noun for one of them.
        plural: The noun for several; `noun` with an s when left out.
    """
    return f'{count:,} {noun if count == 1 else plural or noun + "s"}'


def agree(count: float, singular: str, plural: str) -> str:
    """Return the word that fits to a number of things: ``agree(1, 'is', 'are')`` is ``'is'``."""
    return singular if count == 1 else plural


def with_article(name: str) -> str:
    """Return a name with its article: ``'an EDSR'``, ``'a CARN'``, ``'an OrderedDict'``.

    Abbreviations are read letter by letter if their second letter is a capital consonant (IMDN, RFDN, VDSR), and as
    words otherwise (CARN, SwinIR, str).
    """
    spelt = len(name) > 1 and name[:2].isupper() and name[1] not in 'AEIOU'
    vowel = name[:1] in _VOWEL_LETTERS if spelt else name[:1].lower() in tuple('aeiou')
    return f'{"an" if vowel else "a"} {name}'


def printable(text: str) -> str:
    """Return a text that any stream can print: bytes of file names that are no UTF-8 are escaped."""
    return text.encode(errors='backslashreplace').decode()


def installing(extra: str) -> str:
    """Return the command that installs an extra of setup.py; kdsr is not on PyPI.

    Example:
        >>> installing('plots')
        'in the clone of kdsr, run: pip install -e ".[plots]"'
    """
    return f'in the clone of kdsr, run: pip install -e ".[{extra}]"'
