#!/usr/bin/env python3
"""The way out, Palomar beside Postfix: messages that wait in the queue are let go, to Debian's
smtp-sink, at 1, 100 and 1,000 destinations.

    loadtest/compare/way_out.py [--count N] [--quick] [--rounds N] [--destinations N]... [--loop]

Needs Debian's postfix and `cargo build --release`, and root for Postfix and for exact counts (see
meter.py). Each run has a fresh instance in a folder of its own, on loopback:

  1. Filled over 20 SMTP connections, destinations in turn. Nothing leaves: Postfix has no qmgr
     then, and for Palomar nobody listens at the hops.
  2. Stopped, and started anew with a sink there. So what waits is in files, as it is after hours.
  3. Measured from the first message at the sink until all are there and none is in the queue,
     which for Palomar means that every outcome is durable.

`--loop` is what the figures are taken with: an ext4 without a journal looks long for an inode that
was not freed a moment ago, and each run frees many.

Each destination is a domain with a hop of its own (127.1.x.y, all of them the same sink), so that
both servers' limits for each count. The two take turns; figures are medians of the rounds. One
JSON line a run and, at the end, a table with ratios.
"""

import argparse
import json
import multiprocessing
import os
import pwd
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from meter import Group, LoopDisk, Meter, Tracing
from stacks import BASE_CF, MASTER_CF, Stack, free_ports

SINK = "/usr/sbin/smtp-sink"
SESSIONS = 20
RUN_SECONDS_MAX = 3600
STEP_SECONDS = 0.05
MEMORY_EVERY_SECONDS = 2

# Postfix's own defaults but for what is said here: all deliveries of a destination from the start,
# no waits, all of the queue active. Its connection cache is as it is by default: on demand.
# docs/PERFORMANCE.md has what other limits came to.
OUT_MAIN_CF = BASE_CF + """\
transport_maps = texthash:{folder}/etc/transport
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtp_tls_security_level = none
default_process_limit = {processes}
default_destination_concurrency_limit = {each}
initial_destination_concurrency = {each}
in_flow_delay = 0
qmgr_message_active_limit = 200000
qmgr_message_recipient_limit = 200000
"""
OUT_MASTER_CF = MASTER_CF + "smtp unix - - n - - smtp\n"

# Its defaults but for `connections_per_destination_max`, which is 10, and what is not tried in vain
# while the queue is filled.
PALOMAR = """
hostname = "mx.out.test"
domains = ["out.test"]
data_dir = "{folder}/data"
[limits]
connections_per_address_max = 100000
[smtp.relay]
relay_trusted = true
[queue]
retry = ["1s"]
pause = "1h"
pause_max = "1h"
connections_per_destination_max = {each}
{settings}
[[listener]]
protocol = "smtp"
address = "127.0.0.1:{smtp}"
[[listener]]
protocol = "metrics"
address = "127.0.0.1:{metrics}"
"""


def address(n):
    """Of the hop of one destination."""
    return f"127.1.{n // 250}.{n % 250 + 1}"


class Way(Stack):
    """A server whose mail for d0.test, d1.test and so on leaves for the sink."""

    def __init__(self, folder, group, destinations, options):
        super().__init__(folder, group)
        self.destinations, self.options = destinations, options
        [self.sink] = free_ports(1)

    def __enter__(self):
        return self


class Postfix(Way):
    name = "Postfix"

    def configure(self, is_out):
        etc = self.folder / "etc"
        for name in ("etc", "queue", "data"):
            (self.folder / name).mkdir(exist_ok=True)
        os.chown(self.folder / "data", pwd.getpwnam("postfix").pw_uid, 0)
        main = OUT_MAIN_CF.format(folder=self.folder, domain="out.test",
                                  processes=self.options.processes, each=self.options.each)
        (etc / "main.cf").write_text(main)
        master = OUT_MASTER_CF.format(smtp=self.smtp)
        if not is_out:
            master = re.sub(r"(?m)^qmgr .*\n", "", master)
        (etc / "master.cf").write_text(master)
        hops = (f"d{n}.test smtp:[{address(n)}]:{self.sink}\n" for n in range(self.destinations))
        (etc / "transport").write_text("".join(hops))

    def serve(self, is_out):
        self.configure(is_out)
        self.start("/usr/sbin/postfix", "-c", str(self.folder / "etc"), "start-fg")
        self.wait_for(self.smtp, b"220")

    def end(self):
        command = ["/usr/sbin/postfix", "-c", str(self.folder / "etc"), "stop"]
        subprocess.run(command, capture_output=True, check=True)
        self.children.pop().wait(60)

    def waiting(self):
        folders = [self.folder / "queue" / name for name in ("incoming", "active", "deferred")]
        return sum(len(files) for folder in folders for _, _, files in os.walk(folder))

    def syncs(self):
        """Not counted by itself."""
        return None


class Palomar(Way):
    name = "Palomar"

    def configure(self, is_out):
        routes = (f'[[route]]\ndomain = "d{n}.test"\nhop = "{address(n)}:{self.sink}"\n'
                  for n in range(self.destinations))
        text = PALOMAR.format(folder=self.folder, smtp=self.smtp, metrics=self.metrics,
                              each=self.options.each, settings="\n".join(self.options.setting))
        (self.folder / "palomar.toml").write_text(text + "".join(routes))

    def serve(self, is_out):
        self.configure(is_out)
        config = str(self.folder / "palomar.toml")
        self.start(self.options.palomar, "serve", "--config", config)
        self.wait_for(self.smtp, b"220")

    def end(self):
        child = self.children.pop()
        child.terminate()
        assert child.wait(120) == 0, (self.folder / "words").read_text()[-3000:]

    def counter(self, name):
        with socket.create_connection(("127.0.0.1", self.metrics), 10) as page:
            page.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            text = b"".join(iter(lambda: page.recv(65536), b"")).decode()
        found = re.findall(rf"(?m)^palomar_{name}(?:{{[^}}]*}})? (\S+)$", text)
        return sum(map(float, found))

    def waiting(self):
        return self.counter("queue_rows")

    def syncs(self):
        return None


STACKS = {"peer": Postfix, "palomar": Palomar}


class Sink:
    """smtp-sink on all addresses. Its count of messages is the last line of its output."""

    def __init__(self, folder, port):
        self.words = open(folder / "sink", "wb+")
        self.child = subprocess.Popen(
            [SINK, "-u", "nobody", "-c", "-m", "5000", f":{port}", "1000"],
            stdout=self.words, stderr=self.words)

    def counts(self):
        """Sessions that ended, and messages."""
        size = os.fstat(self.words.fileno()).st_size
        tail = os.pread(self.words.fileno(), 200, max(0, size - 200)).decode(errors="replace")
        found = re.findall(r"sess=(\d+) quit=\d+ mesg=(\d+)\r", tail)
        return tuple(map(int, found[-1])) if found else (0, 0)

    def end(self):
        self.child.terminate()
        self.child.wait()
        self.words.close()


def letter(n, size):
    head = (f"From: Sender <s{n % 50}@out.test>\r\nTo: somebody\r\nSubject: message {n}\r\n"
            f"Message-ID: <{n}@out.test>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\n")
    line = "Some words in a line of the body.\r\n"
    return (head + line * ((size - len(head)) // len(line))).encode()


def fill_part(port, numbers, destinations, size, answers):
    """Half of the connections, a thread each."""
    def loop(mine):
        with socket.create_connection(("127.0.0.1", port), 60) as hop:
            replies = hop.makefile("rb")

            def ask(text, count, code):
                hop.sendall(text)
                for _ in range(count):
                    while (line := replies.readline())[3:4] == b"-":
                        pass
                    if not line.startswith(code):
                        raise RuntimeError(f"{line!r} to {text[:100]!r}")
            ask(b"", 1, b"220")
            ask(b"EHLO load.test\r\n", 1, b"250")
            for n in mine:
                hop.sendall(f"MAIL FROM:<s{n % 50}@out.test>\r\nRCPT TO:"
                            f"<u{n}@d{n % destinations}.test>\r\nDATA\r\n".encode())
                ask(b"", 2, b"250")
                ask(b"", 1, b"354")
                ask(letter(n, size) + b".\r\n", 1, b"250")
            ask(b"QUIT\r\n", 1, b"221")

    failures = []

    def guarded(mine):
        try:
            loop(mine)
        except (OSError, RuntimeError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(numbers[k::SESSIONS // 2],))
               for k in range(SESSIONS // 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(failures)


def fill(stack, count, size):
    answers = multiprocessing.Queue()
    parts = [multiprocessing.Process(
        target=fill_part,
        args=(stack.smtp, range(k, count, 2), stack.destinations, size, answers))
        for k in range(2)]
    for part in parts:
        part.start()
    failures = sum((answers.get(timeout=RUN_SECONDS_MAX) for _ in parts), [])
    for part in parts:
        part.join()
    if failures:
        raise RuntimeError(f"filling: {failures[0]}")


def run(stack, count, size):
    """One queue, filled and let go: its figures."""
    stack.serve(is_out=False)
    fill(stack, count, size)
    stack.end()
    sink = Sink(stack.folder, stack.sink)
    try:
        with Meter(stack) as meter:
            began = time.monotonic()
            stack.serve(is_out=True)
            found = let_go(stack, sink, count, began)
        # What was kept open ends with the server, and only then counts.
        stack.end()
        sessions, messages = sink.counts()
    finally:
        sink.end()
    # Twice would be a fault of either.
    assert messages == count, (messages, count)
    cpu = 1000 * meter.found["cpu_s"] / count
    return {
        "messages/s": round((count - found["first"]) / found["seconds"]),
        "CPU s/1,000 messages": round(cpu, 3),
        "syncs/message": per(meter, "syncs", count),
        "context switches/message": per(meter, "switches", count),
        "messages/connection": round(count / sessions, 1),
        "MiB at the first message (PSS)": found["memory"][0],
        "MiB at most (PSS)": max(found["memory"]),
        "s from the start to the first message": round(found["start"], 2),
    }


def per(meter, name, count):
    return round(meter.found[name] / count, 3) if name in meter.found else None


def let_go(stack, sink, count, began):
    """Waits until all is at the sink and nothing in the queue."""
    first = since = None
    memory, memory_at = [], 0
    while True:
        now = time.monotonic()
        if now - began > RUN_SECONDS_MAX:
            raise RuntimeError(f"{sink.counts()} of {count} within {RUN_SECONDS_MAX} s")
        _, messages = sink.counts()
        if messages and first is None:
            first, since = messages, now
        if first is not None and now >= memory_at:
            memory.append(round(stack.group.memory_bytes()[1] / (1 << 20), 1))
            memory_at = time.monotonic() + MEMORY_EVERY_SECONDS
        if messages >= count and stack.waiting() == 0:
            break
        time.sleep(STEP_SECONDS)
    seconds = time.monotonic() - since
    return {"first": first, "seconds": seconds, "start": since - began, "memory": memory}


def table(rows):
    """Markdown: a row for each figure of each number of destinations, medians and their ratio."""
    cells = {}
    for row in rows:
        for name, value in row["figures"].items():
            if value is not None:
                of = cells.setdefault((row["scenario"], name), {})
                of.setdefault(row["stack"], []).append(value)
    lines = ["| | | Postfix | Palomar | Palomar to Postfix |", "|---|---|---|---|---|"]
    for (scenario, name), of in cells.items():
        peer, ours = (statistics.median(of[key]) if key in of else None
                      for key in ("peer", "palomar"))
        ratio = f"{ours / peer:.2g}" if peer and ours is not None else ""
        shown = ["" if value is None else f"{value:g}" for value in (peer, ours)]
        lines.append(f"| {scenario} | {name} | {shown[0]} | {shown[1]} | {ratio} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1024, help="octets of a message")
    parser.add_argument("--quick", action="store_true", help="5,000 messages, one round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--destinations", type=int, action="append")
    parser.add_argument("--stack", action="append", choices=STACKS)
    parser.add_argument("--palomar", default="target/release/palomar", help="the server's binary")
    parser.add_argument("--setting", action="append", default=[], help="a line of [queue]")
    parser.add_argument("--each", type=int, default=20, help="deliveries at a time, to a destination")
    parser.add_argument("--processes", type=int, default=100, help="Postfix: at most of a kind")
    parser.add_argument("--loop", action="store_true", help="on a journaled ext4 of its own; root")
    parser.add_argument("--folder", help="where data lies; not a tmpfs")
    parser.add_argument("--out", help="append the JSON lines to this file")
    parser.add_argument("--markdown", help="write the table to this file")
    options = parser.parse_args()
    os.chdir(Path(__file__).resolve().parents[2])
    if options.quick:
        options.count, options.rounds = 5_000, 1
    if os.getuid() != 0:
        sys.exit("smtp-sink and Postfix want root")
    found = []

    def play(place):
        for each in range(options.rounds):
            for destinations in options.destinations or [1, 100, 1000]:
                for key in options.stack or STACKS:
                    folder = place / f"{key}-{destinations}-{each}"
                    group = Group(f"{key}-{destinations}-{each}")
                    try:
                        with STACKS[key](folder, group, destinations, options) as stack:
                            figures = run(stack, options.count, options.size)
                    finally:
                        group.end_rest()
                        shutil.rmtree(folder, ignore_errors=True)
                    put(key, destinations, figures)

    def put(key, destinations, figures):
        plural = "s" if destinations > 1 else ""
        row = {"stack": key, "scenario": f"{destinations} destination{plural}"}
        row |= {"count": options.count, "size": options.size, "figures": figures}
        row |= {"load1": os.getloadavg()[0]}
        found.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            with open(options.out, "a") as out:
                out.write(json.dumps(row) + "\n")

    with tempfile.TemporaryDirectory(prefix="palomar-way-out-", dir=options.folder) as folder:
        Path(folder).chmod(0o755)
        with Tracing():
            if options.loop:
                with LoopDisk(Path(folder, "loop"), 10) as disk:
                    play(disk.folder)
            else:
                play(Path(folder))
    text = table(found)
    print(f"\n{text}")
    if options.markdown:
        Path(options.markdown).write_text(text + "\n")


if __name__ == "__main__":
    main()
