#!/usr/bin/env python3
"""Postfix's smtp-sink as the next hop, in each of its moods: without PIPELINING, without ESMTP, in
LMTP, refusing or hanging up at one step; each letter compared octet for octet. It gives up root
itself: without root, or without Debian's postfix, all is skipped.

    tests/queue/smtp_sink.py PALOMAR

Ends with `N passed, M failed`.
"""

import os
import pwd
import random
import socket
import sys
import time
from pathlib import Path

from letters import LETTERS, compare, send_all
from way_out import SECONDS_MAX, Site, letter, name_of

from stage.score import Score
from stage.servers import Server, free_port, own

PROGRAM = "/usr/sbin/smtp-sink"
DOMAIN = "sink.test"
FEW = 20
# Each with the letters that it is given. Whatever it offers or not, they arrive as they were.
MANNERS = [
    ("as it is", [], LETTERS),
    ("without PIPELINING", ["-p"], FEW),
    ("without ESMTP", ["-e"], FEW),
    ("without 8BITMIME", ["-8"], FEW),
    ("a Cisco PIX", ["-P"], FEW),
    ("LMTP", ["-L"], FEW),
    ("slow at DATA", ["-p", "-w", "1"], FEW),
]
# What it does until it is well again.
TROUBLES = [
    ("soft at the greeting", ["-r", "connect"]),
    ("soft at EHLO", ["-r", "ehlo helo"]),
    ("soft at MAIL", ["-r", "mail"]),
    ("soft at RCPT", ["-r", "rcpt"]),
    ("soft at DATA", ["-r", "data"]),
    ("soft at the end", ["-r", "."]),
    ("421 at MAIL", ["-Q", "mail"]),
    ("421 at RCPT", ["-Q", "rcpt"]),
    ("421 at the end", ["-Q", "."]),
    ("gone at EHLO", ["-q", "ehlo"]),
    ("gone at RCPT", ["-q", "rcpt"]),
    ("gone at DATA", ["-q", "data"]),
    ("gone at the end", ["-q", "."]),
]
REFUSALS = [
    ("hard at MAIL", ["-f", "mail"]),
    ("hard at RCPT", ["-f", "rcpt"]),
    ("hard at DATA", ["-f", "data"]),
    ("hard at the end", ["-f", "."]),
    ("hard in the midst of content", ["-A", "0"]),
]
score = Score()


class SmtpSink(Server):
    """Writes each message to a file of its own."""

    def __init__(self, folder):
        super().__init__(folder)
        self.port, self.box = free_port(), self.folder / "box"
        self.folder.chmod(0o755)
        self.box.mkdir()
        nobody = pwd.getpwnam("nobody")
        own(self.box, nobody.pw_uid, nobody.pw_gid)

    def __enter__(self):
        return self

    def begin(self, *options):
        self.spawn(PROGRAM, "-u", "nobody", "-d", f"{self.box}/m.", *options,
                   f"127.0.0.1:{self.port}", "100")
        until = time.monotonic() + SECONDS_MAX
        while not self.listens():
            if time.monotonic() > until or not self.lives(0.02):
                raise RuntimeError(f"smtp-sink does not listen: {self.said()}")

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True

    def delivered(self):
        """All that was dumped whole, with CRLF and without the line that is added."""
        found = [file.read_bytes() for file in self.box.glob("m.*")]
        return [raw[:-1].replace(b"\n", b"\r\n") for raw in found if raw.endswith(b"\n\n")]

    def forget(self):
        for file in self.box.glob("m.*"):
            file.unlink()


def manners(folder, binary):
    folder.chmod(0o755)
    for n, (what, options, count) in enumerate(MANNERS):
        sink = SmtpSink(folder / f"sink{n}")
        more = 'transport = "lmtp"\n' if "-L" in options else ""
        sink.begin(*options)
        with Site(folder / f"site{n}", binary, [(DOMAIN, sink.port, more)],
                  tables="[limits]\nmessage_bytes_max = \"60MB\"\n") as site, sink:
            sent = send_all(site, "out", DOMAIN, random.Random(n), count)
            site.until(lambda: len(sink.delivered()) >= count, f"{count} letters")
            site.wait_empty()
            compare(score, f"smtp-sink {what}", sink.delivered(), sent)


def troubles(folder, binary):
    """One letter after the other, so that each of them meets it."""
    folder.chmod(0o755)
    sink = SmtpSink(folder / "sink")
    with Site(folder / "site", binary, [(DOMAIN, sink.port)]) as site, sink:
        for n, (what, options) in enumerate(TROUBLES):
            sink.begin(*options)
            deferred, unsure = site.recipients("deferred"), site.metric("palomar_queue_unsure_total")
            site.send(f"u@{DOMAIN}", letter(f"t{n}"))
            site.until(lambda: site.recipients("deferred") > deferred, f"a deferral, {what}")
            unsure = site.metric("palomar_queue_unsure_total") - unsure
            sink.stop()
            sink.forget()
            sink.begin()
            site.wait_empty()
            names = [name_of(raw) for raw in sink.delivered()]
            is_unsure = what == "gone at the end"
            score.check(f"smtp-sink {what}: waits, and arrives when that is over",
                        names == [f"t{n}"] and bool(unsure) == is_unsure, (names, unsure))
            sink.stop()
            sink.forget()
        for n, (what, options) in enumerate(REFUSALS):
            sink.begin(*options)
            site.send(f"u@{DOMAIN}", letter(f"r{n}"))
            notices = site.wait_notices(n + 1)
            site.wait_empty()
            told = [one["action"] for notice in notices for one in notice.each]
            score.check(f"smtp-sink {what}: comes back", told == ["failed"] * (n + 1), told)
            sink.stop()
            sink.forget()


def main():
    binary = sys.argv[1]
    if os.getuid() != 0 or not Path(PROGRAM).exists():
        score.skip("smtp-sink", "needs root and Debian's postfix")
    else:
        score.play("manners", lambda folder: manners(folder, binary))
        score.play("troubles", lambda folder: troubles(folder, binary))
    score.end()


main()
