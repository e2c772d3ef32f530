#!/usr/bin/env python3
"""Adopting a Dovecot tree and leaving again, judged by clients and by Dovecot itself.

    tests/adopt/adopt.py PALOMAR

Dovecot is filled; mbsync, offlineimap and fetchmail synchronise with it. Then the tree is adopted:
the same clients, with the state that they kept, must transfer nothing. One letter more, and each
must transfer one. Then everything is settled and Dovecot serves the tree again, with every UID,
flag, keyword, date and octet as it was here; the clients transfer nothing, and mutt reads it too.

A second tree is of a Dovecot that was set up otherwise: levels by dots below `INBOX.`, UIDLs of its
own that it saved, compressed mail; one folder has a list of version 1, one has lost its list.
"""

import contextlib
import hashlib
import imaplib
import json
import os
import poplib
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
from proxy import Proxy
from stage.clients import idle_until_exists, mbsyncrc, offlineimaprc, on_a_terminal, plain, write
from stage.servers import Dovecot, Palomar, own

DOMAIN, PASSWORD = "adopt.test", "an-open-secret"
USER = f"ana@{DOMAIN}"
CLIENT_SECONDS_MAX = 60

LISTENERS = [("imap", ""), ("pop3", ""), ("lmtp", "")]


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
# Characters that mean more in LIST; and such folders have inferiors.
WILD = ['"50% off"', '"a*b"', '"50% off/100%"']


def fill(port):
    box = imap(port)
    for folder in [*FOLDERS, *WILD]:
        ok(box.create(folder))
    for folder in ["INBOX", *FOLDERS[:3], *WILD[:2]]:
        ok(box.subscribe(folder))
    for n in range(30):
        folder = ["INBOX", *FOLDERS][n % 6 if n < 18 else 0]
        flags = ["", r"\Seen", r"\Seen \Answered", r"\Flagged $Label1", r"\Seen Junk", r"\Draft"][n % 6]
        date = imaplib.Time2Internaldate(1_500_000_000 + n * 86_401)
        ok(box.append(folder, f"({flags})", date, letter(n)))
    for n, folder in enumerate(WILD, 40):
        ok(box.append(folder, r"(\Seen $Label1)", imaplib.Time2Internaldate(1_400_000_000 + n), letter(n)))
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
    subscribed = {re.search(rb'"?([^"]*?)"?$', line)[1].strip() for line in ok(box.lsub()) if line}
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

    def to(self, imap, pop3):
        self.imap.to(imap)
        self.pop3.to(pop3)

    def run(self, *command, ok=(0,)):
        done = subprocess.run([str(c) for c in command], capture_output=True, cwd=self.folder,
                              timeout=CLIENT_SECONDS_MAX,
                              env={**os.environ, "HOME": str(self.folder)})
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode in ok, f"{command[0]} ended with {done.returncode}: {said[-2000:]}"
        return said

    def mbsync(self):
        rc = mbsyncrc(self.folder, "127.0.0.1", self.imap.port, USER, PASSWORD)
        self.run("mbsync", "-c", rc, "-a")
        return len([p for p in (self.folder / "mail").rglob("*") if p.parent.name in ("cur", "new")])

    def offlineimap(self):
        rc = offlineimaprc(self.folder, "127.0.0.1", self.imap.port, USER, PASSWORD)
        said = self.run("offlineimap", "-c", rc, "-o", "-u", "basic")
        return len(re.findall(r"Copy message", said))

    def fetchmail(self):
        rc = write(self.folder / "fetchmailrc", f"""
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
    """What another program puts into new/ comes to an open session, which idles."""
    root = next((palomar.folder / "data" / "mail").glob("*/*/dovecot-uidlist")).parent
    box = imap(palomar.port)
    count = int(ok(box.select("INBOX", readonly=True))[0])
    (root / "tmp" / "drop").write_bytes(letter(101))
    (root / "tmp" / "drop").rename(root / "new" / "1600000000.drop.elsewhere")
    idle_until_exists(box, count + 1)
    assert len(ok(box.search(None, "ALL"))[0].split()) == count + 1
    box.logout()


def rescan(palomar):
    """What another program copied into cur/ is there when the operator has asked for it."""
    root = next((palomar.folder / "data" / "mail").glob("*/*/dovecot-uidlist")).parent
    (root / "cur" / "1600000001.copied.elsewhere:2,FS").write_bytes(letter(102))
    words = ("mailbox", "rescan", USER, "--folder", "inbox", "--json")
    for count in (1, 0):
        told = json.loads(palomar.run(*words).stdout)
        assert told == [{"name": "INBOX", "files": count, "taken_in": count, "grown": 0}], told


def mutt(folder, home):
    """Lets mutt read a Maildir: what its list shows of each message, by Message-ID."""
    rc = write(home / "muttrc",
               f"set folder={home} quit=yes wait_key=no sleep_time=0 move=no mark_old=no\n"
               'set index_format="{{%i|%Z}}"\n')
    command = ["mutt", "-n", "-F", rc, "-R", "-f", folder, "-e", 'push "<exit>"']
    seen = on_a_terminal(command, home, CLIENT_SECONDS_MAX, (100, 200))
    listed = dict(re.findall(r"\{\{(<[^|]*>)\|([^}]*)\}\}", plain(seen)))
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
    for walk in (set_up_otherwise, there_and_back):
        with tempfile.TemporaryDirectory(prefix="palomar-adopt-") as folder:
            Path(folder).chmod(0o755)
            walk(Path(folder), binary)
    print("passed")


def there_and_back(folder, binary):
    tree = folder / "vmail" / "ana"
    clients = Clients(folder / "clients")
    with Dovecot(folder / "dovecot", PASSWORD, tree) as dovecot:
        fill(dovecot.port)
        before, known = truth(dovecot.port), uidls(dovecot.pop3)
        all_of = sum(len(rows) for _, _, rows in before[0].values())
        inbox = len(before[0]["INBOX"][2])
        clients.to(dovecot.port, dovecot.pop3)
        clients.transfers("Dovecot, first time", all_of, inbox)
        clients.transfers("Dovecot, second time", 0, 0)
        before = truth(dovecot.port)
    own(folder / "vmail", os.getuid(), os.getgid())

    palomar = Palomar(folder / "palomar", binary, LISTENERS, DOMAIN)
    palomar.user("ana", PASSWORD)
    dry = json.loads(palomar.run("adopt", "--user", USER, tree, "--dry-run", "--json").stdout)
    told = json.loads(palomar.run("adopt", "--user", USER, tree, "--verify", "--json").stdout)
    for report in (dry, told):
        counted = sum(f["messages"] for f in report[0]["report"]["folders"])
        assert counted == all_of, (counted, all_of)
    assert all(f["differing"] == 0 for f in told[0]["report"]["folders"]), told
    assert not tree.exists()
    stopped = palomar.run("mailbox", "rescan", USER).stdout
    assert "every file has its message" in stopped, stopped
    print(f"ok   adopted {all_of} messages", flush=True)
    with palomar, told_of(palomar):
        same("adopted", before, truth(palomar.port), ("Archive", "Drafts", "Junk", "Trash"))
        assert uidls(palomar.ports["pop3"]) == known, (uidls(palomar.ports["pop3"]), known)
        clients.to(palomar.port, palomar.ports["pop3"])
        clients.transfers("adopted", 0, 0)
        with smtplib.LMTP("127.0.0.1", palomar.ports["lmtp"]) as lmtp:
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
        before, known = truth(palomar.port), uidls(palomar.ports["pop3"])
        palomar.run("settle", "--all")
    roots = [p.parent for p in (folder / "palomar" / "data" / "mail").glob("*/*/dovecot-uidlist")]
    assert len(roots) == 1, roots
    shutil.move(roots[0], folder / "back")
    read = mutt(folder / "back", folder)
    assert len(read) == len(before[0]["INBOX"][2]), read
    for shown, flag in (("!", r"\Flagged"), ("r", r"\Answered")):
        want = [flags for flags, *_ in before[0]["INBOX"][2].values() if flag in flags]
        assert len([f for f in read.values() if shown in f]) == len(want), (read, want)
    print(f"ok   mutt reads {len(read)} messages", flush=True)
    with Dovecot(folder / "dovecot-2", PASSWORD, folder / "back") as dovecot:
        same("left", before, truth(dovecot.port))
        assert uidls(dovecot.pop3) == known, (uidls(dovecot.pop3), known)
        clients.to(dovecot.port, dovecot.pop3)
        clients.transfers("left", 0, 0)
        log = (folder / "dovecot-2" / "dovecot.log").read_text()
        trouble = [line for line in log.splitlines() if re.search(r"Error|Warning|Panic", line)]
        assert not trouble, trouble


OTHERWISE = [
    ("mail_plugins = listescape", "mail_plugins = zlib\nplugin {\n  zlib_save = gz\n}\n"
     "pop3_uidl_format = %v-%u-mine\nprotocol pop3 {\n  pop3_save_uidl = yes\n}"),
    ("  separator = /", "  separator = .\n  prefix = INBOX."),
]


def set_up_otherwise(folder, binary):
    tree = folder / "vmail" / "ana"
    with Dovecot(folder / "dovecot", PASSWORD, tree, OTHERWISE) as dovecot:
        box = imap(dovecot.port)
        for name in ("INBOX.Work.v1", "INBOX.Entw&APw-rfe", "INBOX.Lost"):
            ok(box.create(name))
            ok(box.subscribe(name))
        for n in range(12):
            to = ("INBOX", "INBOX.Work.v1", "INBOX.Entw&APw-rfe", "INBOX.Lost")[n % 4]
            date = imaplib.Time2Internaldate(1_500_000_000 + n * 86_401)
            ok(box.append(to, r"(\Seen $Label1)" if n % 3 else "", date, letter(n) + b"x" * 5_000))
        # A gap, so that UIDs are not just counted.
        ok(box.select("INBOX"))
        ok(box.store("1", "+FLAGS", r"(\Deleted)"))
        ok(box.expunge())
        box.logout()
        known = uidls(dovecot.pop3)
        assert all(line.endswith(b"-mine") for line in known), known
        before, subscribed = truth(dovecot.port)
    own(folder / "vmail", os.getuid(), os.getgid())
    assert any(p.read_bytes()[:2] == b"\x1f\x8b" for p in tree.glob("cur/*")), "nothing is compressed"
    old = tree / ".Work.v1" / "dovecot-uidlist"
    head, *lines = old.read_text().splitlines()
    numbers = [re.search(rf" {of}(\d+)", head)[1] for of in "VN"]
    lines = [re.sub(r"^(\d+) .*?:", r"\1 ", line) for line in lines]
    old.write_text("\n".join([f"1 {' '.join(numbers)}", *lines, ""]))
    (tree / ".Lost" / "dovecot-uidlist").unlink()

    palomar = Palomar(folder / "palomar", binary, LISTENERS, DOMAIN)
    palomar.user("ana", PASSWORD)
    told = json.loads(palomar.run("adopt", "--user", USER, tree, "--verify", "--json").stdout)
    assert all(f["differing"] == 0 for f in told[0]["report"]["folders"]), told
    renamed = {name: name.removeprefix("INBOX.").replace(".", "/") for name in before}
    want = {renamed[name]: of for name, of in before.items()}
    with palomar, told_of(palomar):
        found, now_subscribed = truth(palomar.port)
        # What is known of a folder without its list is the messages, in some order.
        lost, is_there = want.pop("Lost"), found.pop("Lost")
        assert sorted(lost[2].values()) == sorted(is_there[2].values()), (lost, is_there)
        assert is_there[0] > 0 and is_there[1] == len(lost[2]) + 1, is_there
        subscribed = {renamed[name.decode()].encode() for name in subscribed}
        same("set up otherwise", (want, subscribed), (found, now_subscribed),
             ("Archive", "Drafts", "Junk", "Sent", "Trash"))
        assert uidls(palomar.ports["pop3"]) == known, (uidls(palomar.ports["pop3"]), known)
    print("ok   adopted from a Dovecot that is set up otherwise", flush=True)


if __name__ == "__main__":
    main()
