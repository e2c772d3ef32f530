"""A server of Debian's that lies unpacked below target/peers (`fetch_peers`), run in a root
directory of its own: it sees the users, the configuration and the folders that we make for it, and
of the machine only libraries and devices. Its mounts and all its processes end with it.
"""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

from way_out import SECONDS_MAX

from stage.servers import Server, free_port

PEERS = Path(__file__).resolve().parents[2] / "target/peers"
LETTER_BOXES = 10
BOX_ID, DAEMON_ID = 2000, 990
# Of the machine, read by the server.
SHARED = ("usr/lib", "usr/lib64", "usr/lib32", "usr/libx32", "usr/bin", "dev")
# What is mounted is not seen outside, and with the first process in there all others end.
UNSHARE = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
MOUNT = """set -e
cd "$1"; shift
for shared in {shared}; do
  [ -d /$shared ] || continue
  mkdir -p $shared
  mount --rbind /$shared $shared
done
mount -t proc proc proc
exec chroot . "$@"
"""


def missing(program):
    """Why a server cannot be run here; None where it can."""
    if os.getuid() != 0:
        return "needs root"
    if not (PEERS / program / "fetched").exists():
        return "needs tests/queue/fetch_peers"
    return None


class Caged(Server):
    """Listens on `port`. Users u0 to u9 of its domain have Maildirs. `daemons`: names of users
    and groups that it becomes."""

    program = None
    daemons = ()
    # Folders below its root.
    folders = ()

    def __init__(self, folder):
        super().__init__(folder)
        self.port, self.root = free_port(), self.folder / "root"
        self.folder.chmod(0o755)
        for name in ("etc", "proc", "tmp", "home", "var/run", "var/lib", "var/spool", *self.folders):
            (self.root / name).mkdir(parents=True)
        (self.root / "tmp").chmod(0o1777)
        for name in ("bin", "lib", "lib32", "lib64", "libx32"):
            (self.root / name).symlink_to(f"usr/{name}")
        unpacked = PEERS / self.program
        for name in ("usr/sbin", "usr/libexec"):
            if (unpacked / name).exists():
                shutil.copytree(unpacked / name, self.root / name, symlinks=True)
        self.make_users()
        self.write("etc/hosts", "127.0.0.1 localhost\n")

    def make_users(self):
        passwd, group = ["root:x:0:0:root:/root:/bin/sh"], ["root:x:0:", "mail:x:8:"]
        for n, name in enumerate(self.daemons):
            passwd.append(f"{name}:x:{DAEMON_ID + n}:{DAEMON_ID + n}::/tmp:/bin/false")
            group.append(f"{name}:x:{DAEMON_ID + n}:")
        for n in range(LETTER_BOXES):
            passwd.append(f"u{n}:x:{BOX_ID + n}:{BOX_ID + n}::/home/u{n}:/bin/sh")
            group.append(f"u{n}:x:{BOX_ID + n}:")
            (self.root / f"home/u{n}").mkdir()
            os.chown(self.root / f"home/u{n}", BOX_ID + n, BOX_ID + n)
        self.write("etc/passwd", "\n".join(passwd) + "\n")
        self.write("etc/group", "\n".join(group) + "\n")

    def write(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def command(self):
        raise NotImplementedError

    def start(self):
        script = MOUNT.format(shared=" ".join(SHARED))
        self.spawn(*UNSHARE, "sh", "-c", script, "caged", self.root, *self.command())
        until = time.monotonic() + SECONDS_MAX
        while not self.greets():
            if time.monotonic() > until or not self.lives(0.05):
                told = self.said() + self.log()
                self.stop()
                raise RuntimeError(f"{self.program} does not answer:\n{told}")

    def __enter__(self):
        self.start()
        return self

    def stop(self, by=signal.SIGKILL):
        """Kills it with all its children: it is the first process of a space of their own."""
        if self.child is not None and self.child.poll() is None:
            pid = self.child.pid
            for inside in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(inside), by)
        return super().stop(by)

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                return probe.recv(100).startswith(b"220")
        except OSError:
            return False

    def log(self):
        return ""

    def delivered(self):
        """All that lies in the Maildirs, with CRLF."""
        return [file.read_bytes().replace(b"\n", b"\r\n")
                for file in self.root.glob("home/*/Maildir/new/*")]
