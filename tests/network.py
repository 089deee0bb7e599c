"""Two hosts on this machine, with addresses of their own and a slow line between them."""

import ctypes
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque
from typing import Self

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
MTU = 60_000


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Line:
    """Two network namespaces, and a line on which every packet takes `delay` seconds, either way.

    The kernel may lack netem, so packets pass through this process.
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.hosts = [f"line{os.getpid()}-{i}" for i in range(2)]
        self.addresses = ["10.77.0.1", "10.77.0.2"]
        self.ends: list[int] = []
        self.over = threading.Event()

    def __enter__(self) -> Self:
        for i, host in enumerate(self.hosts):
            ip("netns", "add", host)
            self.ends.append(_open_end(host))
            peer = self.addresses[1 - i]
            ip("-n", host, "addr", "add", self.addresses[i], "peer", peer, "dev", "line")
            ip("-n", host, "link", "set", "line", "mtu", str(MTU), "up")
            ip("-n", host, "link", "set", "lo", "up")
        self.threads = [
            threading.Thread(target=self._carry, args=pair) for pair in (self.ends, self.ends[::-1])
        ]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        for end in self.ends:
            os.close(end)
        for host in self.hosts:
            ip("netns", "del", host)

    def on(self, host: int) -> list[str]:
        """Return the words before a command that runs it on one of the hosts."""
        return ["ip", "netns", "exec", self.hosts[host]]

    def _carry(self, source: int, target: int) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        while not self.over.is_set():
            due = waiting[0][0] - time.monotonic() if waiting else 0.1
            if select.select([source], [], [], min(max(due, 0), 0.1))[0]:
                waiting.append((time.monotonic() + self.delay, os.read(source, MTU + 100)))
            while waiting and waiting[0][0] <= time.monotonic():
                os.write(target, waiting.popleft()[1])


def _open_end(host: str) -> int:
    """Return the handle of a new device `line` in a namespace, made by a thread that enters it."""
    handles = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/run/netns/{host}", os.O_RDONLY)
        assert libc.setns(namespace, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(namespace)
        handle = os.open("/dev/net/tun", os.O_RDWR)
        request = struct.pack("16sH22x", b"line", IFF_TUN | IFF_NO_PI)
        assert libc.ioctl(handle, TUNSETIFF, request) == 0, os.strerror(ctypes.get_errno())
        handles.append(handle)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return handles[0]
