"""The files of a zarr hierarchy: those of a folder, or the entries of one zip file.

Nothing is read that is no regular file, and no more than was asked for: neither a device behind a
link nor a zip entry that unpacks to gigabytes can hang a reader or take its memory.
"""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

ZIP_SIGNATURE = b"PK\x03\x04"
MARKERS = (".zgroup", ".zarray", "zarr.json")  # the files that make a folder zarr
MAX_JSON_BYTES = 2**24
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class ZarrFiles(Protocol):
    """Access to the files of one hierarchy by key, such as "data/img/.zarray"."""

    path: Path

    def size(self, key: str) -> int | None:
        """Return the bytes of a file, None where there is none."""

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of a file that is there.

        Raises:
            ValueError: If it is damaged or has fewer; names it.
        """

    def names(self, folder: str) -> Iterator[str]:
        """Yield the files at any depth below a folder, relative to it."""


def open_files(path: Path) -> ZarrFiles:
    """Return the files of a folder or zip file.

    Raises:
        ValueError: If the zip file is cut short or damaged.
    """
    return FolderFiles(path) if path.is_dir() else ZipFiles(path)


def read_json(files: ZarrFiles, key: str) -> dict[str, Any] | None:
    """Return the JSON object in a file, None where there is no file.

    Raises:
        ValueError: If it is something else.
    """
    size = files.size(key)
    if size is None:
        return None
    where = f"{files.path}: {key}"
    if size > MAX_JSON_BYTES:
        raise ValueError(f"{where} has {size} bytes; metadata has at most {MAX_JSON_BYTES}")
    return json_object(where, files.read(key, 0, size))


def json_object(where: str, text: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: If `text` is something else; begins with `where`.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); it has {len(text)} bytes") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where} must hold a JSON object, holds {str(found)[:40]}")
    return found


class FolderFiles:
    """See `ZarrFiles`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, key: str) -> int | None:
        """See `ZarrFiles.size`."""
        try:
            status = os.stat(self.path / key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path}: {key} cannot be read ({error})") from error
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{self.path}: {key} must be a file; it is a folder or a device")
        return status.st_size

    def read(self, key: str, start: int, length: int) -> bytes:
        """See `ZarrFiles.read`."""
        try:
            with open(self.path / key, "rb") as file:
                file.seek(start)
                found = file.read(length)
        except OSError as error:
            raise ValueError(f"{self.path}: {key} cannot be read ({error})") from error
        return _whole(self.path, key, found, length)

    def names(self, folder: str) -> Iterator[str]:
        """See `ZarrFiles.names`."""
        top = os.path.join(self.path, folder)
        for parent, _, files in os.walk(top):
            below = os.path.relpath(parent, top).replace(os.sep, "/")
            yield from (name if below == "." else f"{below}/{name}" for name in files)


class ZipFiles:
    """See `ZarrFiles`. Each process opens the file for itself.

    The hierarchy may lie in a folder of the zip file, as it does when a folder was zipped.

    Raises:
        ValueError: If the file is cut short or no zip file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._owner = 0  # process that opened `_zip`
        self._root = _zip_root(self._open().namelist())

    def size(self, key: str) -> int | None:
        """See `ZarrFiles.size`."""
        try:
            return self._open().getinfo(self._root + key).file_size
        except KeyError:
            return None

    def read(self, key: str, start: int, length: int) -> bytes:
        """See `ZarrFiles.read`."""
        try:
            with self._open().open(self._root + key) as file:
                file.seek(start)
                found = file.read(length)
        except _ZIP_ERRORS as error:
            raise ValueError(f"{self.path}: {key} is damaged ({error})") from error
        return _whole(self.path, key, found, length)

    def names(self, folder: str) -> Iterator[str]:
        """See `ZarrFiles.names`."""
        prefix = f"{self._root}{folder}/" if folder else self._root
        for name in self._open().namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                yield name[len(prefix) :]

    def _open(self) -> zipfile.ZipFile:
        if self._zip is None or self._owner != os.getpid():
            try:
                self._zip, self._owner = zipfile.ZipFile(self.path), os.getpid()
            except (*_ZIP_ERRORS, NotImplementedError) as error:
                raise ValueError(
                    f"{self.path} is a zip file cut short or damaged ({error}); copy or download "
                    "it again"
                ) from error
        return self._zip

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_zip": None}


def is_zip(path: Path) -> bool:
    """Return whether a file begins as zip files do, even if it is damaged."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(ZIP_SIGNATURE)) == ZIP_SIGNATURE


def zip_names(path: Path) -> list[str]:
    """Return the names in a zip file; only the first one where it is cut short."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (*_ZIP_ERRORS, NotImplementedError):
        with path.open("rb") as file:
            header = file.read(30)  # of a local file, PKWARE's APPNOTE 4.3.7
            length = int.from_bytes(header[26:28], "little")
            return [file.read(length).decode("utf-8", "replace")]


def _zip_root(names: list[str]) -> str:
    """Return the folder of a zip file that holds the hierarchy, "" or with a slash at its end."""
    for name in names:
        if found := re.fullmatch(r"(.*/)?meta/episode_ends/(\.zarray|zarr\.json)", name):
            return found[1] or ""
    tops = [name for name in names if name.rpartition("/")[2] in MARKERS]
    folder = min(tops, key=lambda name: name.count("/"), default="").rpartition("/")[0]
    return f"{folder}/" if folder else ""


def _whole(path: Path, key: str, found: bytes, length: int) -> bytes:
    if len(found) != length:
        raise ValueError(f"{path}: {key} is cut short: {len(found)} of {length} bytes are there")
    return found
