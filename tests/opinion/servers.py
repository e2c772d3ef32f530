"""The two servers that are compared: a private Dovecot and a private Palomar.

Both listen on loopback only, keep everything in a folder of the caller's, run in the foreground as
our child, and end with it.
"""

import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 20
USER, PASSWORD, DOMAIN = "judge", "an-open-secret", "opinion.test"

DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = opinion-{port}
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_internal_user = {me}
default_internal_group = {group}
default_login_user = {me}
mail_location = maildir:{folder}/mail
first_valid_uid = 1
first_valid_gid = 1
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
service anvil {{
  chroot =
}}
"""

PALOMAR = """
hostname = "mail.{domain}"
domains = ["{domain}"]
data_dir = "{folder}/data"
shards = 2
[limits]
message_bytes_max = "100MB"
[auth]
allow_plaintext = true
failure_delay = "0s"
[[listener]]
protocol = "imap"
address = "127.0.0.1:{port}"
"""


def free_port():
    """Below what the kernel hands out to clients, so that no other test's client sits on it."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port below 32000")


class Server:
    """A child process that greets on `port`; use as a context."""

    def __init__(self, folder):
        self.folder, self.port, self.child = Path(folder), free_port(), None
        self.folder.mkdir(parents=True)
        self.words = self.folder / "words"

    def start(self, *command):
        with open(self.words, "ab") as words:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words
            )
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until and self.child.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as probe:
                    if probe.recv(100).startswith(b"* OK"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{command[0]} does not answer:\n{self.said()}")

    def said(self):
        logs = [self.words, self.folder / "dovecot.log"]
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())

    def stop(self):
        if self.child is None or self.child.poll() is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def __exit__(self, *_):
        self.stop()


class Dovecot(Server):
    name, user = "dovecot", USER

    def __enter__(self):
        uid = os.getuid()
        # Dovecot serves nobody's mail as root.
        owner = pwd.getpwnam("nobody") if uid == 0 else pwd.getpwuid(uid)
        for name in ("home", "mail"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, owner.pw_uid, owner.pw_gid)
        (self.folder / "run").mkdir()
        self.folder.chmod(0o755)
        config = self.folder / "dovecot.conf"
        config.write_text(
            DOVECOT.format(
                folder=self.folder,
                port=self.port,
                me=owner.pw_name,
                group=grp.getgrgid(owner.pw_gid).gr_name,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                password=PASSWORD,
            )
        )
        binary = shutil.which("dovecot") or "/usr/sbin/dovecot"
        self.start(binary, "-F", "-c", str(config))
        return self


class Palomar(Server):
    name, user = "palomar", f"{USER}@{DOMAIN}"

    def __init__(self, folder, binary):
        super().__init__(folder)
        self.binary = str(binary)

    def __enter__(self):
        config = self.folder / "palomar.toml"
        config.write_text(PALOMAR.format(folder=self.folder, port=self.port, domain=DOMAIN))
        add = [self.binary, "user", "add", self.user, "--password-stdin", "--config", str(config)]
        done = subprocess.run(
            add, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise RuntimeError(f"user add: {done.stdout}{done.stderr}")
        self.start(self.binary, "serve", "--config", str(config))
        return self
