#!/usr/bin/env python3
"""Palomar beside Postfix and Dovecot: the same drivers, in turn, in one run.

    loadtest/compare/compare.py [--quick] [--only SCENARIO] [--stack NAME] [--loop] [--out FILE]

Needs Debian's postfix, dovecot-imapd and dovecot-lmtpd, `cargo build --release --workspace`, and
root for the peer and for exact counts (see meter.py). Everything listens on loopback and lies in
a folder of its own, which goes away with the run. Prints one JSON line a figure and, at the end,
a table with ratios (`docs/PERFORMANCE.md` has one).

Scenarios:
  delivery   4 KB messages over 1, 20 and 100 SMTP connections, until visible by IMAP
  login      log-ins over TLS, 20 at a time
  idle       2000 IMAPS connections in IDLE: memory of each, CPU of all
  select     SELECT of a mailbox of 100,000, warm
  fetch      FETCH 1:* of 10,000: (UID FLAGS), ENVELOPE
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from client import Client
from meter import Group, LoopDisk, Meter, Tracing
from stacks import DOMAIN, PASSWORD, STACKS, USERS, user

DRIVER = "target/release/palomar-load"
SCENARIO_SECONDS_MAX = 300
# Dovecot reads a Maildir again while it may have changed in the same second; we settle files.
QUIET_SECONDS = 12
# Messages of a run, so that each lasts some seconds.
COUNTS = {"peer": {1: 600, 20: 3000, 100: 3000}, "palomar": {1: 3000, 20: 30000, 100: 30000}}


def per(meter, name, count):
    return round(meter.found[name] / count, 4) if name in meter.found else None


def delivery(stack, key, quick):
    for sessions, count in COUNTS[key].items():
        count //= 3 if quick else 1
        yield deliver(stack, sessions, count)


def deliver(stack, sessions, count, size=4096):
    command = [DRIVER, "roundtrip", "--json", "--hold", "--password", PASSWORD, "--domain", DOMAIN]
    command += ["--smtp", f"127.0.0.1:{stack.smtp}", "--imap", f"127.0.0.1:{stack.imap}"]
    command += ["--users", str(USERS), "--sessions", str(sessions), "--count", str(count)]
    command += ["--size", str(size)]
    driver = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = threading.Timer(SCENARIO_SECONDS_MAX, driver.kill)
    watch.start()
    try:
        if driver.stdout.readline() != "ready\n":
            raise RuntimeError(driver.stderr.read())
        with Meter(stack) as meter:
            driver.stdin.write("\n")
            driver.stdin.flush()
            line = driver.stdout.readline()
    finally:
        watch.cancel()
        if not driver.stdout.read() and driver.wait() != 0:
            raise RuntimeError(driver.stderr.read())
    said = json.loads(line)
    plural = "s" if sessions > 1 else ""
    return f"delivery, {sessions} connection{plural}", {
        "messages/s visible": round(said["visible_per_s"]),
        "messages/s accepted": round(said["accepted_per_s"]),
        "250 p50 ms": said["p50_ms"],
        "250 p99 ms": said["p99_ms"],
        "CPU ms/message": per_ms(meter, count),
        "syncs/message": per(meter, "syncs", count),
        "context switches/message": per(meter, "switches", count),
    }


def per_ms(meter, count):
    return round(1000 * meter.found["cpu_s"] / count, 3)


def login_worker(port, names, seconds, answers):
    """One process of several threads; puts the number of log-ins and the latencies."""
    spans, failures = [], []

    def loop(name):
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                began = time.monotonic()
                client = Client(port, name, tls=True)
                client.command("LOGOUT")
                client.close()
                spans.append(time.monotonic() - began)
        except (OSError, EOFError, RuntimeError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=loop, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((spans, failures))


def login(stack, key, quick):
    seconds, names = (3 if quick else 8), [user(n) for n in range(20)]
    for name in names:
        Client(stack.imaps, name, tls=True).close()
    answers = multiprocessing.Queue()
    halves = [names[:10], names[10:]]
    with Meter(stack) as meter:
        workers = [
            multiprocessing.Process(target=login_worker, args=(stack.imaps, half, seconds, answers))
            for half in halves
        ]
        for worker in workers:
            worker.start()
        got = [answers.get(timeout=SCENARIO_SECONDS_MAX) for _ in workers]
        for worker in workers:
            worker.join()
    spans = [span for spans, _ in got for span in spans]
    failures = [failure for _, failures in got for failure in failures]
    if failures:
        raise RuntimeError(f"{len(failures)} log-ins failed: {failures[0]}")
    yield "log-in over TLS, 20 at a time", {
        "log-ins/s": round(len(spans) / meter.found["seconds"]),
        "CPU ms/log-in": per_ms(meter, len(spans)),
        "p50 ms": round(1000 * statistics.median(spans), 2),
    }


def open_idle(port, count, parallel=8):
    """Connections that are logged in, have INBOX selected and are in IDLE."""
    found, failures, numbers = [], [], iter(range(count))

    def loop():
        for n in numbers:
            try:
                client = Client(port, user(n % USERS), tls=True)
                client.command("SELECT INBOX")
                client.idle()
                found.append(client)
            except (OSError, EOFError, RuntimeError) as error:
                failures.append(repr(error))
                return

    threads = [threading.Thread(target=loop) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"opened {len(found)} of {count}: {failures[0]}")
    return found


def idle(stack, key, quick):
    """In ten steps, and the median of their growth: what a server gives back or takes once, such
    as room for hashing passwords, is in few of the steps and so in none of the figures."""
    step = 60 if quick else 200
    # Everybody once, so that what is made per account or on first use is there.
    for client in open_idle(stack.imaps, USERS):
        client.close()
    time.sleep(3)
    held, sizes = [], [stack.group.memory_bytes()]
    for _ in range(10):
        held += open_idle(stack.imaps, step)
        time.sleep(2)
        sizes.append(stack.group.memory_bytes())
    with Meter(stack) as meter:
        time.sleep(10)
    for client in held:
        client.close()

    def growth(which):
        steps = [after[which] - before[which] for before, after in zip(sizes, sizes[1:])]
        return round(statistics.median(steps) / step / 1024, 1)

    yield f"{10 * step} idle IMAPS connections", {
        "KiB/connection (PSS)": growth(1),
        "KiB/connection (RSS)": growth(0),
        "MiB in all (PSS)": round(sizes[-1][1] / (1 << 20), 1),
        "CPU % while idle": round(100 * meter.found["cpu_s"] / meter.found["seconds"], 2),
        "context switches/s": round(meter.found.get("switches", 0) / meter.found["seconds"], 1),
    }


def letter(n):
    """Small, with a header like any other."""
    return (
        f"From: Sender {n % 97} <sender{n % 97}@src.test>\r\nTo: {user(0)}\r\n"
        f"Subject: message {n} about topic {n % 50}\r\nMessage-ID: <{n}@src.test>\r\n"
        f"Date: Sat, 21 Nov 2026 12:{n // 60 % 60:02}:{n % 60:02} +0000\r\n"
        f"References: <{n - 1}@src.test>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        + "Some words in a line of the body.\r\n" * 12
    ).encode()


def fill(stack, name, box, count):
    """1000 by APPEND, the rest as copies of them."""
    client = Client(stack.imap, name)
    client.command(f"CREATE {box}")
    base = min(1000, count)
    for n in range(base):
        client.command(f"APPEND {box} (\\Seen)" if n % 3 else f"APPEND {box}", letter(n))
    client.command(f"SELECT {box}")
    for _ in range(count // base - 1):
        client.command(f"COPY 1:{base} {box}")
    client.close()
    time.sleep(QUIET_SECONDS)
    return Client(stack.imap, name)


def timed(client, command):
    began = time.perf_counter()
    data = client.command(command)
    return 1000 * (time.perf_counter() - began), len(data)


def select(stack, key, quick):
    count = 10000 if quick else 100000
    client = fill(stack, user(1), "Huge", count)
    spans = []
    with Meter(stack) as meter:
        for _ in range(21):
            spans.append(timed(client, "SELECT Huge")[0])
            client.command("UNSELECT")
    client.close()
    yield f"SELECT of {count}", {
        "ms, first": round(spans[0], 2),
        "ms, p50 of 20": round(statistics.median(spans[1:]), 2),
        "CPU ms": per_ms(meter, len(spans)),
    }


def fetch(stack, key, quick):
    count = 2000 if quick else 10000
    client = fill(stack, user(2), "Big", count)
    client.command("SELECT Big")
    for items in ("(UID FLAGS)", "ENVELOPE"):
        spans, size = [], 0
        with Meter(stack) as meter:
            for _ in range(6):
                span, size = timed(client, f"FETCH 1:* {items}")
                spans.append(span)
        yield f"FETCH 1:* {items} of {count}", {
            "ms, first": round(spans[0], 1),
            "ms, p50 of 5": round(statistics.median(spans[1:]), 2),
            "CPU ms": per_ms(meter, len(spans)),
            "bytes": size,
        }
    client.close()


SCENARIOS = {f.__name__: f for f in (delivery, login, idle, select, fetch)}


def table(found, peer_name="Postfix + Dovecot"):
    """Markdown: one row a figure, the ratio last."""
    rows = {}
    for row in found:
        for name, value in row["figures"].items():
            if value is not None:
                rows.setdefault((row["scenario"], name), {})[row["stack"]] = value
    lines = [f"| | | {peer_name} | Palomar | Palomar to peer |", "|---|---|---|---|---|"]
    for (scenario, name), values in rows.items():
        peer, ours = values.get("peer"), values.get("palomar")
        ratio = f"{ours / peer:.3g}" if peer and ours is not None else ""
        cells = [("" if value is None else f"{value}") for value in (peer, ours)]
        lines.append(f"| {scenario} | {name} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(lines)


def play(key, options, place, put):
    """All wanted scenarios on one stack, each on a fresh instance."""
    for name in options.only or SCENARIOS:
        folder = place / f"{key}-{name}"
        group = Group(f"{key}-{name}")
        try:
            with STACKS[key](folder, group) as stack:
                for scenario, figures in SCENARIOS[name](stack, key, options.quick):
                    put({"stack": key, "scenario": scenario, "figures": figures})
        finally:
            group.end_rest()
        subprocess.run(["rm", "-rf", str(folder)], check=True)


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
    parser.add_argument("--markdown", help="write the table to this file")
    options = parser.parse_args()
    STACKS["palomar"].binary = options.palomar
    os.chdir(Path(__file__).resolve().parents[2])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = []

    def put(row):
        row |= {"disk": "loop ext4" if options.loop else "as is", "quick": options.quick}
        row |= {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        row |= {"cores": os.cpu_count(), "kernel": platform.release(), "load1": os.getloadavg()[0]}
        found.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            with open(options.out, "a") as out:
                out.write(json.dumps(row) + "\n")

    keys = options.stack or (list(STACKS) if os.getuid() == 0 else ["palomar"])
    if "peer" in keys and os.getuid() != 0:
        sys.exit("Postfix wants root; --stack palomar runs without")
    with tempfile.TemporaryDirectory(prefix="palomar-compare-", dir=options.folder) as folder:
        Path(folder).chmod(0o755)
        with Tracing():
            if options.loop:
                with LoopDisk(Path(folder, "loop")) as disk:
                    for key in keys:
                        play(key, options, disk.folder, put)
            else:
                for key in keys:
                    play(key, options, Path(folder), put)
    text = table(found)
    print(f"\n{text}")
    if options.markdown:
        Path(options.markdown).write_text(text + "\n")


if __name__ == "__main__":
    main()
