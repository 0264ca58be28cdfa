"""Damage that neither the size of a file nor its header shows."""

from __future__ import annotations

from pathlib import Path


def flip_byte(content: bytes) -> bytes:
    """Return the content with one bit changed in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def damage_file(path: Path) -> bytes:
    """Change one bit of a file; return what was there."""
    whole = path.read_bytes()
    path.write_bytes(flip_byte(whole))
    return whole
