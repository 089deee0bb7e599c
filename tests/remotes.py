"""A real S3 server and a real SSH server on loopback, and a line to them that stalls and breaks."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import botocore.exceptions
import s3fs

from tests.project import check, variables


class S3:
    """SeaweedFS with one bucket, and one key to it."""

    refusal = "The request signature we calculated does not match the signature you provided"

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.address = address
        self.right = {"access_key_id": "friend", "secret_access_key": "opensesame"}
        self.wrong = self.right | {"secret_access_key": "opensesam"}
        self.port, *others = free_ports(8)
        names = ("master", "volume", "filer", "s3")
        kinds = [f"{name}.port.grpc" for name in names] + [f"{name}.port" for name in names[:3]]
        key, secret = self.right.values()
        credentials = [{"accessKey": key, "secretKey": secret}]
        actions = ["Admin", "Read", "Write", "List"]
        identity = {"name": "friend", "credentials": credentials, "actions": actions}
        (folder / "keys.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir()
        self.command = [
            *("weed", "server", "-dir=data", f"-ip={address}", "-master.telemetry=false"),
            *("-master.volumeSizeLimitMB=64", "-filer", "-filer.localSocket=filer.sock"),
            *("-s3", f"-s3.port={self.port}", "-s3.config=keys.json", "-s3.localSocket=s3.sock"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{kind}={port}" for kind, port in zip(kinds, others, strict=True)),
        ]

    def settings(self, port: int) -> dict[str, str]:
        return {"url": "s3://digits/store", "endpointurl": f"http://{self.address}:{port}"}

    def client(self) -> Any:
        key, secret = self.right.values()
        url = f"http://{self.address}:{self.port}"
        return s3fs.S3FileSystem(key=key, secret=secret, endpoint_url=url, skip_instance_cache=True)

    def prepare(self) -> None:
        self.client().mkdir("digits")

    def objects(self) -> dict[str, bytes]:
        client = self.client()
        paths = client.find("digits/store/files/md5")
        return {"".join(path.split("/")[-2:]): client.cat_file(path) for path in paths}

    def overwrite(self, md5: str, content: bytes) -> None:
        self.client().pipe_file(f"digits/store/files/md5/{md5[:2]}/{md5[2:]}", content)


class SSH:
    """OpenSSH with a configuration of its own, and one key that it lets in."""

    refusal = "Permission denied for user"

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.store = folder / "store"
        for name in ("host", "friend", "stranger"):
            check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name], folder)
        self.right, self.wrong = (
            {"keyfile": str(folder / name)} for name in ("friend", "stranger")
        )
        config = {
            "ListenAddress": "127.0.0.1",
            "Port": self.port,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "friend.pub",
            "StrictModes": "no",
            "PidFile": "none",
            "PasswordAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        lines = [f"{key} {value}\n" for key, value in config.items()]
        (folder / "config").write_text("".join(lines))
        if not os.getuid():
            Path("/run/sshd").mkdir(exist_ok=True)  # which sshd wants where it runs as root
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert sshd, "install openssh-server"
        self.command = [sshd, "-D", "-e", "-f", str(folder / "config")]

    def settings(self, port: int) -> dict[str, str]:
        return {"url": f"ssh://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{port}{self.store}"}

    def prepare(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            assert line.recv(4) == b"SSH-"

    def objects(self) -> dict[str, bytes]:
        paths = self.store.glob("files/md5/*/[!.]*")
        return {path.parent.name + path.name: path.read_bytes() for path in paths}

    def overwrite(self, md5: str, content: bytes) -> None:
        (self.store / "files/md5" / md5[:2] / md5[2:]).write_bytes(content)


@contextmanager
def serve(kind: type[S3] | type[SSH], folder: Path, *address: str) -> Iterator[S3 | SSH]:
    """Start a server of this kind in `folder` and end it with the block."""
    remote = kind(folder, *address)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            remote.command, cwd=folder, env=variables({}), stdout=log, stderr=log
        )
    try:
        within(60, remote.prepare)
        yield remote
    finally:
        server.kill()
        server.wait()


def within(seconds: float, action: Callable[[], None]) -> None:
    """Do `action`, again and again while nobody answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except (OSError, botocore.exceptions.BotoCoreError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [line.getsockname()[1] for line in taken]


class Line:
    """A port that leads to `target`, and stalls for good after so many bytes."""

    def __init__(self, target: int, capacity: int) -> None:
        self.target, self.capacity = target, capacity
        self.stalled = threading.Event()
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.door.getsockname()[1]
        self.ends = [self.door]
        threading.Thread(target=self._answer, daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and let none be made any more."""
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.door.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**14):
                self.capacity -= len(data)
                if self.capacity < 0:
                    self.stalled.set()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
