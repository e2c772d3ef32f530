"""The servers that are compared, each a private instance on loopback in a folder of its own.

Both serve the same accounts, show the same P-256 certificate, and keep the settings that make an
acknowledged message durable: Postfix syncs its queue file, Dovecot has its default mail_fsync,
Palomar its journal. Nothing of the machine's own mail set-up is read or changed.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

DOMAIN, PASSWORD = "bench.test", "an-open-secret"
USERS = 100
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60


def user(n):
    return f"user{n:04}@{DOMAIN}"


def free_ports(count):
    """Below the range that the kernel hands out to clients."""
    found = []
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports below 32000")


def certificate(folder):
    """One for both: the cost of a handshake depends on its kind."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-keyout", str(key), "-out", str(cert)]
        subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return cert, key


class Stack:
    """Servers in one process group to be measured; use as a context."""

    def __init__(self, folder, group):
        self.folder, self.group = Path(folder), group
        self.folder.mkdir(parents=True)
        # Servers that give up root must be able to come in.
        self.folder.chmod(0o755)
        self.children = []
        self.smtp, self.imap, self.imaps, self.lmtp, self.metrics = free_ports(5)

    def start(self, *command):
        with open(self.folder / "words", "ab") as words:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                preexec_fn=self.group.enter,
            )
        self.children.append(child)

    def wait_for(self, port, greeting):
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            if any(child.poll() is not None for child in self.children):
                break
            try:
                with socket.create_connection(("127.0.0.1", port), 2) as probe:
                    if probe.recv(100).startswith(greeting):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        said = "".join(
            log.read_text(errors="replace")[-3000:]
            for log in (self.folder / "words", self.folder / "dovecot.log", self.folder / "log")
            if log.exists()
        )
        self.__exit__()
        raise RuntimeError(f"{self.name} does not answer on port {port}:\n{said}")

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in reversed(self.children):
            try:
                child.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.children = []
        self.group.end_rest()


# Every Postfix here: all that it has is in its folder.
BASE_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
alias_maps =
alias_database =
local_recipient_maps =
"""

MAIN_CF = BASE_CF + """\
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = static:known
virtual_transport = lmtp:inet:127.0.0.1:{lmtp}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
"""

# As Debian ships it, less what this job never uses, and without chroot.
MASTER_CF = """
127.0.0.1:{smtp} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

# Dovecot 2.3's defaults, with limits raised to what 2000 connections and a mailbox of 1,000,000
# need (256 MB do not list it without an index), and log-in processes that serve many connections:
# its manual's choice for speed and small memory.
DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = compare-{imap}
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
mail_location = maildir:{folder}/users/%u/Maildir
mail_home = {folder}/users/%u
mail_max_userip_connections = 10000
first_valid_uid = 1
first_valid_gid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/users/%u allow_all_users=yes
}}
service imap-login {{
  service_count = 0
  process_min_avail = 2
  client_limit = 10000
  vsz_limit = 1G
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 8000
  vsz_limit = 4G
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  client_limit = 20000
}}
service auth {{
  client_limit = 20000
}}
service stats {{
  client_limit = 20000
}}
service config {{
  client_limit = 20000
}}
"""


class PostfixDovecot(Stack):
    name = "Postfix + Dovecot"

    def __enter__(self):
        for name in ("users", "run", "etc", "queue", "data"):
            (self.folder / name).mkdir()
        self.serve()
        return self

    def serve(self):
        self.start_dovecot()
        self.start_postfix()
        self.wait_for(self.imap, b"* OK")
        self.wait_for(self.smtp, b"220")

    def start_dovecot(self):
        cert, key = certificate(self.folder)
        owner = pwd.getpwnam("nobody")
        os.chown(self.folder / "users", owner.pw_uid, owner.pw_gid)
        config = self.folder / "dovecot.conf"
        config.write_text(
            DOVECOT.format(
                folder=self.folder,
                cert=cert,
                key=key,
                imap=self.imap,
                imaps=self.imaps,
                lmtp=self.lmtp,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                password=PASSWORD,
            )
        )
        self.start(shutil.which("dovecot") or "/usr/sbin/dovecot", "-F", "-c", str(config))

    def start_postfix(self):
        owner = pwd.getpwnam("postfix")
        etc = self.folder / "etc"
        os.chown(self.folder / "data", owner.pw_uid, owner.pw_gid)
        values = {"folder": self.folder, "domain": DOMAIN, "lmtp": self.lmtp, "smtp": self.smtp}
        (etc / "main.cf").write_text(MAIN_CF.format(**values))
        (etc / "master.cf").write_text(MASTER_CF.format(**values))
        self.start(shutil.which("postfix") or "/usr/sbin/postfix", "-c", str(etc), "start-fg")

    def syncs(self):
        """Not counted by these servers themselves."""
        return None


PALOMAR = """
hostname = "mx.{domain}"
domains = ["{domain}"]
data_dir = "{folder}/data"
[tls]
certificate = "{cert}"
key = "{key}"
[limits]
connections_per_address_max = 100000
[auth]
allow_plaintext = true
{settings}
[[listener]]
protocol = "smtp"
address = "127.0.0.1:{smtp}"
[[listener]]
protocol = "lmtp"
address = "127.0.0.1:{lmtp}"
[[listener]]
protocol = "imap"
address = "127.0.0.1:{imap}"
[[listener]]
protocol = "imaps"
address = "127.0.0.1:{imaps}"
[[listener]]
protocol = "metrics"
address = "127.0.0.1:{metrics}"
"""


class Palomar(Stack):
    name = "Palomar"
    binary = "target/release/palomar"
    # More of the configuration.
    settings = ""

    def __enter__(self):
        cert, key = certificate(self.folder)
        config = self.folder / "palomar.toml"
        config.write_text(
            PALOMAR.format(
                folder=self.folder,
                domain=DOMAIN,
                cert=cert,
                key=key,
                smtp=self.smtp,
                lmtp=self.lmtp,
                imap=self.imap,
                imaps=self.imaps,
                metrics=self.metrics,
                settings=self.settings,
            )
        )
        users = self.folder / "users.csv"
        users.write_text("".join(f"{user(n)},{PASSWORD},10GB\n" for n in range(USERS)))
        done = subprocess.run(
            [self.binary, "user", "import", str(users), "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise RuntimeError(f"user import: {done.stdout}{done.stderr}")
        self.serve()
        return self

    def serve(self):
        self.start(self.binary, "serve", "--config", str(self.folder / "palomar.toml"))
        self.wait_for(self.imap, b"* OK")
        self.wait_for(self.smtp, b"220")

    def counters(self):
        """All samples of /metrics: name with labels -> value."""
        found = {}
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as page:
            for line in page.read().decode().splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    found[name] = float(value)
        return found

    def syncs(self):
        """Journal syncs as the server counts them, where it does."""
        counters = self.counters().items()
        found = [value for name, value in counters if name.split("{")[0].endswith("syncs_total")]
        return sum(found) if found else None


STACKS = {"peer": PostfixDovecot, "palomar": Palomar}
