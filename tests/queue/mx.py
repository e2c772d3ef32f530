#!/usr/bin/env python3
"""Where mail goes by the DNS, which Debian's Knot serves: preference, equal hosts, null MX, no MX,
aliases, names that are not there, name servers that fail, hosts that are ourselves; and a DNS that
is dead for a while. MX hosts listen on port 25 of 127.0.1.x, which needs root: without, those
scenes are skipped.

    tests/queue/mx.py PALOMAR [SCENE]

Ends with `N passed, M failed`.
"""

import contextlib
import socket
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dns"))

from sink import Sink
from way_out import Site, letter, same
from zones import SOA, Knot

from stage.score import Score

score = Score()
BINARY = None
SCENES = {}

# What is served of `test.`; every name that an address is asked of is below.
ZONE = """
pref 60 IN MX 10 a
pref 60 IN MX 20 b
pref 60 IN MX 30 c
equal 60 IN MX 10 c
equal 60 IN MX 10 d
null 60 IN MX 0 .
bare 60 IN A 127.0.1.2
other 60 IN CNAME bare
www 60 IN CNAME pref
indirect 60 IN MX 10 www-b
www-b 60 IN CNAME b
nohost 60 IN MX 10 nothing
noaddress 60 IN MX 10 empty
empty 60 IN TXT "no address"
self 60 IN MX 10 localhost.
byaddress 60 IN MX 10 me
me 60 IN A {own}
backup 60 IN MX 10 late
backup 60 IN MX 20 localhost.
backup 60 IN MX 30 c
late 60 IN A 127.0.1.9
dual 60 IN MX 10 both
both 60 IN AAAA ::1
both 60 IN A 127.0.1.2
picky 60 IN MX 10 e
picky 60 IN MX 20 b
a 60 IN A 127.0.1.1
b 60 IN A 127.0.1.2
c 60 IN A 127.0.1.3
d 60 IN A 127.0.1.4
e 60 IN A 127.0.1.5
"""


def scene(function):
    SCENES[function.__name__] = function
    return function


def own_address():
    """One of this machine that is no loopback, where it has one: no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
            return asking.getsockname()[0]
        except OSError:
            return None


def names(folder):
    """A Knot that is not started yet: `test.` is served, `broken.` has no file, and of everything
    else it is no server."""
    (folder / "knot").mkdir()
    file = folder / "test.zone"
    file.write_text(f"$ORIGIN test.\n{SOA}ns 60 IN A 127.0.0.1\n"
                    + ZONE.replace("{own}", own_address() or "127.0.0.1"))
    return Knot(folder / "knot", {"test.": file, "broken.": folder / "missing.zone"})


def site_of(folder, port, **more):
    return Site(folder / "site", BINARY, relay="local_addresses = true\n",
                tables=f'[dns]\nservers = ["127.0.0.1:{port}"]\ndnssec = "off"\n', **more)


def host(last, **rules):
    """127.0.1.x takes mail."""
    return Sink(address=f"127.0.1.{last}", port=25, **rules)


@scene
def hosts(folder):
    """Who gets it, with every host but one at work."""
    e = host(5, mail=lambda *_: "451 4.7.1 not today")
    with names(folder) as knot, host(2) as b, host(3) as c, host(4) as d, e, \
            site_of(folder, knot.port) as site:
        def goes(domain, sink, to=None):
            to = to or f"bea@{domain}"
            site.send(to, letter(domain, body=f"To {domain}.\r\n"))
            sink.wait(lambda sink: sink.taken_by(to))
            same(sink.taken_by(to)[0].content, letter(domain, body=f"To {domain}.\r\n"))
            score.check(f"{to} goes to {sink.address}", True)

        goes("pref.test", b)
        goes("bare.test", b)
        goes("other.test", b)
        goes("www.test", b)
        goes("indirect.test", b)
        goes("dual.test", b)
        goes("literal", b, to="bea@[127.0.1.2]")
        goes("picky.test", b)
        assert e.counts["mail", "ana@play.test"] >= 1 and not e.letters, e.heard
        score.check("but the first host was asked first, and said not today", True)
        for n in range(24):
            site.send(f"u{n}@equal.test", letter(f"equal{n}"))
        site.wait_empty()
        shares = Counter({"c": len(c.taken()), "d": len(d.taken())})
        assert sum(shares.values()) == 24 and min(shares.values()) > 0, shares
        score.check(f"equal hosts share 24 letters: {dict(shares)}", True)
        with host(1) as a:
            goes("pref.test", b, to="late@pref.test")
            score.check("a host that failed is not asked again at once", not a.letters)
        assert site.messages() == [], "a notice of what went well"


@scene
def refusals(folder):
    """What the names say can never be delivered comes back at once."""
    wanted = {"null.test": "5.1.10", "gone.test": "5.1.2", "nohost.test": "5.4.4",
              "noaddress.test": "5.4.4", "self.test": "5.4.6", "byaddress.test": "5.4.6"}
    if not own_address():
        del wanted["byaddress.test"]
        score.skip("byaddress.test", "this machine has loopback alone")
    with names(folder) as knot, site_of(folder, knot.port) as site:
        for domain in wanted:
            site.send(f"bea@{domain}", letter(domain))
        site.wait_empty()
        notices = site.wait_notices(len(wanted))
        for domain, status in wanted.items():
            [got] = [notice.of(f"bea@{domain}") for notice in notices
                     if notice.names(f"bea@{domain}")]
            score.check(f"{domain}: {status}", (got["action"], got["status"]) ==
                        ("failed", status), got)


@scene
def waiting(folder):
    """What may come to be is waited for: name servers that fail, and a host before our own."""
    with names(folder) as knot, host(3) as c, site_of(folder, knot.port) as site, \
            site.log() as log:
        for domain in ("broken", "x.elsewhere"):
            site.send(f"bea@{domain}", letter(domain))
            entry = log.event("message.deferred", rcpt=f"<bea@{domain}>")
            score.check(f"{domain}: deferred, {entry['reply']}", entry["status"] == "4.4.3", entry)
        site.send("bea@backup.test", letter("backup"))
        entry = log.event("message.deferred", rcpt="<bea@backup.test>")
        score.check(f"backup.test: deferred, {entry['reply']}", entry["status"] == "4.4.1", entry)
        with host(9) as late:
            late.wait(lambda late: late.taken_by("bea@backup.test"))
            score.check("and goes to its first host once that is there", not c.letters)
        site.until(lambda: site.metric("palomar_queue_rows") == 2, "two that wait")


@scene
def dead(folder):
    """Nobody answers for names; then somebody does, and the mail goes."""
    knot = names(folder)
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", knot.port))
    with host(2) as b, site_of(folder, knot.port) as site, site.log() as log:
        with contextlib.closing(silent):
            for n in range(10):
                site.send(f"u{n}@bare.test", letter(f"dead{n}"))
            site.send("bea@gone.test", letter("gone"))
            entry = log.event("message.deferred")
            score.check(f"deferred: {entry['reply']}", entry["status"] == "4.4.3", entry)
            assert site.made("failure") == 0 and not b.letters
        with knot:
            b.wait(lambda b: len(b.taken()) == 10)
            score.check("with names again all are delivered, once", len(b.letters) == 10)
            [notice] = site.wait_notices(1)
            score.check("and who has none comes back",
                        notice.of("bea@gone.test")["status"] == "5.1.2")
            site.wait_empty()


def main():
    global BINARY
    BINARY = sys.argv[1]
    wanted = sys.argv[2:]
    may_bind = True
    try:
        socket.create_server(("127.0.1.9", 25)).close()
    except OSError as why:
        may_bind, reason = False, why
    for name, play in SCENES.items():
        if wanted and name not in wanted:
            continue
        if may_bind or name == "refusals":
            score.play(name, play)
        else:
            score.skip(name, f"no port 25 of 127.0.1.x: {reason}")
    score.end()


main()
