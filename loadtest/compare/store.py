#!/usr/bin/env python3
"""What the store costs and how it holds its size: figures of Palomar alone or beside Dovecot.

    loadtest/compare/store.py [--only SCENARIO] [--stack NAME] [--loop] [--out FILE]

As `compare.py` (which has what both share), with scenarios of the store.

Scenarios:
  checkpoint  250 p50/p99 at 1, 20, 100 connections: checkpoints every 2 s against none
  opening     SELECT of 10,000, 100,000 and 1,000,000 after a restart and again, what another
              connection of the same user waits meanwhile, and octets of index and cache
  delivering  250 of single messages into a closed INBOX of 10 and of 1,000,000
  folders     a tree of 5,000 folders made, and STATUS of 1,000 of them after a restart
  writing     octets written to the disk for each octet of mail (with --loop: by the device)
  replay      a start after a kill with about 1 GB in the journal
  importing   messages/s that `palomar import` brings from an mbox file and from a Maildir
  large       a mailbox of more than 4 GB: every size that is told of it, and after a restart
  starting    a start with 10,000 accounts, after a clean stop and after a kill

And of both in turn, on the same Maildir trees, as root (caches of the kernel are dropped):
  reopening   SELECT after a restart, caches warm and cold, and octets of index and cache
  statuses    STATUS of 1,000 folders after a restart, caches warm and cold
"""

import argparse
import json
import os
import pwd
import random
import re
import shutil
import signal
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from base64 import encodebytes
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from client import Client
from compare import QUIET_SECONDS, letter, table, timed
from meter import Group, LoopDisk, Tracing
from stacks import DOMAIN, PASSWORD, STACKS, USERS, free_ports, user

DRIVER = "target/release/palomar-load"
SECONDS_MAX = 600
# Of messages, and how many of them, where octets are counted.
SIZES = ((4096, 20000), (10240, 10000), (51200, 4000))


def roundtrip(stack, sessions, count, size=4096, owners=1, text=None):
    command = [DRIVER, "roundtrip", "--json", "--password", PASSWORD, "--domain", DOMAIN]
    command += ["--smtp", f"127.0.0.1:{stack.smtp}", "--imap", f"127.0.0.1:{stack.imap}"]
    command += ["--users", str(USERS), "--sessions", str(sessions), "--count", str(count)]
    command += ["--size", str(size)] + (["--owners", str(owners)] if owners > 1 else [])
    command += ["--text", text] if text else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def checkpoint(start, key, quick):
    """In turn, twice each, so that what else the machine does hits both."""
    counts = {1: 8000, 20: 40000, 100: 60000}
    found = {}
    for _ in range(1 if quick else 2):
        for every in ("10m", "2s"):
            slots = "journal_slots = 16\njournal_slot_bytes = \"128MiB\"\n"
            with start(f'[store]\n{slots}checkpoint_interval = "{every}"\n') as stack:
                roundtrip(stack, 20, 2000)
                for sessions, count in counts.items():
                    before = stack.counters()
                    said = roundtrip(stack, sessions, count // (4 if quick else 1))
                    after = stack.counters()
                    name = "palomar_store_checkpoints_total"
                    made = sum(v - before.get(k, 0) for k, v in after.items() if k.startswith(name))
                    found.setdefault((sessions, every), []).append(said | {"checkpoints": made})
    for (sessions, every), rounds in sorted(found.items()):
        least = lambda key: min(said[key] for said in rounds)
        word = "no checkpoint" if every == "10m" else f"a checkpoint every {every}"
        yield f"delivery, {sessions} connections, {word}", {
            "messages/s accepted": round(max(said["accepted_per_s"] for said in rounds)),
            "250 p50 ms": least("p50_ms"),
            "250 p99 ms": least("p99_ms"),
            "250 max ms": least("max_ms"),
            "checkpoints": max(said["checkpoints"] for said in rounds),
        }


def ended(stack, how=signal.SIGTERM):
    for child in stack.children:
        child.send_signal(how)
    for child in stack.children:
        child.wait()
    stack.children = []


def restarted(stack, how=signal.SIGTERM):
    """Ends the server and starts it again; answers the seconds until it serves."""
    ended(stack, how)
    began = time.monotonic()
    stack.serve()
    return time.monotonic() - began


class Bystander:
    """Another connection of the same user, on the same shard: how long does a NOOP take?"""

    def __init__(self, stack, name):
        self.client, self.worst, self.over = Client(stack.imap, name), 0, False
        self.client.command("NOOP")
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over:
            self.worst = max(self.worst, timed(self.client, "NOOP")[0])
            time.sleep(0.0005)

    def __enter__(self):
        self.thread.start()
        time.sleep(0.05)
        self.worst = 0
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
        self.client.close()


def grow(client, box, rows):
    """By APPEND and then by copies of all there is, at most 10,000 at a time."""
    if box != "INBOX":
        client.command(f"CREATE {box}")
    there = min(rows, 1000)
    for n in range(there):
        client.command(f"APPEND {box} (\\Seen)" if n % 3 else f"APPEND {box}", letter(n))
    client.command(f"SELECT {box}")
    while there < rows:
        more = min(there, rows - there, 10000)
        client.command(f"COPY 1:{more} {box}")
        there += more
    client.command("UNSELECT")


def sizes(stack, names):
    found = 0
    for name in names:
        found += sum(path.stat().st_size for path in stack.folder.rglob(name))
    return found


def opening(start, key, quick):
    for rows in (10000, 100000) if quick else (10000, 100000, 1000000):
        with start('[store]\nquota_default = "0"\n' if key == "palomar" else "") as stack:
            client = Client(stack.imap, user(1))
            grow(client, "Huge", rows)
            with Bystander(stack, user(1)) as store_watch:
                client.command("SELECT Huge")
                some = min(rows, 20000)
                store_ms = timed(client, f"STORE 1:{some} +FLAGS.SILENT (\\Flagged)")[0]
            client.command("UNSELECT")
            client.close()
            restarted(stack)
            with Bystander(stack, user(1)) as watch:
                client = Client(stack.imap, user(1))
                first = timed(client, "SELECT Huge")[0]
            spans = []
            for _ in range(11):
                client.command("UNSELECT")
                spans.append(timed(client, "SELECT Huge")[0])
            client.close()
            figures = {
                "SELECT ms after a restart": round(first, 1),
                "NOOP ms at most meanwhile": round(watch.worst, 1),
                "SELECT ms again": round(sorted(spans)[5], 2),
                f"STORE 1:{some} ms": round(store_ms),
                "NOOP ms at most during STORE": round(store_watch.worst, 1),
            }
            if key == "palomar":
                index = sizes(stack, ["palomar.index.*", "palomar.log.*"])
                figures["octets of index a message"] = round(index / rows, 1)
                cache = sizes(stack, ["palomar.cache*"])
                figures["octets of cache a message (not copies)"] = round(cache / 1000, 1)
            yield f"a mailbox of {rows}", figures


def delivering(start, key, quick):
    """Into an INBOX that nobody has open, one message after the other."""
    for rows in (10, 100000 if quick else 1000000):
        with start('[store]\nquota_default = "0"\n' if key == "palomar" else "") as stack:
            client = Client(stack.imap, user(1))
            grow(client, "INBOX", rows)
            client.close()
            restarted(stack)
            spans = []
            with smtplib.SMTP("127.0.0.1", stack.smtp) as smtp:
                for n in range(500):
                    began = time.perf_counter()
                    smtp.sendmail(f"a@{DOMAIN}", [user(1)], letter(n))
                    spans.append(1000 * (time.perf_counter() - began))
            spans.sort()
            yield f"delivery into a closed INBOX of {rows}", {
                "MAIL, RCPT, DATA p50 ms": round(spans[250], 2),
                "p99 ms": round(spans[495], 2),
            }


def folders(start, key, quick):
    count, asked = (1000, 200) if quick else (5000, 1000)
    with start() as stack:
        client = Client(stack.imap, user(1))
        began = time.monotonic()
        for n in range(count):
            client.command(f"CREATE tree{n // 100}/folder{n}")
        made = time.monotonic() - began
        for n in range(asked):
            client.command(f"APPEND tree{n // 100}/folder{n}", letter(n))
        client.close()
        restarted(stack)
        client = Client(stack.imap, user(1))
        listed, _ = timed(client, 'LIST "" *')
        spans = []
        for _ in range(3):
            began = time.perf_counter()
            for n in range(asked):
                client.send(f"STATUS tree{n // 100}/folder{n} (MESSAGES UNSEEN UIDNEXT)")
                client.answer()
            spans.append(1000 * (time.perf_counter() - began))
        yield f"{count} folders", {
            "CREATE ms": round(1000 * made / count, 2),
            "LIST of all ms": round(listed, 1),
            f"STATUS of {asked} ms, first": round(spans[0], 1),
            f"STATUS of {asked} ms, again": round(min(spans[1:]), 1),
        }


def written(stack, disk):
    """Octets: by the device where it is ours alone, else by the processes."""
    os.sync()
    if disk:
        fields = Path(f"/sys/block/{Path(disk.device).name}/stat").read_text().split()
        return 512 * int(fields[6])
    total = 0
    for pid in stack.group.processes():
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("write_bytes"):
                total += int(line.split()[1])
    return total


@contextmanager
def contents():
    """What letters are cut from, by name: this project's prose, and what an attachment looks like."""
    with tempfile.TemporaryDirectory(prefix="palomar-text-") as folder:
        prose, base64 = Path(folder, "prose"), Path(folder, "base64")
        prose.write_bytes(b"\n".join(p.read_bytes() for p in sorted(Path("docs").rglob("*.md"))))
        base64.write_bytes(encodebytes(random.Random(1).randbytes(1 << 20)))
        yield {"prose": str(prose), "base64": str(base64)}


def writing(start, key, quick):
    """With the journal's slots made before: making one writes zeros, once in its life."""
    cases = [("prose", size, count, owners) for size, count in SIZES for owners in (1, 3)]
    cases += [("base64", size, count, 1) for size, count in SIZES]
    slots = '[store]\njournal_slot_bytes = "32MiB"\n'
    with contents() as texts, start(slots if key == "palomar" else "") as stack:
        roundtrip(stack, 20, 12000, 51200, text=texts["base64"])
        time.sleep(15)
        for content, size, count, owners in cases:
            count = count // 4 if quick else count
            before, cpu = written(stack, start.disk), stack.group.cpu_seconds()
            done = roundtrip(stack, 20, count, size, owners, texts[content])
            time.sleep(15)
            after, cpu = written(stack, start.disk), stack.group.cpu_seconds() - cpu
            owned = f" to {owners} owners" if owners > 1 else ""
            mail = count * size
            yield f"{count} messages of {size} of {content}{owned}", {
                "octets written a received octet": round((after - before) / mail, 2),
                "octets written a stored octet": round((after - before) / mail / owners, 2),
                "messages/s": round(done["visible_per_s"]),
                "CPU ms/message": round(1000 * cpu / count, 3),
            }


def replay(start, key, quick):
    """Killed with its journal nearly full; the log says how fast it was read again."""
    for size, count in ((10240, 8000), (51200, 1600)) if quick else ((10240, 80000), (51200, 18000)):
        slots = 'journal_slots = 10\njournal_slot_bytes = "64MiB"\n'
        with start(f'[store]\n{slots}checkpoint_interval = "10m"\n') as stack:
            roundtrip(stack, 40, count, size)
            seconds = restarted(stack, signal.SIGKILL)
            figures = {"seconds until it serves": round(seconds, 1)}
            for log in stack.folder.rglob("palomar.log"):
                for line in log.read_text(errors="replace").splitlines():
                    if "journal replayed" in line:
                        said = json.loads(line)
                        for name in ("records", "bytes", "ms", "sync_ms", "mb_per_s"):
                            figures[name] = said.get(name, said.get("fields", {}).get(name))
            yield f"start with {count} messages of {size} in the journal", figures


def importing(start, key, quick):
    """Into a running server; only Palomar has the command."""
    if key != "palomar":
        return
    for size, count in ((2048, 100000), (51200, 5000)):
        count //= 10 if quick else 1
        with start('[store]\nquota_default = "0"\n') as stack:
            source = stack.folder / "source"
            for place in ("cur", "new", "tmp"):
                (source / "Maildir" / place).mkdir(parents=True)
            with open(source / "box", "wb") as box:
                for n in range(count):
                    text = f"From: a@example.org\nSubject: {n}\n\n".encode()
                    text += b"%012d\n" % n * ((size - len(text)) // 13)
                    box.write(b"From a@example.org Mon Jan  5 10:11:12 2026\n" + text + b"\n")
                    (source / f"Maildir/cur/{1767607200 + n}.M{n}.h:2,S").write_bytes(text)
            for kind, path in (("mbox", "box"), ("maildir", "Maildir")):
                command = [STACKS["palomar"].binary, "--config", stack.folder / "palomar.toml"]
                command += ["import", kind, "--user", user(1), "--folder", kind, source / path]
                began = time.monotonic()
                subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)
                seconds = time.monotonic() - began
                yield f"import of {count} messages of {size}, {kind}", {
                    "messages/s": round(count / seconds),
                    "MB/s": round(count * size / seconds / 1e6, 1),
                }


class Dovecot(STACKS["peer"]):
    """Without Postfix, where nothing is delivered."""

    name = "Dovecot"

    def serve(self):
        self.start_dovecot()
        self.wait_for(self.imap, b"* OK")

    def home(self, name):
        return self.folder / "users" / name / "Maildir"


def forget_caches():
    """Of this kernel: a virtual machine's host may still have the blocks."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def plant(root, boxes, sources):
    """A Maildir++ tree: `boxes` has folder -> messages, which are links to `sources`."""
    owner = pwd.getpwnam("nobody")
    for box, rows in boxes.items():
        place = root if box == "INBOX" else root / f".{box}"
        for part in ("cur", "new", "tmp"):
            (place / part).mkdir(parents=True, exist_ok=True)
        for n in range(rows):
            source = sources[n % len(sources)]
            size = f"S={source[1]},W={source[1]}"
            flags = "S" if n % 3 else ""
            os.link(source[0], f"{place}/cur/{1767607200 + n}.M{n % 997}P9.mx,{size}:2,{flags}")
        if box != "INBOX":
            (place / "maildirfolder").touch()
        for part in (root.parent, place, *place.iterdir()):
            os.chown(part, owner.pw_uid, owner.pw_gid)


def sowed(folder):
    """1000 files as both find them, each with many names: what is timed reads no message."""
    folder.mkdir(parents=True)
    found = []
    for n in range(1000):
        path = folder / str(n)
        path.write_bytes(letter(n))
        path.chmod(0o644)
        found.append((path, path.stat().st_size))
    return found


def both(start, hold, boxes):
    """Dovecot and Palomar with a tree each, the latter's adopted; and how long that took."""
    stacks = [hold.enter_context(start(kind=kind)) for kind in ("peer", "palomar")]
    sources = sowed(stacks[0].folder.parent / f"sources-{stacks[0].folder.name}")
    for stack, root in zip(stacks, (stacks[0].home(user(1)), stacks[1].folder / "tree/Maildir")):
        plant(root, boxes, sources)
    ended(stacks[1])
    command = [stacks[1].binary, "--config", stacks[1].folder / "palomar.toml", "adopt"]
    command += ["--user", user(1), stacks[1].folder / "tree/Maildir"]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS_MAX)
    adopting = time.monotonic() - began
    stacks[1].serve()
    time.sleep(QUIET_SECONDS)
    return stacks, adopting


def fresh(stack, cold):
    """After a restart, logged in; somebody else's log-in and SELECT have loaded the program."""
    ended(stack)
    if cold:
        forget_caches()
    stack.serve()
    other = Client(stack.imap, user(2))
    other.command("SELECT INBOX")
    other.close()
    return Client(stack.imap, user(1))


def unindexed(stack):
    for path in stack.home(user(1)).glob("dovecot*"):
        path.unlink()


class Spans:
    """Of what each of both took: milliseconds, and those of CPU, which no compiler lengthens."""

    def __init__(self):
        self.found = {}

    def note(self, stack, what, act):
        cpu, began = stack.group.cpu_seconds(), time.perf_counter()
        act()
        took = 1000 * (time.perf_counter() - began)
        self.found.setdefault((stack, f"{what}, ms"), []).append(took)
        cpu = 1000 * (stack.group.cpu_seconds() - cpu)
        self.found.setdefault((stack, f"{what}, CPU ms"), []).append(cpu)

    def medians(self, stack):
        of = lambda whose: whose is stack
        found = {what: values for (whose, what), values in self.found.items() if of(whose)}
        return {what: round(statistics.median(values), 2) for what, values in found.items()}


def reopening(start, quick):
    for rows in (10000, 100000) if quick else (10000, 100000, 1000000):
        with ExitStack() as hold:
            stacks, adopting = both(start, hold, {"INBOX": rows})
            spans = Spans()
            for cold in (False, True):
                reopened(stacks, spans, cold, 1 if rows > 100000 else 3)
            for stack in stacks:
                looked_at(stack, spans, rows)
                ended(stack)
            for stack, key in zip(stacks, ("peer", "palomar")):
                figures = spans.medians(stack) | octets(stack, key, rows)
                if key == "palomar":
                    figures["adopting, every message read, s"] = round(adopting, 1)
                yield key, f"a mailbox of {rows}", figures


def reopened(stacks, spans, cold, unindexed_times):
    def select(stack, what):
        client = fresh(stack, cold)
        what = f"{what}, {'cold' if cold else 'warm'}"
        spans.note(stack, what, lambda: client.command("SELECT INBOX"))
        client.close()

    for _ in range(unindexed_times):
        ended(stacks[0])
        for path in stacks[0].home(user(1)).glob("dovecot*"):
            path.unlink()
        select(stacks[0], "SELECT without an index")
    time.sleep(QUIET_SECONDS)
    for _ in range(5):
        for stack in stacks:
            select(stack, "SELECT after a restart")


def looked_at(stack, spans, rows):
    client = Client(stack.imap, user(1))
    exists = client.command("SELECT INBOX")
    assert b"* %d EXISTS\r\n" % rows in exists, exists
    for _ in range(11):
        client.command("UNSELECT")
        spans.note(stack, "SELECT again", lambda: client.command("SELECT INBOX"))
    items = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
    if rows <= 100000:
        for word in ("first", "again"):
            what = f"FETCH of ENVELOPE and BODYSTRUCTURE, {word}"
            spans.note(stack, what, lambda: client.command(f"FETCH 1:* {items}"))
    client.close()


def octets(stack, key, rows):
    index, cache = ["palomar.index.*", "palomar.log.*"], ["palomar.cache*"]
    if key == "peer":
        index = ["dovecot.index", "dovecot.index.log*", "dovecot-uidlist"]
        cache = ["dovecot.index.cache"]
    return {
        "octets of index a message": round(sizes(stack, index) / rows, 1),
        "octets of cache a message": round(sizes(stack, cache) / rows, 1),
    }


def statuses(start, quick):
    count, rows = (200, 10) if quick else (1000, 10)
    boxes = {"INBOX": 1} | {f"tree{n // 100}.folder{n}": rows for n in range(count)}
    items = "(MESSAGES UNSEEN UIDNEXT)"

    def singly(stack, client):
        # What parts the levels of a Maildir++ is `.` there and `/` here.
        mark = "." if isinstance(stack, Dovecot) else "/"
        for n in range(count):
            client.command(f"STATUS tree{n // 100}{mark}folder{n} {items}")

    def listed(stack, client):
        said = client.command(f'LIST "" tree* RETURN (STATUS {items})')
        assert said.count(b"MESSAGES %d " % rows) == count, said[:500]

    ways = {"STATUS one by one": singly, "LIST-STATUS": listed}
    with ExitStack() as hold:
        stacks, _ = both(start, hold, boxes)
        spans = Spans()

        def ask(stack, what, way, cold):
            client = fresh(stack, cold)
            spans.note(stack, what, lambda: way(stack, client))
            client.close()

        ask(stacks[0], "STATUS one by one, without an index", singly, False)
        time.sleep(QUIET_SECONDS)
        ask(stacks[0], "STATUS one by one, the time after", singly, False)
        for cold in (False, True):
            for _ in range(5):
                for what, way in ways.items():
                    for stack in stacks:
                        ask(stack, f"{what}, {'cold' if cold else 'warm'}", way, cold)
        for stack, key in zip(stacks, ("peer", "palomar")):
            yield key, f"{count} folders of {rows} messages", spans.medians(stack)


def large(start, key, quick):
    """Messages of 20 to 380 KB, so that some come by the journal and some by spool files."""
    count, rest = (4600 if quick else 23000), "Some words in a line of the body.\r\n"
    lengths = [20000 + n * 7919 % 360000 for n in range(count)]
    (port,) = free_ports(1)
    with start(f'[[listener]]\nprotocol = "pop3"\naddress = "127.0.0.1:{port}"\n') as stack:
        client, total, last = Client(stack.imap, user(1)), 0, b""
        began = time.monotonic()
        for n, length in enumerate(lengths):
            last = letter(n) + rest.encode() * (length // len(rest))
            client.command("APPEND INBOX", last)
            total += len(last)
        rate = total / 1e6 / (time.monotonic() - began)
        figures = {"octets sent": total, "APPEND MB/s": round(rate)}
        client.close()
        for when in ("", ", after a restart"):
            if when:
                restarted(stack)
            for what, told in told_sizes(stack, port, count, last).items():
                figures[what + when] = "right" if told == total else told
        yield f"a mailbox of {count} messages, {total / 2**30:.2f} GiB", figures


def told_sizes(stack, port, count, last):
    """Each as octets; the storage of a quota is in units of 1024, rounded up."""
    found, client = {}, Client(stack.imap, user(1))
    status = client.command("STATUS INBOX (MESSAGES SIZE)")
    found["STATUS SIZE"] = int(re.search(rb"SIZE (\d+)", status)[1])
    quota = re.search(rb"STORAGE (\d+) (\d+)", client.command("GETQUOTAROOT INBOX"))
    found["GETQUOTAROOT"] = kibibytes(int(quota[1]), found["STATUS SIZE"])
    client.command("SELECT INBOX")
    sizes = re.findall(rb"RFC822.SIZE (\d+)", client.command("FETCH 1:* RFC822.SIZE"))
    assert len(sizes) == count, len(sizes)
    found["sum of RFC822.SIZE"] = sum(map(int, sizes))
    body = client.command(f"FETCH {count} BODY.PEEK[]")
    assert b"{%d}\r\n%s" % (len(last), last) in body, body[:200]
    client.close()
    with socket.create_connection(("127.0.0.1", port), 60) as pop:
        lines = pop.makefile("rwb")
        for command in ("", f"USER {user(1)}", f"PASS {PASSWORD}", "STAT"):
            if command:
                lines.write(command.encode() + b"\r\n")
                lines.flush()
            said = lines.readline()
            assert said.startswith(b"+OK"), said
        found["POP3 STAT"] = int(said.split()[2])
    for command in (["quota", "show"], ["mailbox", "status"]):
        words = [stack.binary, "--config", stack.folder / "palomar.toml", *command, user(1)]
        told = subprocess.run([*words, "--json"], check=True, capture_output=True, text=True).stdout
        size = found["STATUS SIZE"]
        found[f"palomar {' '.join(command)}"] = size if str(size) in told else told
    return found


def kibibytes(told, octets):
    return octets if told == -(-octets // 1024) else told * 1024


def greeted(stack, *watch):
    """From the start of the process to the first greetings of IMAP and SMTP, in ms."""
    began = time.monotonic()
    stack.start(*watch, stack.binary, "serve", "--config", str(stack.folder / "palomar.toml"))
    for port in (stack.imap, stack.smtp):
        awaited(port, began)
    return 1000 * (time.monotonic() - began)


def awaited(port, began):
    while time.monotonic() < began + SECONDS_MAX:
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as probe:
                if probe.recv(100).startswith((b"* OK", b"220")):
                    return
        except OSError:
            pass
        time.sleep(0.002)
    raise RuntimeError(f"nobody answers on port {port}")


def peopled(stack, people):
    """Accounts with a hash of little cost: one of 20 with a tree of 4 folders that is adopted
    (two checkpoints each), and all with what is delivered into their INBOX."""
    names = [f"person{n:05}@{DOMAIN}" for n in range(people)]
    words = ["openssl", "passwd", "-6", PASSWORD]
    crypt = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    rows = stack.folder / "passwd"
    rows.write_text("".join(f"{name}:{{SHA512-CRYPT}}{crypt}::::::\n" for name in names))
    boxes = {"INBOX": 5} | {f"folder{n}": 2 for n in range(3)}
    sources = sowed(stack.folder / "sources")
    for name in names[::20]:
        plant(stack.folder / "trees" / name / "Maildir", boxes, sources)
    ended(stack)
    command = [stack.binary, "--config", stack.folder / "palomar.toml"]
    adopt = ["adopt", "--all", "--pattern", stack.folder / "trees/%u/Maildir"]
    for words in (["user", "import", rows], adopt):
        began = time.monotonic()
        done = subprocess.run(command + words, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        seconds = time.monotonic() - began
    stack.serve()
    for n in range(5):
        to_everybody(stack, names, n)
    ended(stack)
    return names, seconds


def to_everybody(stack, names, n):
    with smtplib.SMTP("127.0.0.1", stack.smtp) as smtp:
        for at in range(0, len(names), 50):
            smtp.sendmail(f"a@{DOMAIN}", names[at : at + 50], letter(n))
    # What is handed over to its owners after the answer would be work for the next start.
    left = ("palomar_store_outbox_waiting", "palomar_store_unsettled")
    while any(v for name, v in stack.counters().items() if name.startswith(left)):
        time.sleep(0.5)


def opened(stack, rest=0):
    """A start under strace, killed at its greeting or later: files opened below mail/."""
    trace = stack.folder / "trace"
    calls = "trace=open,openat,openat2,io_uring_setup"
    greeted(stack, "strace", "-f", "-qq", "-y", "-e", calls, "-o", str(trace))
    time.sleep(rest)
    for pid in stack.group.processes():
        if Path(f"/proc/{pid}/comm").read_text() == "palomar\n":
            os.kill(pid, signal.SIGKILL)
    for child in stack.children:
        child.wait()
    stack.children = []
    lines = [line for line in trace.read_text(errors="replace").splitlines() if "open" in line]
    return len(lines), sum("/data/mail/" in line for line in lines)


def starting(start, quick):
    people = 1000 if quick else 10000
    with start(kind="peer") as stack:
        spans = []
        for _ in range(5):
            ended(stack)
            began = time.monotonic()
            stack.start_dovecot()
            awaited(stack.imap, began)
            spans.append(1000 * (time.monotonic() - began))
        found = {"ms until the greeting, after a clean stop": round(statistics.median(spans))}
        resident, proportional = stack.group.memory_bytes()
        found["MiB (PSS) after the start"] = round(proportional / 2**20, 1)
        yield "peer", f"start with {people} accounts", found
    with start('[store]\ncheckpoint_interval = "10m"\n', kind="palomar") as stack:
        ended(stack)
        found = {f"files opened until the greeting, {USERS} accounts": opened(stack)[0]}
        stack.serve()
        names, adopting = peopled(stack, people)
        found["adopting an account, ms"] = round(1000 * adopting / (people // 20))

        def measure(what, how, cold=False, before=None):
            spans = []
            for _ in range(3):
                if before:
                    before()
                ended(stack, how)
                if cold:
                    forget_caches()
                spans.append(greeted(stack))
            found[f"ms until the greeting, {what}"] = round(statistics.median(spans))
            (pid,) = stack.group.processes()
            if cold:
                said = re.search(r"read_bytes: (\d+)", Path(f"/proc/{pid}/io").read_text())
                found["MiB read from the disk until then"] = round(int(said[1]) / 2**20, 1)
            if how == signal.SIGTERM and not cold:
                found["MiB (PSS) after the start"] = round(stack.group.memory_bytes()[1] / 2**20, 1)

        greeted(stack)
        measure("after a clean stop", signal.SIGTERM)
        measure("after a clean stop, cold", signal.SIGTERM, cold=True)
        measure("after kill -9", signal.SIGKILL)
        mail = lambda: to_everybody(stack, names, 9)
        measure("after kill -9, a new message each", signal.SIGKILL, before=mail)
        ended(stack)
        for word, rest in (("until the greeting", 0), ("and 30 s more", 30)):
            files, mail = opened(stack, rest)
            found |= {f"files opened {word}": files, f"of these below mail/ {word}": mail}
        yield "palomar", f"start with {people} accounts", found


ALONE = (checkpoint, opening, delivering, folders, writing, replay, importing, large)
SCENARIOS = {f.__name__: f for f in ALONE}
BESIDE = {f.__name__: f for f in (reopening, statuses, starting)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", action="append", choices=SCENARIOS | BESIDE)
    parser.add_argument("--stack", action="append", choices=STACKS)
    parser.add_argument("--palomar", default=STACKS["palomar"].binary, help="the server's binary")
    parser.add_argument("--loop", action="store_true", help="on a journaled ext4 of its own; root")
    parser.add_argument("--folder", help="where data lies; not a tmpfs")
    parser.add_argument("--out", help="append the JSON lines to this file")
    options = parser.parse_args()
    STACKS["palomar"].binary = str(Path(options.palomar).resolve())
    os.chdir(Path(__file__).resolve().parents[2])

    found = []

    def put(name, key, scenario, figures):
        row = {"stack": key, "scenario": scenario, "figures": figures}
        row |= {"beside": name in BESIDE, "load1": os.getloadavg()[0]}
        found.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            with open(options.out, "a") as out:
                out.write(json.dumps(row) + "\n")

    def starter(place, disk, name, key):
        number = iter(range(100))

        def start(settings="", kind=key):
            label = f"{kind}-{name}-{next(number)}"
            made = Dovecot if name in BESIDE and kind == "peer" else STACKS[kind]
            stack = made(Path(place, label), Group(label))
            stack.settings = settings
            return stack

        start.disk = disk
        return start

    def play(place, disk=None):
        everything = SCENARIOS | (BESIDE if os.getuid() == 0 else {})
        for name in options.only or everything:
            if name in BESIDE:
                for row in BESIDE[name](starter(place, disk, name, None), options.quick):
                    put(name, *row)
            for key in [] if name in BESIDE else options.stack or ["palomar"]:
                for row in SCENARIOS[name](starter(place, disk, name, key), key, options.quick):
                    put(name, key, *row)

    with tempfile.TemporaryDirectory(prefix="palomar-store-", dir=options.folder) as folder:
        Path(folder).chmod(0o755)
        with Tracing():
            if options.loop:
                with LoopDisk(Path(folder, "loop"), 20) as disk:
                    play(disk.folder, disk)
            else:
                play(folder)
    beside = [row for row in found if row["beside"]]
    if beside:
        print(f"\n{table(beside, Dovecot.name)}")


if __name__ == "__main__":
    main()
