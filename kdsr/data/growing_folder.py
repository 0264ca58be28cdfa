"""A set of images that is written source by source, survives a kill at any time, and appears only when complete.

While it grows it is the folder ``<final>.partial``: the images, ``kdsr_prepare.json`` (the settings) and
``finished.jsonl`` (one line per source whose images are on the disk). At the end an index is added, the folder is
checked and renamed. A lock beside it lets one process write at a time, until the folder has its final name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from kdsr.data.disk_room import SLACK, check_room, is_disk_full, make_disk_full_error
from kdsr.durable import remove_partial_files, sync_folder, write_durably
from kdsr.errors import UserError
from kdsr.foreign import parse_json
from kdsr.foreign.kinds import SET_SETTINGS
from kdsr.foreign.shapes import Shape
from kdsr.lifecycle.locking import FolderLock

SETTINGS_FILE = 'kdsr_prepare.json'
JOURNAL_FILE = 'finished.jsonl'

Content = TypeVar('Content')


class GrowingFolder(Generic[Content]):
    """One set on its way to `final`. Creating the object only looks; :meth:`open` starts writing.

    A subclass stores the images of one source (`_open_storage`, `_store`), makes them final (`_close_storage`), lists
    them (`_make_index`) and checks a whole folder (`_prove`). `journal_line` is the shape of what `_store` returns.

    Args:
        final: Where the finished set goes.
        settings: What the content depends on, besides the sources; plain JSON values.
        sources: The source images: name to what tells one version from another, such as the size in bytes.

    Attributes:
        complete: The set is there already, whole, and made from the same images with the same settings.
        finished: Names of the sources whose images are on the disk.

    Raises:
        UserError: `final` or its partial folder was made otherwise, or is damaged.
    """

    journal_line: ClassVar[Shape]

    def __init__(self, final: Path, settings: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
        self.final = final
        self.partial = final.with_name(f'{final.name}.partial')
        self._settings = json.loads(json.dumps(settings))  # as it will be read back: lists, not tuples
        self._sources = dict(sources)
        self._lock = FolderLock(final, 'being written')  # held until the folder has its final name
        self._files = contextlib.ExitStack()
        self._look()

    def _look(self) -> None:
        """Find out what is on the disk."""
        self._journal: dict[str, dict[str, Any]] = {}
        self._journal_bytes = 0
        self.complete = self.final.exists()
        if self.complete:
            self._check_final()
        elif (self.partial / SETTINGS_FILE).exists():
            self._read_journal()
            self._check_partial()
        self.finished = set(self._journal)

    def open(self) -> None:
        """Lock the set, look again at what is there, and create or reopen the partial folder.

        Another process may have finished the set since the object was made: then `complete` is true, and nothing is
        open.

        Raises:
            FolderInUseError: another process writes there.
            UserError: the disk is full, or what is there was made otherwise.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lock)
            self._look()
            if self.complete:
                return
            check_room(self.final.parent, SLACK)
            with self._report_full_disk():
                self.partial.mkdir(parents=True, exist_ok=True)
                remove_partial_files(self.partial)
                self._journal_file = stack.enter_context((self.partial / JOURNAL_FILE).open('ab'))
                self._journal_file.truncate(self._journal_bytes)  # a kill may have left half a line
                if not (self.partial / SETTINGS_FILE).exists():
                    self._write_settings(self._sources)
                self._open_storage(stack)
            self._files = stack.pop_all()

    def add(self, source: str, version: Any, content: Content, **facts: Any) -> None:
        """Store what was made of the image `source` in this version, and note it as finished, with facts as plain JSON.

        Raises:
            DiskFullError: it says about how much room is missing.
        """
        with self._report_full_disk():
            record = {'file': source, 'bytes': version, **self._store(content), **facts}
            self._journal_file.write(json.dumps(record).encode() + b'\n')
            self._journal_file.flush()
            os.fsync(self._journal_file.fileno())
        self._journal[source] = record
        self.finished.add(source)

    def finish(self) -> None:
        """Write the index in the order of the sources, check the folder, and give it its final name.

        Raises:
            UserError: what was written is not what is there, or something else has the final name.
            DiskFullError: there is no room for the index.
        """
        records = [self._journal[source] for source in self._sources]
        with self._report_full_disk():
            self._close_storage(records)
            for name, content in self._make_index(records).items():
                write_durably(self.partial / name, content)
            self._write_settings({record['file']: record['bytes'] for record in records})
        self._prove(self.partial)
        if self.final.exists():
            raise UserError(f'{self.final} appeared while it was made. Move it away and run the same command again.')
        self.partial.rename(self.final)
        sync_folder(self.final.parent)
        (self.final / JOURNAL_FILE).unlink(missing_ok=True)  # another process may have tidied up
        self.complete = True
        self._lock.release(remove=True)
        self.close()

    def close(self) -> None:
        """Close the files and give the lock back; what is not finished stays for the next run.

        A second call changes nothing.
        """
        self._files.close()
        self._lock.release()

    def estimate_needed(self) -> int:
        """Return about how many bytes the sources that are not finished need, judged by those that are."""
        done = len(self.finished)
        return self._bytes_stored() * (len(self._sources) - done) // done if done else SLACK

    def _open_storage(self, stack: contextlib.ExitStack) -> None:
        """Open what the images are written to, and forget what is not in `self._journal`."""
        raise NotImplementedError

    def _store(self, content: Content) -> dict[str, Any]:
        """Write the images of one source to the disk; return what the index will need, as plain JSON."""
        raise NotImplementedError

    def _bytes_stored(self) -> int:
        """Return about how many bytes the finished sources take."""
        raise NotImplementedError

    def _close_storage(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Compare what is on the disk with what `_store` returned for every source, and close it."""
        raise NotImplementedError

    def _make_index(self, records: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        """Return the names and contents of the files that list the images, in the order of the sources."""
        raise NotImplementedError

    def _prove(self, folder: Path) -> None:
        """Check that a folder is whole: its index, counts and sizes; pixels are not read.

        Raises:
            UserError: it is damaged.
        """
        raise NotImplementedError

    def _write_settings(self, sources: Mapping[str, int]) -> None:
        content = json.dumps({'settings': self._settings, 'sources': dict(sources)}, indent=1)
        write_durably(self.partial / SETTINGS_FILE, content.encode())

    def _check_final(self) -> None:
        cure = f'Delete {self.final} to make it again, or choose another output folder.'
        if not (self.final / SETTINGS_FILE).exists():
            raise UserError(f'{self.final} exists, but not from this command. {cure}')
        made = _read_settings_file(self.final)
        difference = list_differences(made['settings'], self._settings)
        if made['sources'] != self._sources:
            changed = sorted(f for f, _ in made['sources'].items() ^ self._sources.items())
            difference.append(f'other source images ({_list_some(changed)})')
        if difference:
            raise UserError(f'{self.final} exists, made with {", ".join(difference)}. {cure}')
        try:
            self._prove(self.final)
        except UserError as error:
            raise UserError(f'{self.final} exists, but it is damaged: {error} {cure}') from None
        (self.final / JOURNAL_FILE).unlink(missing_ok=True)  # a kill between renaming and this

    def _check_partial(self) -> None:
        cure = f'Undo that to continue, or delete {self.partial} to start again.'
        started = _read_settings_file(self.partial)
        difference = list_differences(started['settings'], self._settings)
        if difference:
            raise UserError(f'{self.partial} was begun with {", ".join(difference)}. {cure}')
        changed = sorted(f for f, record in self._journal.items() if self._sources.get(f) != record['bytes'])
        if changed:
            raise UserError(
                f'{self.partial} holds images that were changed or removed since: {_list_some(changed)}. {cure}'
            )
        added = sorted({Path(f).stem for f in self._sources} - {Path(f).stem for f in started['sources']})
        if added:
            raise UserError(f'{self.partial} was begun without the images {_list_some(added)}. {cure}')

    def _read_journal(self) -> None:
        path = self.partial / JOURNAL_FILE
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                record = parse_json(line, self.journal_line)
            except ValueError:  # the rest is made again
                return
            if not line.endswith(b'\n'):
                return
            self._journal[record['file']] = record
            self._journal_bytes += len(line)

    @contextlib.contextmanager
    def _report_full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise make_disk_full_error(self.final.parent, self.estimate_needed()) from error


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings with which a finished set was made; empty when it was not made by kdsr.

    Raises:
        UserError: the file that holds them is damaged.
    """
    return dict(_read_settings_file(folder)['settings']) if (folder / SETTINGS_FILE).is_file() else {}


def _read_settings_file(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    try:
        content: dict[str, Any] = parse_json(path.read_bytes(), SET_SETTINGS)
    except ValueError as error:
        raise UserError(
            f'{path} is damaged, or of another version ({error}). Delete {folder} to make it again.'
        ) from None
    return content


def list_differences(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name what two settings differ in."""
    names = sorted(made.keys() | wanted.keys())
    return [f'{n} {made.get(n)} (now {wanted.get(n)})' for n in names if made.get(n) != wanted.get(n)]


def _list_some(names: Sequence[str]) -> str:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return ', '.join(names[:5]) + more
