"""Watch for files that are written into under their final names."""

import ctypes
import os
import struct
from pathlib import Path
from typing import Self

MODIFIED = 0x2  # IN_MODIFY of inotify(7)
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows


class Watch:
    """Notes in `written` what a stage wrote into in place, in folders that are there already.

    A file that was written aside and renamed is not among them; the system itself tells, so
    nothing is missed between two looks.
    """

    def __init__(self, project: Path) -> None:
        self.folders = [project / "metrics", *(project / "artifacts").glob("*")]
        self.written: list[str] = []

    def __enter__(self) -> Self:
        libc = ctypes.CDLL(None, use_errno=True)
        self.handle = libc.inotify_init1(os.O_NONBLOCK)
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
            assert libc.inotify_add_watch(self.handle, bytes(folder), MODIFIED) >= 0, folder
        return self

    def __exit__(self, *_: object) -> None:
        while events := self._read():
            while events:
                _, mask, _, length = EVENT.unpack_from(events)
                assert mask & MODIFIED, f"event {mask:x}: lost some"
                name = events[EVENT.size : EVENT.size + length].rstrip(b"\0").decode()
                if not name.endswith(".tmp") and name != "unfinished":
                    self.written.append(name)
                events = events[EVENT.size + length :]
        os.close(self.handle)

    def _read(self) -> bytes:
        try:
            return os.read(self.handle, 2**20)
        except BlockingIOError:
            return b""
