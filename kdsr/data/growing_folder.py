"""A set of images that is written source by source, survives a kill at any time, and appears only when complete.

While it grows it is the folder ``<final>.partial``: the images, ``kdsr_prepare.json`` (the settings) and
``finished.jsonl`` (one line per source whose images are on the disk). At the end an index is added and the folder is
renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from kdsr.durable import sync_folder, write_durably
from kdsr.errors import DISK_IS_FULL, UserError

SETTINGS_FILE = 'kdsr_prepare.json'
JOURNAL_FILE = 'finished.jsonl'


Content = TypeVar('Content')


class GrowingFolder(Generic[Content]):
    """One set on its way to `final`. Creating the object only looks; :meth:`open` starts writing.

    A subclass stores the images of one source (`_open_storage`, `_store`), checks them (`_check_stored`) and lists
    them (`_index`).

    Args:
        final: Where the finished set goes.
        settings: What the content depends on, besides the sources; plain JSON values.
        sources: The source images: name to what tells one version from another, such as the size in bytes.

    Attributes:
        complete: The set is there already, made from the same images with the same settings.
        finished: Names of the sources whose images are on the disk.

    Raises:
        UserError: `final` or its partial folder was made otherwise.
    """

    def __init__(self, final: Path, settings: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
        self.final = final
        self.partial = final.with_name(f'{final.name}.partial')
        self._settings = json.loads(json.dumps(settings))  # as it will be read back: lists, not tuples
        self._sources = dict(sources)
        self._journal: dict[str, dict[str, Any]] = {}
        self._journal_bytes = 0
        self.complete = final.exists()
        if self.complete:
            self._check_final()
        elif (self.partial / SETTINGS_FILE).exists():
            self._read_journal()
            self._check_partial()
        self.finished = set(self._journal)

    def open(self) -> None:
        """Create or reopen the partial folder.

        Raises:
            UserError: another process is writing there.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._journal_file = stack.enter_context((self.partial / JOURNAL_FILE).open('ab'))
            _lock(self._journal_file.fileno(), self.partial)
            self._journal_file.truncate(self._journal_bytes)  # a kill may have left half a line
            if not (self.partial / SETTINGS_FILE).exists():
                self._write_settings(self._sources)
            self._open_storage(stack)
            self._files = stack.pop_all()

    def add(self, source: str, version: Any, content: Content) -> None:
        """Store what was made of the image `source` in this version, and then note it as finished."""
        with _told_when_full():
            record = {'file': source, 'bytes': version, **self._store(content)}
            self._journal_file.write(json.dumps(record).encode() + b'\n')
            self._journal_file.flush()
            os.fsync(self._journal_file.fileno())
        self._journal[source] = record
        self.finished.add(source)

    def finish(self) -> None:
        """Write the index in the order of the sources and give the folder its final name."""
        records = [self._journal[source] for source in self._sources]
        with _told_when_full():
            self._check_stored(records)
            self.close()
            name, index = self._index(records)
            write_durably(self.partial / name, index)
            self._write_settings({record['file']: record['bytes'] for record in records})
        self.partial.rename(self.final)
        sync_folder(self.final.parent)
        (self.final / JOURNAL_FILE).unlink()
        self.complete = True

    def close(self) -> None:
        """Let go of the files; what is not finished stays for the next run. Closing twice is harmless."""
        self._files.close()

    def _open_storage(self, stack: contextlib.ExitStack) -> None:
        """Open what the images are written to, and forget what is not in `self._journal`."""
        raise NotImplementedError

    def _store(self, content: Content) -> dict[str, Any]:
        """Write the images of one source to the disk; return what the index will need, as plain JSON."""
        raise NotImplementedError

    def _check_stored(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Compare what is on the disk with what `_store` returned for every source."""
        raise NotImplementedError

    def _index(self, records: Sequence[Mapping[str, Any]]) -> tuple[str, bytes]:
        """Return the name and the content of the file that lists the images, in the order of the sources."""
        raise NotImplementedError

    def _write_settings(self, sources: Mapping[str, int]) -> None:
        content = json.dumps({'settings': self._settings, 'sources': dict(sources)}, indent=1)
        write_durably(self.partial / SETTINGS_FILE, content.encode())

    def _check_final(self) -> None:
        cure = f'Delete {self.final} to make it again, or choose another output folder.'
        if not (self.final / SETTINGS_FILE).exists():
            raise UserError(f'{self.final} exists, but not from this command. {cure}')
        made = _read_settings_file(self.final)
        difference = differences(made['settings'], self._settings)
        if made['sources'] != self._sources:
            changed = sorted(f for f, _ in made['sources'].items() ^ self._sources.items())
            difference.append(f'other source images ({_some(changed)})')
        if difference:
            raise UserError(f'{self.final} exists, made with {", ".join(difference)}. {cure}')
        (self.final / JOURNAL_FILE).unlink(missing_ok=True)  # a kill between renaming and this

    def _check_partial(self) -> None:
        cure = f'Undo that to continue, or delete {self.partial} to start again.'
        started = _read_settings_file(self.partial)
        difference = differences(started['settings'], self._settings)
        if difference:
            raise UserError(f'{self.partial} was begun with {", ".join(difference)}. {cure}')
        changed = sorted(f for f, record in self._journal.items() if self._sources.get(f) != record['bytes'])
        if changed:
            raise UserError(f'{self.partial} holds images that were changed or removed since: {_some(changed)}. {cure}')
        added = sorted({Path(f).stem for f in self._sources} - {Path(f).stem for f in started['sources']})
        if added:
            raise UserError(f'{self.partial} was begun without the images {_some(added)}. {cure}')

    def _read_journal(self) -> None:
        path = self.partial / JOURNAL_FILE
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                record = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b'\n'):
                return
            self._journal[record['file']] = record
            self._journal_bytes += len(line)


@contextlib.contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise UserError(f'{error}. Make room and run the same command again; what is finished is kept.') from error


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings with which a finished set was made; empty when it was not made by kdsr."""
    return dict(_read_settings_file(folder)['settings']) if (folder / SETTINGS_FILE).is_file() else {}


def _read_settings_file(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if isinstance(content['settings'], dict) and isinstance(content['sources'], dict):
            return content
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f'{path} is damaged, or of another version. Delete {folder} to make it again.')


def differences(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name what two settings differ in."""
    names = sorted(made.keys() | wanted.keys())
    return [f'{n} {made.get(n)} (now {wanted.get(n)})' for n in names if made.get(n) != wanted.get(n)]


def _some(names: Sequence[str]) -> str:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return ', '.join(names[:5]) + more


def _lock(descriptor: int, folder: Path) -> None:
    """Hold the file as long as this process lives, where the platform can (worker processes do not inherit it)."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f'Another process is writing to {folder}. Wait for it, or stop it.') from None
