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
"""

import argparse
import json
import os
import random
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from base64 import encodebytes
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from client import Client
from compare import letter, timed
from meter import Group, LoopDisk, Tracing
from stacks import DOMAIN, PASSWORD, STACKS, USERS, user

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


def restarted(stack, how=signal.SIGTERM):
    """Ends the server and starts it again; answers the seconds until it serves."""
    for child in stack.children:
        child.send_signal(how)
    for child in stack.children:
        child.wait()
    stack.children = []
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


SCENARIOS = {f.__name__: f for f in (checkpoint, opening, delivering, folders, writing, replay, importing)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    parser.add_argument("--stack", action="append", choices=STACKS)
    parser.add_argument("--palomar", default=STACKS["palomar"].binary, help="the server's binary")
    parser.add_argument("--loop", action="store_true", help="on a journaled ext4 of its own; root")
    parser.add_argument("--folder", help="where data lies; not a tmpfs")
    parser.add_argument("--out", help="append the JSON lines to this file")
    options = parser.parse_args()
    STACKS["palomar"].binary = str(Path(options.palomar).resolve())
    os.chdir(Path(__file__).resolve().parents[2])

    def play(place, disk=None):
        for name in options.only or SCENARIOS:
            for key in options.stack or ["palomar"]:
                number = iter(range(100))

                def start(settings=""):
                    label = f"{key}-{name}-{next(number)}"
                    stack = STACKS[key](Path(place, label), Group(label))
                    stack.settings = settings
                    return stack

                start.disk = disk

                for scenario, figures in SCENARIOS[name](start, key, options.quick):
                    row = {"stack": key, "scenario": scenario, "figures": figures}
                    row |= {"load1": os.getloadavg()[0]}
                    print(json.dumps(row), flush=True)
                    if options.out:
                        with open(options.out, "a") as out:
                            out.write(json.dumps(row) + "\n")

    with tempfile.TemporaryDirectory(prefix="palomar-store-", dir=options.folder) as folder:
        Path(folder).chmod(0o755)
        with Tracing():
            if options.loop:
                with LoopDisk(Path(folder, "loop"), 20) as disk:
                    play(disk.folder, disk)
            else:
                play(folder)


if __name__ == "__main__":
    main()
