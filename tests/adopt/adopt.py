#!/usr/bin/env python3
"""Adopting a Dovecot tree and leaving again, judged by clients and by Dovecot itself.

    tests/adopt/adopt.py PALOMAR

Dovecot is filled; mbsync, offlineimap and fetchmail synchronise with it. Then the tree is adopted:
the same clients, with the state that they kept, must transfer nothing. One letter more, and each
must transfer one. Then everything is settled and Dovecot serves the tree again, with every UID,
flag, keyword, date and octet as it was here; the clients transfer nothing, and mutt reads it too.
"""

import contextlib
import fcntl
import grp
import hashlib
import imaplib
import json
import os
import poplib
import pwd
import re
import select
import pty
import shutil
import smtplib
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "opinion"))
from proxy import Proxy
from servers import Server, free_port

DOMAIN, PASSWORD = "adopt.test", "an-open-secret"
USER = f"ana@{DOMAIN}"
CLIENT_SECONDS_MAX = 60

DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
instance_name = adopt-{port}
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

PALOMAR = """
hostname = "localhost"
domains = ["{domain}"]
data_dir = "{folder}/data"
shards = 2
[auth]
allow_plaintext = true
failure_delay = "0s"
[[listener]]
protocol = "imap"
address = "127.0.0.1:{port}"
[[listener]]
protocol = "pop3"
address = "127.0.0.1:{pop3}"
[[listener]]
protocol = "lmtp"
address = "127.0.0.1:{lmtp}"
"""


class Dovecot(Server):
    def __init__(self, folder, mail):
        super().__init__(folder)
        self.mail, self.pop3 = Path(mail), free_port()

    def __enter__(self):
        uid = os.getuid()
        # Dovecot serves nobody's mail as root.
        owner = pwd.getpwnam("nobody") if uid == 0 else pwd.getpwuid(uid)
        self.mail.mkdir(parents=True, exist_ok=True)
        for name in ("home", "run"):
            (self.folder / name).mkdir()
        own(self.mail, owner.pw_uid, owner.pw_gid)
        os.chown(self.folder / "home", owner.pw_uid, owner.pw_gid)
        self.folder.chmod(0o755)
        config = self.folder / "dovecot.conf"
        config.write_text(DOVECOT.format(
            folder=self.folder, port=self.port, pop3=self.pop3, mail=self.mail, me=owner.pw_name,
            group=grp.getgrgid(owner.pw_gid).gr_name, uid=owner.pw_uid, gid=owner.pw_gid,
            password=PASSWORD))
        self.start(shutil.which("dovecot") or "/usr/sbin/dovecot", "-F", "-c", str(config))
        return self


class Palomar(Server):
    def __init__(self, folder, binary):
        super().__init__(folder)
        self.binary, self.pop3, self.lmtp = binary, free_port(), free_port()
        self.config = self.folder / "palomar.toml"
        self.config.write_text(PALOMAR.format(
            folder=self.folder, port=self.port, pop3=self.pop3, lmtp=self.lmtp, domain=DOMAIN))

    def cli(self, *words, input=None):
        done = subprocess.run([self.binary, *words, "--config", str(self.config)], input=input,
                              capture_output=True, text=True, timeout=CLIENT_SECONDS_MAX)
        assert done.returncode == 0, f"palomar {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def __enter__(self):
        self.start(self.binary, "serve", "--config", str(self.config))
        return self


def own(tree, uid, gid):
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", f"{uid}:{gid}", str(tree)], check=True)


def imap(port):
    box = imaplib.IMAP4("127.0.0.1", port, timeout=CLIENT_SECONDS_MAX)
    box.login(USER, PASSWORD)
    return box


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def letter(n):
    return (f"From: <a@{DOMAIN}>\r\nTo: <{USER}>\r\nSubject: letter {n}\r\n"
            f"Message-ID: <{n}@{DOMAIN}>\r\nDate: Mon, 1 Jun 2020 00:00:{n % 60:02d} +0000\r\n\r\n"
            f"Body of letter {n}.\r\n").encode()


FOLDERS = ['"Work/v1.2 plan"', "Entw&APw-rfe", '"Sent Items"', '"R&-D/~x"', "&ZeVnLA-"]


def fill(port):
    box = imap(port)
    for folder in FOLDERS:
        ok(box.create(folder))
    for folder in ["INBOX", *FOLDERS[:3]]:
        ok(box.subscribe(folder))
    for n in range(30):
        folder = ["INBOX", *FOLDERS][n % 6 if n < 18 else 0]
        flags = ["", r"\Seen", r"\Seen \Answered", r"\Flagged $Label1", r"\Seen Junk", r"\Draft"][n % 6]
        date = imaplib.Time2Internaldate(1_500_000_000 + n * 86_401)
        ok(box.append(folder, f"({flags})", date, letter(n)))
    # More keywords than one, in an order of their own.
    ok(box.select("INBOX"))
    for n in range(3, 9):
        ok(box.store(str(n), "+FLAGS", f"($Label{n} Custom-{n})"))
    # Gaps.
    ok(box.store("2,5", "+FLAGS", r"(\Deleted)"))
    ok(box.expunge())
    ok(box.copy("1:2", '"R&-D/~x"'))
    box.logout()


def folders_of(box):
    names = []
    for line in ok(box.list()):
        attributes, name = re.fullmatch(rb'\(([^)]*)\) "?[./]"? "?(.*?)"?', line).groups()
        if not re.search(rb"(?i)noselect|nonexistent", attributes):
            names.append(name.decode())
    return sorted(names)


def truth(port):
    """Everything that IMAP says, mailbox by mailbox; and the UIDLs."""
    box, found = imap(port), {}
    for name in folders_of(box):
        count = int(ok(box.select(f'"{name}"', readonly=True))[0])
        validity = int(box.response("UIDVALIDITY")[1][0])
        uidnext = int(box.response("UIDNEXT")[1][0])
        rows = {}
        if count:
            answer = ok(box.fetch("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
            for head, body in (row for row in answer if isinstance(row, tuple)):
                uid = int(re.search(rb"UID (\d+)", head)[1])
                flags = set(re.search(rb"FLAGS \(([^)]*)\)", head)[1].decode().split())
                date = imaplib.Internaldate2tuple(head)
                size = int(re.search(rb"RFC822.SIZE (\d+)", head)[1])
                rows[uid] = (sorted(flags - {r"\Recent"}), time.mktime(date), size,
                             hashlib.sha256(body).hexdigest())
        assert len(rows) == count, (name, count, rows)
        found[name] = (validity, uidnext, rows)
    subscribed = {re.search(rb'"?([^"]*?)"?$', line)[1] for line in ok(box.lsub()) if line}
    box.logout()
    return found, subscribed


def uidls(port):
    box = poplib.POP3("127.0.0.1", port)
    box.user(USER)
    box.pass_(PASSWORD)
    listed = box.uidl()[1]
    box.quit()
    return listed


def same(what, before, after, but=()):
    """Mailboxes that are only in `but` may have come."""
    (old, old_subscribed), (new, new_subscribed) = before, after
    for name, (validity, uidnext, rows) in old.items():
        assert name in new, f"{what}: {name} is gone"
        assert new[name][:2] == (validity, uidnext), f"{what}: {name}: {new[name][:2]}, was {(validity, uidnext)}"
        for uid, row in rows.items():
            assert new[name][2].get(uid) == row, f"{what}: {name} {uid}: {new[name][2].get(uid)}, was {row}"
        assert len(new[name][2]) == len(rows), f"{what}: {name} has {len(new[name][2])}"
    more = {name for name in new if name not in old}
    assert more <= set(but), f"{what}: {more} came"
    assert all(not new[name][2] for name in more)
    assert old_subscribed <= new_subscribed, f"{what}: {old_subscribed - new_subscribed} not subscribed"


class Clients:
    """Three programs that keep what they fetched, and know it again."""

    def __init__(self, folder):
        self.folder, self.imap, self.pop3 = Path(folder), Proxy(), Proxy()
        self.folder.mkdir()
        (self.folder / "near").mkdir()

    def to(self, server):
        self.imap.to(server.port)
        self.pop3.to(server.pop3)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def run(self, *command, ok=(0,)):
        done = subprocess.run([str(c) for c in command], capture_output=True, cwd=self.folder,
                              timeout=CLIENT_SECONDS_MAX,
                              env={**os.environ, "HOME": str(self.folder)})
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode in ok, f"{command[0]} ended with {done.returncode}: {said[-2000:]}"
        return said

    def mbsync(self):
        rc = self.write("mbsyncrc", f"""
IMAPAccount there
Host 127.0.0.1
Port {self.imap.port}
User {USER}
Pass {PASSWORD}
SSLType None
AuthMechs LOGIN

IMAPStore far
Account there

MaildirStore near
Path {self.folder}/near/
Inbox {self.folder}/near/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
""")
        self.run("mbsync", "-c", rc, "-a")
        return len([p for p in (self.folder / "near").rglob("*") if p.parent.name in ("cur", "new")])

    def offlineimap(self):
        rc = self.write("offlineimaprc", f"""
[general]
accounts = test
metadata = {self.folder}/meta
maxsyncaccounts = 1
[Account test]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {self.folder}/offline
sep = /
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {self.imap.port}
ssl = no
starttls = no
remoteuser = {USER}
remotepass = {PASSWORD}
maxconnections = 1
""")
        said = self.run("offlineimap", "-c", rc, "-o", "-u", "basic")
        return len(re.findall(r"Copy message", said))

    def fetchmail(self):
        rc = self.write("fetchmailrc", f"""
poll 127.0.0.1 service {self.pop3.port} protocol POP3 uidl
  user "{USER}" password "{PASSWORD}" is root here
  sslproto '' keep no rewrite mda "cat >> {self.folder}/fetched"
""")
        # 1: there was nothing to fetch.
        said = self.run("fetchmail", "-f", rc, "--nodetach", "--nosyslog", "--keep", "--uidl",
                        "--idfile", self.folder / "ids", "--pidfile", self.folder / "pid", ok=(0, 1))
        return len(re.findall(r"reading message", said))

    def transfers(self, what, want_imap, want_pop3):
        kept = []
        for name, proxy, want in (("mbsync", self.imap, want_imap),
                                  ("offlineimap", self.imap, want_imap),
                                  ("fetchmail", self.pop3, want_pop3)):
            began = time.monotonic()
            told = getattr(self, name)()
            kept.append(told)
            taken = proxy.count()
            assert len(taken) == want, f"{what}: {name} transferred {len(taken)}, not {want}: {taken[:5]}"
            if name != "mbsync":
                assert told == want, f"{what}: {name} says that it transferred {told}"
            print(f"ok   {what}: {name} transferred {want} ({time.monotonic() - began:.1f} s)", flush=True)
        return kept[0]


def change(port):
    """What a user does after the move."""
    box = imap(port)
    ok(box.create("Neu/Ordner"))
    ok(box.select("INBOX"))
    ok(box.store("1", "+FLAGS", r"(\Flagged Fresh $Label1)"))
    ok(box.store("3", "-FLAGS", r"(\Seen)"))
    ok(box.copy("2", "Neu/Ordner"))
    ok(box.store("4", "+FLAGS", r"(\Deleted)"))
    ok(box.expunge())
    # Under its last name before any client sees it: mbsync takes a rename for a loss.
    ok(box.create("Later"))
    ok(box.append("Later", r"(\Seen $Label9)", imaplib.Time2Internaldate(1_600_000_000), letter(200)))
    ok(box.rename("Later", "Neu/&ZeVnLA-"))
    ok(box.subscribe("Neu/Ordner"))
    box.logout()


def drop_in(palomar):
    """What another program puts into new/ is there at the next NOOP of an open session."""
    root = next((palomar.folder / "data" / "mail").glob("*/*/dovecot-uidlist")).parent
    box = imap(palomar.port)
    count = int(ok(box.select("INBOX", readonly=True))[0])
    (root / "tmp" / "drop").write_bytes(letter(101))
    (root / "tmp" / "drop").rename(root / "new" / "1600000000.drop.elsewhere")
    until = time.monotonic() + CLIENT_SECONDS_MAX
    while len(ok(box.search(None, "ALL"))[0].split()) == count:
        assert time.monotonic() < until, "what was dropped into new/ does not appear"
        ok(box.noop())
        select.select([], [], [], 0.1)
    box.logout()


def rescan(palomar):
    """What another program copied into cur/ is there when the operator has asked for it."""
    root = next((palomar.folder / "data" / "mail").glob("*/*/dovecot-uidlist")).parent
    (root / "cur" / "1600000001.copied.elsewhere:2,FS").write_bytes(letter(102))
    words = ("mailbox", "rescan", USER, "--folder", "inbox", "--json")
    for count in (1, 0):
        told = json.loads(palomar.cli(*words))
        assert told == [{"name": "INBOX", "files": count, "taken_in": count}], told


def mutt(folder, home):
    """Lets mutt read a Maildir: what its list shows of each message, by Message-ID."""
    rc = home / "muttrc"
    rc.write_text(f"set folder={home} quit=yes wait_key=no sleep_time=0 move=no mark_old=no\n"
                  'set index_format="{{%i|%Z}}"\n')
    command = ["mutt", "-n", "-F", str(rc), "-R", "-f", str(folder), "-e", 'push "<exit>"']
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", HOME=str(home))
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 100, 200, 0, 0))
    until, seen = time.monotonic() + CLIENT_SECONDS_MAX, b""
    while time.monotonic() < until:
        ready, _, _ = select.select([terminal], [], [], 1)
        if ready:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
    else:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    plain = re.sub(r"\x1b(?:\[[?0-9;]*[A-Za-z]|\([B0])", "", seen.decode(errors="replace"))
    listed = dict(re.findall(r"\{\{(<[^|]*>)\|([^}]*)\}\}", plain))
    assert listed, f"mutt shows nothing: {seen[-1500:]}"
    return listed


@contextlib.contextmanager
def told_of(server):
    """What the server said, where something fails."""
    try:
        yield
    except Exception:
        print(server.said(), flush=True)
        raise


def main():
    binary = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="palomar-adopt-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        tree = folder / "vmail" / "ana"
        clients = Clients(folder / "clients")
        with Dovecot(folder / "dovecot", tree) as dovecot:
            fill(dovecot.port)
            before, known = truth(dovecot.port), uidls(dovecot.pop3)
            all_of = sum(len(rows) for _, _, rows in before[0].values())
            inbox = len(before[0]["INBOX"][2])
            clients.to(dovecot)
            clients.transfers("Dovecot, first time", all_of, inbox)
            clients.transfers("Dovecot, second time", 0, 0)
            before = truth(dovecot.port)
        own(folder / "vmail", os.getuid(), os.getgid())

        palomar = Palomar(folder / "palomar", binary)
        palomar.cli("user", "add", USER, "--password-stdin", input=f"{PASSWORD}\n")
        dry = json.loads(palomar.cli("adopt", "--user", USER, str(tree), "--dry-run", "--json"))
        told = json.loads(palomar.cli("adopt", "--user", USER, str(tree), "--verify", "--json"))
        for report in (dry, told):
            counted = sum(f["messages"] for f in report[0]["report"]["folders"])
            assert counted == all_of, (counted, all_of)
        assert all(f["differing"] == 0 for f in told[0]["report"]["folders"]), told
        assert not tree.exists()
        stopped = palomar.cli("mailbox", "rescan", USER)
        assert "every file has its message" in stopped, stopped
        print(f"ok   adopted {all_of} messages", flush=True)
        with palomar, told_of(palomar):
            same("adopted", before, truth(palomar.port), ("Archive", "Drafts", "Junk", "Trash"))
            assert uidls(palomar.pop3) == known, (uidls(palomar.pop3), known)
            clients.to(palomar)
            clients.transfers("adopted", 0, 0)
            with smtplib.LMTP("127.0.0.1", palomar.lmtp) as lmtp:
                lmtp.sendmail(f"a@{DOMAIN}", [USER], letter(100))
            clients.transfers("one more", 1, 1)
            drop_in(palomar)
            clients.transfers("dropped into new", 1, 1)
            rescan(palomar)
            clients.transfers("copied into cur", 1, 1)
            change(palomar.port)
            clients.mbsync()
            clients.offlineimap()
            clients.imap.count()
            clients.transfers("changed", 0, 0)
            before, known = truth(palomar.port), uidls(palomar.pop3)
            palomar.cli("settle", "--all")
        roots = [p.parent for p in (folder / "palomar" / "data" / "mail").glob("*/*/dovecot-uidlist")]
        assert len(roots) == 1, roots
        shutil.move(roots[0], folder / "back")
        read = mutt(folder / "back", folder)
        assert len(read) == len(before[0]["INBOX"][2]), read
        for shown, flag in (("!", r"\Flagged"), ("r", r"\Answered")):
            want = [flags for flags, *_ in before[0]["INBOX"][2].values() if flag in flags]
            assert len([f for f in read.values() if shown in f]) == len(want), (read, want)
        print(f"ok   mutt reads {len(read)} messages", flush=True)
        with Dovecot(folder / "dovecot-2", folder / "back") as dovecot:
            same("left", before, truth(dovecot.port))
            assert uidls(dovecot.pop3) == known, (uidls(dovecot.pop3), known)
            clients.to(dovecot)
            clients.transfers("left", 0, 0)
            log = (folder / "dovecot-2" / "dovecot.log").read_text()
            trouble = [line for line in log.splitlines() if re.search(r"Error|Warning|Panic", line)]
            assert not trouble, trouble
    print("passed")


if __name__ == "__main__":
    main()
