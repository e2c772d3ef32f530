"""Private servers: Palomar and Debian's Dovecot.

Each listens on loopback only, keeps everything in a folder of the caller's, runs in the foreground
as our child, and ends with it.
"""

import grp
import imaplib
import json
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SECONDS_MAX = 60

DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = play-{port}
protocols = imap pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {me}
default_internal_group = {group}
default_login_user = {me}
mail_location = maildir:{mail}
mail_plugins = listescape
first_valid_uid = 1
first_valid_gid = 1
namespace inbox {{
  inbox = yes
  separator = /
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
"""


def free_ports(count):
    """Free ports in a row, below what the kernel hands out to clients, so that no other program's
    client sits on one."""
    for _ in range(500):
        first, held = random.randrange(20000, 32000 - count), []
        try:
            for port in range(first, first + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for probe in held:
                probe.close()
    raise RuntimeError(f"no {count} free ports below 32000")


def free_port():
    return free_ports(1)[0]


def own(tree, uid, gid):
    """Only root can, and only root must."""
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{uid}:{gid}", str(tree)], check=True)


class Lines:
    """The lines of a pipe, each waited for with a deadline."""

    def __init__(self, pipe):
        self.pipe, self.unread, self.seen = pipe, b"", []

    def until(self, wanted, seconds=SECONDS_MAX):
        """The first line from here on that `wanted` holds for."""
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self.unread:
                line, self.unread = self.unread.split(b"\n", 1)
                self.seen.append(line.decode(errors="replace"))
                if wanted(self.seen[-1]):
                    return self.seen[-1]
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.pipe], [], [], left)[0]:
                raise TimeoutError(f"no such line within {seconds} s: {self.seen[-20:]}")
            data = os.read(self.pipe.fileno(), 65536)
            if not data:
                raise EOFError(f"it ended first: {self.seen[-20:]}")
            self.unread += data


class Server:
    """A child process; use as a context."""

    def __init__(self, folder):
        self.folder, self.child = Path(folder), None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.words = self.folder / "words"

    def spawn(self, *command, **more):
        with open(self.words, "ab") as words:
            self.child = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=words,
                stderr=words, **more)

    def lives(self, seconds):
        """Waits for the end of the child that long; whether it has not come."""
        end = os.pidfd_open(self.child.pid)
        try:
            return not select.select([end], [], [], seconds)[0]
        finally:
            os.close(end)

    def said(self):
        logs = [self.words, self.folder / "dovecot.log"]
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())

    def stop(self, by=signal.SIGTERM):
        """Ends it and tells its exit code; None where there was nothing to end."""
        if self.child is None:
            return None
        if self.child.poll() is None:
            self.child.send_signal(by)
        try:
            return self.child.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise
        finally:
            self.child = None

    def __exit__(self, *_):
        self.stop()


class Dovecot(Server):
    """`changes`: what of the configuration is otherwise, as pairs (old text, new text)."""

    def __init__(self, folder, password, mail=None, changes=()):
        super().__init__(folder)
        self.changes = changes
        self.password = password
        self.mail = Path(mail or self.folder / "mail")
        self.port, self.pop3 = free_ports(2)

    def __enter__(self):
        uid = os.getuid()
        # Dovecot serves nobody's mail as root.
        owner = pwd.getpwnam("nobody") if uid == 0 else pwd.getpwuid(uid)
        for path in (self.mail, self.folder / "home"):
            path.mkdir(parents=True, exist_ok=True)
            own(path, owner.pw_uid, owner.pw_gid)
        (self.folder / "run").mkdir()
        self.folder.chmod(0o755)
        config = self.folder / "dovecot.conf"
        text = DOVECOT.format(
            folder=self.folder, port=self.port, pop3=self.pop3, mail=self.mail, me=owner.pw_name,
            group=grp.getgrgid(owner.pw_gid).gr_name, uid=owner.pw_uid, gid=owner.pw_gid,
            password=self.password)
        for old, new in self.changes:
            assert old in text, old
            text = text.replace(old, new)
        config.write_text(text)
        self.spawn(shutil.which("dovecot") or "/usr/sbin/dovecot", "-F", "-c", config)
        until = time.monotonic() + SECONDS_MAX
        while not self.greets():
            if time.monotonic() > until or not self.lives(0.02):
                self.stop()
                raise RuntimeError(f"Dovecot does not answer:\n{self.said()}")
        return self

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                return probe.recv(100).startswith(b"* OK")
        except OSError:
            return False


class Palomar(Server):
    """`listeners`: (protocol, more lines of its table); their ports stand in `ports`, the later
    ones of a protocol with a number behind it. `top` and `tables` are more configuration."""

    def __init__(self, folder, binary, listeners, domain="play.test", top="", tables=""):
        super().__init__(folder)
        self.binary, self.domain = str(binary), domain
        self.config = self.folder / "palomar.toml"
        self.ports, listening = {}, ""
        for (protocol, more), port in zip(listeners, free_ports(len(listeners))):
            names = (protocol, *(f"{protocol}{n}" for n in range(2, 9)))
            self.ports[next(name for name in names if name not in self.ports)] = port
            listening += (f'[[listener]]\nprotocol = "{protocol}"\n'
                          f'address = "127.0.0.1:{port}"\n{more}\n')
        self.port = self.ports.get("imap")
        clear = "true" if {"imap", "pop3", "submission"} & set(self.ports) else "false"
        self.text = (f'hostname = "localhost"\ndomains = ["{domain}"]\n'
                     f'data_dir = "{self.folder}/data"\nshards = 2\n{top}\n'
                     f'[auth]\nallow_plaintext = {clear}\nfailure_delay = "0s"\n'
                     f'{tables}\n{listening}')
        self.configure(self.text)

    def configure(self, text):
        """Takes effect at a start or a reload."""
        self.config.write_text(text)

    def run(self, *words, code=0, input=None):
        """A subcommand, which ends with `code`."""
        done = subprocess.run([self.binary, *map(str, words), "--config", str(self.config)],
                              input=input, capture_output=True, text=True, timeout=SECONDS_MAX)
        assert code in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
        return done

    def user(self, name, password):
        self.run("user", "add", f"{name}@{self.domain}", "--password-stdin", input=f"{password}\n")

    def start(self, before=(), **more):
        """Ready when it says so, by sd_notify(3). `before` is a program that becomes the server."""
        notices = self.folder / "notices"
        notices.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(notices))
            # For a server that starts as root and becomes somebody else.
            notices.chmod(0o777)
            self.spawn(*before, self.binary, "serve", "--config", self.config,
                       env={**os.environ, "NOTIFY_SOCKET": str(notices)}, **more)
            end = os.pidfd_open(self.child.pid)
            ready, _, _ = select.select([notified, end], [], [], SECONDS_MAX)
            os.close(end)
            if notified not in ready or b"READY=1" not in notified.recv(1000):
                self.stop(signal.SIGKILL)
                raise RuntimeError(f"the server does not start:\n{self.said()}")

    def __enter__(self):
        self.start()
        return self

    def log(self, *words):
        """A follower of the log: the lines so far, then each as it is written."""
        return LogFollower([self.binary, "log", "--json", "--follow", "--lines", "1000", *words,
                            "--config", str(self.config)])

    def imap(self, name, password):
        box = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=SECONDS_MAX)
        box.login(name, password)
        return box


class LogFollower:
    """`palomar log --follow` as a context."""

    def __init__(self, command):
        self.command = command

    def __enter__(self):
        self.child = subprocess.Popen(self.command, stdout=subprocess.PIPE)
        self.lines = Lines(self.child.stdout)
        return self

    def event(self, name, **wanted):
        """The next entry of this event in which the fields are as wanted."""
        def is_it(line):
            entry = json.loads(line)
            return entry.get("event") == name and wanted.items() <= entry.items()
        return json.loads(self.lines.until(is_it))

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()


class Demo(Server):
    """`palomar demo`, with the password of each user that it prints."""

    def __init__(self, folder, binary):
        super().__init__(folder)
        self.binary, self.home = str(binary), self.folder / "demo"
        self.config = self.home / "palomar.toml"
        # smtp, submission, submissions, imap, imaps, pop3, pop3s, lmtp, metrics, in a row.
        self.base = free_ports(9)[0]
        self.imaps, self.pop3s, self.passwords = self.base + 4, self.base + 6, {}

    def __enter__(self):
        with open(self.words, "ab") as words:
            self.child = subprocess.Popen(
                [self.binary, "demo", "--data", str(self.home), "--ports", str(self.base)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words)
        lines = Lines(self.child.stdout)
        try:
            lines.until(lambda line: line.endswith("metrics"))
        except (EOFError, TimeoutError):
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"the demo does not start:\n{lines.seen}\n{self.said()}") from None
        for words in map(str.split, lines.seen):
            if words[:1] == ["user"]:
                self.passwords[words[1]] = words[3]
        return self
