"""What a group of server processes costs: CPU, file syncs, context switches, memory.

As root each stack runs in a cgroup of its own (version 2 hierarchy), so that processes that come
and go are counted whole; syncs are `ext4:ext4_sync_file_enter` by `perf stat` for that cgroup,
which sees fsync and fdatasync, also those that io_uring makes. Otherwise the process tree is read
from /proc, and syncs are what the server itself counts.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

EVENTS = ["ext4:ext4_sync_file_enter", "context-switches"]
ROOTS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
TRACING = Path("/sys/kernel/tracing")
TICKS = os.sysconf("SC_CLK_TCK")


def hierarchy():
    for root in ROOTS:
        if (root / "cgroup.controllers").exists() and os.access(root, os.W_OK):
            return root
    return None


class Group:
    """The processes of one stack."""

    def __init__(self, name):
        root = hierarchy()
        self.name = f"palomar-compare-{name}-{os.getpid()}"
        self.path = root / self.name if root else None
        if self.path:
            self.path.mkdir()
        self.parent = os.getpid()

    def enter(self):
        """Runs in the child before it becomes a server: it dies with us, whatever happens."""
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        if self.path:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self):
        if self.path:
            return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]
        found, children = [], {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(stat.parent.name))
        # Only what descends from us, and is no driver of ours.
        left = [pid for pid in children.get(self.parent, []) if "load" not in command(pid)]
        while left:
            pid = left.pop()
            found.append(pid)
            left += children.get(pid, [])
        return found

    def cpu_seconds(self):
        if self.path:
            for line in (self.path / "cpu.stat").read_text().splitlines():
                name, value = line.split()
                if name == "usage_usec":
                    return int(value) / 1e6
        total = 0
        for pid in self.processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15]))
        return total / TICKS

    def memory_bytes(self):
        """Resident and proportional. Pages that processes share count once in the second."""
        resident = proportional = 0
        for pid in self.processes():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                if line.startswith("Rss:"):
                    resident += int(line.split()[1]) << 10
                elif line.startswith("Pss:"):
                    proportional += int(line.split()[1]) << 10
        return resident, proportional

    def end_rest(self):
        """What outlived its master, which is ours all the same: the group is."""
        if not self.path or not self.path.exists():
            return
        for step in range(100):
            left = self.processes()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGTERM if step < 20 else signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        self.path.rmdir()


def command(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


class Meter:
    """`with Meter(stack) as meter: ...`, then `meter.found`."""

    def __init__(self, stack):
        self.stack, self.found, self.perf = stack, {}, None

    def __enter__(self):
        self.start_perf()
        self.syncs = self.stack.syncs()
        self.cpu = self.stack.group.cpu_seconds()
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        seconds = time.monotonic() - self.began
        self.found = {"seconds": seconds, "cpu_s": self.stack.group.cpu_seconds() - self.cpu}
        self.stop_perf()
        if "syncs" not in self.found and self.syncs is not None:
            self.found["syncs"] = self.stack.syncs() - self.syncs

    def start_perf(self):
        events = [
            e for e in EVENTS if ":" not in e or (TRACING / "events" / e.replace(":", "/")).exists()
        ]
        if not self.stack.group.path or not events:
            return
        self.answer = tempfile.NamedTemporaryFile(prefix="palomar-perf-")
        self.perf = subprocess.Popen(
            ["perf", "stat", "-x", ";", "-o", self.answer.name, "-a", "-e", ",".join(events)]
            + ["--for-each-cgroup", self.stack.group.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGINT),
        )
        time.sleep(0.4)

    def stop_perf(self):
        if not self.perf:
            return
        self.perf.send_signal(signal.SIGINT)
        self.perf.wait(20)
        names = {EVENTS[0]: "syncs", EVENTS[1]: "switches"}
        for line in Path(self.answer.name).read_text().splitlines():
            fields = line.split(";")
            if len(fields) > 3 and fields[0].replace(".", "").isdigit() and fields[2] in names:
                self.found[names[fields[2]]] = int(float(fields[0]))
        self.answer.close()


class Tracing:
    """Mounts tracefs for perf where it is not, and takes it away again."""

    def __enter__(self):
        self.mounted = False
        if os.getuid() == 0 and TRACING.is_dir() and not (TRACING / "events").exists():
            done = subprocess.run(["mount", "-t", "tracefs", "none", str(TRACING)])
            self.mounted = done.returncode == 0
        return self

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", str(TRACING)])


class LoopDisk:
    """A journaled ext4 on a loop device with direct IO, mounted at `folder`."""

    def __init__(self, folder, gigabytes=6):
        self.image, self.folder, self.gigabytes = Path(f"{folder}.ext4"), Path(folder), gigabytes

    def __enter__(self):
        # The image is sparse: where what is below fills up, the device answers EIO in the midst.
        free = shutil.disk_usage(self.image.parent).free >> 30
        if free < self.gigabytes + 1:
            room = f"{self.gigabytes + 1} GB free in {self.image.parent}"
            raise RuntimeError(f"--loop needs {room}, there are {free}: TMPDIR may name another")
        with open(self.image, "wb") as image:
            image.truncate(self.gigabytes << 30)
        run = lambda *words: subprocess.run(
            words, check=True, capture_output=True, text=True
        ).stdout
        # Nothing is left to be written in the background, which would count as ours.
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        run("mkfs.ext4", "-q", "-F", "-E", lazy, str(self.image))
        self.device = run("losetup", "--direct-io=on", "--show", "-f", str(self.image)).strip()
        try:
            self.folder.mkdir()
            run("mount", self.device, str(self.folder))
        except BaseException:
            run("losetup", "-d", self.device)
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", str(self.folder)])
        subprocess.run(["losetup", "-d", self.device])
        self.image.unlink()
