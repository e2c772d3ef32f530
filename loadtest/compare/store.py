#!/usr/bin/env python3
"""What the store costs and how it holds its size: figures of Palomar alone or beside Dovecot.

    loadtest/compare/store.py [--only SCENARIO] [--stack NAME] [--loop] [--out FILE]

As `compare.py` (which has what both share), with scenarios of the store.

Scenarios:
  checkpoint  250 p50/p99 at 1, 20, 100 connections: checkpoints every 2 s against none
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from meter import Group, LoopDisk, Tracing
from stacks import DOMAIN, PASSWORD, STACKS, USERS

DRIVER = "target/release/palomar-load"
SECONDS_MAX = 600


def roundtrip(stack, sessions, count, size=4096):
    command = [DRIVER, "roundtrip", "--json", "--password", PASSWORD, "--domain", DOMAIN]
    command += ["--smtp", f"127.0.0.1:{stack.smtp}", "--imap", f"127.0.0.1:{stack.imap}"]
    command += ["--users", str(USERS), "--sessions", str(sessions), "--count", str(count)]
    command += ["--size", str(size)]
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


SCENARIOS = {f.__name__: f for f in (checkpoint,)}


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

    def play(place):
        for name in options.only or SCENARIOS:
            for key in options.stack or ["palomar"]:
                number = iter(range(100))

                def start(settings=""):
                    label = f"{key}-{name}-{next(number)}"
                    stack = STACKS[key](Path(place, label), Group(label))
                    stack.settings = settings
                    return stack

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
                    play(disk.folder)
            else:
                play(folder)


if __name__ == "__main__":
    main()
