#!/usr/bin/env python3
"""What must not do harm: a body that rots while it waits, a stop while a host thinks about a whole
letter, a bounce for an address that only leads elsewhere, an SRS address in a stranger's hands.

    tests/queue/harm.py PALOMAR

Ends with `N passed, M failed`.
"""

import json
import smtplib
import sys
import threading
import time

from sink import DROP, Sink, Slowly
from way_out import Notice, Site, letter, same

from stage.score import Score

score = Score()
BINARY = sys.argv[1]


def rot(folder):
    """A message that is not what was taken in is held: not sent, and not given up."""
    dead = threading.Event()
    dead.set()
    sink = Sink(connect=lambda *_: DROP if dead.is_set() else None)
    with sink, Site(folder, BINARY, [("out.test", sink.port)]) as site:
        large = letter("large", body="A line of some length, many times.\r\n" * 40_000)
        spoiled = site.send("bea@out.test", large)
        site.send("bea@out.test", letter("small"))
        site.until(lambda: site.metric("palomar_queue_recipients_total", 'fate="deferred"'),
                   "a first attempt")
        score.check("a clean stop", site.stop() == 0)
        files = [path for path in site.folder.rglob("*")
                 if path.is_file() and path.stat().st_size > len(large)
                 and b"many times" in path.read_bytes()[:4000]]
        score.check("one file has it", len(files) == 1, files)
        with files[0].open("r+b") as file:
            file.seek(len(large) // 2)
            octet = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([octet[0] ^ 1]))
        dead.clear()
        site.start()
        site.run("queue", "retry", "--all")
        sink.wait(lambda sink: sink.taken())
        site.until(lambda: "held" in site.run("queue", "show", spoiled).stdout, "it is held")
        [(got, _)] = sink.taken()
        same(got.content, letter("small"))
        score.check("nobody is told that it failed", not site.notices())
        listed = json.loads(site.run("queue", "list", "--json").stdout)
        score.check("and it is there still", [row["id"] for row in listed] == [spoiled], listed)
        said = site.run("explain", spoiled).stdout
        score.check("and what happened says why", "its content is damaged" in said, said)


def stop(folder):
    """A host that has the whole letter and thinks for longer than a stop takes: it is waited for."""
    sink = Sink(end=lambda *_: Slowly("250 2.0.0 at last", 8))
    with sink, Site(folder, BINARY, [("out.test", sink.port)]) as site:
        site.send("bea@out.test", letter("slow"))
        sink.wait(lambda sink: sink.letters and sink.letters[0].content)
        began = time.monotonic()
        score.check("a clean stop", site.stop() == 0)
        took = time.monotonic() - began
        score.check("that waited", 3 < took < 25, took)
        site.start()
        site.wait_empty()
        score.check("it went once", len(sink.letters) == 1, len(sink.letters))


def far_sender(folder):
    """A sender whose address here only leads elsewhere is told where it leads."""
    sink = Sink(rcpt=lambda _letter, address, _count:
                "550 5.1.1 gone" if address.startswith("no@") else None)
    with sink, Site(folder, BINARY, [("out.test", sink.port)],
                    aliases=[("away@play.test", "far@out.test")]) as site:
        site.send("no@out.test", letter("lost"), sender="away")
        sink.wait(lambda sink: sink.taken())
        [(got, to)] = sink.taken()
        score.check("from nobody, to where he is", (got.sender, to) == ("", "far@out.test"))
        told = Notice(got.content[got.content.index(b"From: "):])
        score.check("what became of it", told.of("no@out.test")["status"] == "5.1.1")
        site.wait_empty()


def borrowed(folder):
    """An address that bounces come back by is no relay for other mail."""
    sink, elsewhere = Sink(), Sink()
    with sink, elsewhere, Site(folder, BINARY, [
            ("out.test", sink.port), ("elsewhere.test", elsewhere.port)],
            aliases=[("away@play.test", "far@out.test")]) as site:
        site.relay("who@elsewhere.test", "away@play.test", letter("away"))
        sink.wait(lambda sink: sink.taken())
        [(got, _)] = sink.taken()
        with smtplib.SMTP("127.0.0.1", site.ports["smtp"], "neighbour") as smtp:
            smtp.ehlo()
            smtp.mail("spam@elsewhere.test")
            code, said = smtp.rcpt(got.sender)
        score.check("refused", (code, said[:5]) == (550, b"5.7.1"), said)


for play in (rot, stop, far_sender, borrowed):
    score.play(play.__name__, play)
score.end()
