#!/usr/bin/env python3
"""What a postmaster does with mail that waits: reads it, sends it another way, gives one destination
less or nothing for a while; on a running server, a stopped one, and across kill -9.

    tests/queue/operate.py PALOMAR [SCENE]

Ends with `N passed, M failed`.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sink import Sink, Slowly
from way_out import QUICK, SECONDS_MAX, Site, letter, same

from stage.score import Score

score = Score()
BINARY = None
SCENES = {}
LATER = 'retry = ["1h"]\n'


def scene(function):
    SCENES[function.__name__] = function
    return function


def refusing():
    return Sink(rcpt=lambda *_: "450 4.2.1 not yet")


def cat(site, *words):
    """The octets, as a pipe gets them."""
    command = [site.binary, "queue", "cat", *words, "--config", str(site.config)]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, (words, done)
    return done.stdout


def shown(site, *words):
    return json.loads(site.run("queue", *words, "--json").stdout)


def state(site, name):
    return [(one["to"], one["destination"], one["state"])
            for one in shown(site, "show", name)["recipients"]]


def limits(site, destination):
    rows = [row for row in shown(site, "destinations") if row["destination"] == destination]
    return rows[0].get("limits") if rows else None


@scene
def read(folder):
    """`queue cat`: octet for octet what a host gets later, small and large, running and stopped."""
    open_now = threading.Event()
    sink = Sink(rcpt=lambda *_: None if open_now.is_set() else "450 4.2.1 not yet",
                offers=("PIPELINING", "8BITMIME", "SIZE 90000000"))
    alias = ("list@play.test", "bea@later.test")
    with sink, Site(folder, BINARY, [("later.test", sink.port)], queue=LATER,
                    aliases=[alias]) as site:
        small = letter("small", body="..\r\n.\r\nDot.\r\n")
        large = letter("large", body="0123456789abcdef0123456789abcdef\r\n" * 400_000)
        ids = [site.send(["bea@later.test", "eva@later.test"], small, mail=["RET=HDRS"],
                         rcpt=["NOTIFY=FAILURE"]),
               site.send("bea@later.test", large)]
        sent_on = site.send("list@play.test", letter("on"))
        site.until(lambda: site.recipients("deferred") == 4, "all were tried")
        got = {name: cat(site, name) for name in (*ids, sent_on)}
        same(got[ids[0]], small)
        same(got[ids[1]], large)
        assert got[sent_on].startswith(b"Delivered-To: list@play.test\r\n"), got[sent_on][:100]
        envelope, _, rest = cat(site, "--envelope", ids[0]).partition(b"\n\n")
        lines = envelope.decode().splitlines()
        size = len(got[ids[0]])
        assert rest == got[ids[0]]
        assert lines[0].startswith(f"MAIL FROM:<ana@play.test> SIZE={size}"), lines
        assert "RET=HDRS" in lines[0], lines
        assert lines[1:] == [f"RCPT TO:<{who}@later.test> NOTIFY=FAILURE"
                             for who in ("bea", "eva")], lines
        missing = site.run("queue", "cat", "aaaaaaaaaaaaaaaa", code=1)
        assert "waits to leave" in missing.stderr and not missing.stdout, missing
        site.stop(signal.SIGTERM)
        for name in (*ids, sent_on):
            assert cat(site, name) == got[name], "another when stopped"
        open_now.set()
        site.start()
        site.run("queue", "retry", "--all")
        sink.wait(lambda sink: len(sink.taken()) == 4)
        site.wait_empty()
        left = {one.content for one in sink.letters if one.taken}
        assert left == set(got.values()), "what left is not what was shown"


@scene
def reroute(folder):
    """What waits goes elsewhere at once, also after kill -9, and by the log-in of a route."""
    old, new = refusing(), Sink()
    relay = Sink(offers=("PIPELINING", "AUTH PLAIN LOGIN"), login=("pal", "sesame"))
    secret = Path(folder) / "secret"
    secret.write_text("sesame\n")
    login = f'user = "pal"\npassword_file = "{secret}"\n'
    with old, new, relay, Site(folder, BINARY, [
            ("old.test", old.port), ("relay.test", relay.port, login)], queue=LATER) as site:
        ids = [site.send([f"u{n}@old.test", f"v{n}@old.test"], letter(f"letter{n}"))
               for n in range(5)]
        site.until(lambda: site.recipients("deferred") == 10, "all were tried")
        for words in (["--to", "not a place"], [], ["--to", "play.test"], ["--to", "smarthost"]):
            site.run("queue", "reroute", ids[0], *words, code=2)
        site.run("queue", "reroute", "--to", f"127.0.0.1:{new.port}", code=2)
        here = f"127.0.0.1:{new.port}"
        done = shown(site, "reroute", ids[0], "--to", here)
        assert (done["messages"], done["recipients"]) == (1, 2), done
        new.wait(lambda sink: len(sink.taken()) == 2)
        # One recipient alone; a held one goes when it is released.
        site.run("queue", "hold", ids[1])
        site.run("queue", "reroute", ids[1], "--recipient", "u1@", "--to", here)
        assert state(site, ids[1]) == [("u1@old.test", here, "held"),
                                       ("v1@old.test", "old.test", "held")], state(site, ids[1])
        site.stop(signal.SIGKILL)
        site.start()
        assert state(site, ids[1])[0] == ("u1@old.test", here, "held"), state(site, ids[1])
        site.run("queue", "release", ids[1])
        new.wait(lambda sink: len(sink.taken()) == 3)
        # By the route of another domain, with its password; and back again.
        site.run("queue", "reroute", ids[2], "--to", "relay.test")
        relay.wait(lambda sink: len(sink.taken()) == 2)
        site.run("queue", "reroute", ids[3], "--to", f"127.0.0.1:{relay.port}")
        relay.wait(lambda sink: len(sink.taken()) == 4)
        site.run("queue", "hold", ids[4])
        site.run("queue", "reroute", ids[4], "--to", "nowhere.test")
        assert {row[1] for row in state(site, ids[4])} == {"nowhere.test"}
        site.run("queue", "reroute", ids[4], "--back")
        assert {row[1] for row in state(site, ids[4])} == {"old.test"}
        # On a stopped server the same.
        site.stop(signal.SIGTERM)
        site.run("queue", "reroute", "--destination", "old.test", "--to", here)
        site.start()
        site.run("queue", "release", ids[4])
        new.wait(lambda sink: len(sink.taken()) == 6)
        site.wait_empty()
        assert old.taken() == [] and site.messages() == []


@scene
def under_way(folder):
    """Who is being tried when he is rerouted is not tried at both places at once."""
    asked = threading.Event()

    def slow(*_):
        asked.set()
        return Slowly("450 4.2.1 not yet", 4)
    with Sink(rcpt=slow) as old, Sink() as new, \
            Site(folder, BINARY, [("old.test", old.port)], queue=LATER) as site:
        name = site.send("bea@old.test", letter("hurried"))
        assert asked.wait(SECONDS_MAX)
        site.run("queue", "reroute", name, "--to", f"127.0.0.1:{new.port}")
        assert new.letters == [], "two have it"
        new.wait(lambda sink: len(sink.taken()) == 1)
        site.wait_empty()
        [first], [second] = old.letters, new.letters
        assert second.began > first.began + 3, (first.began, second.began)


@scene
def shape(folder):
    """Fewer connections, a rate, a pause: at once, for that destination alone, and for good."""
    slow = Sink(end=lambda *_: Slowly("250 2.0.0 taken", 0.2))
    other = Sink()
    with slow, other, Site(folder, BINARY, [
            ("slow.test", slow.port), ("other.test", other.port)], queue=QUICK) as site:
        for words in ([], ["--rate", "0"], ["--connections", "0"], ["--clear", "--resume"],
                      ["--pause", "soon"]):
            site.run("queue", "shape", "slow.test", *words, code=2)
        site.run("queue", "shape", "slow.test", "--connections", "1")
        for n in range(12):
            site.send(f"u{n}@slow.test", letter(f"one{n}"))
        slow.wait(lambda sink: len(sink.taken()) == 12)
        assert slow.open_most == 1, slow.open_most
        # What is not on record at a kill is sent again.
        site.wait_empty()

        site.run("queue", "shape", "slow.test", "--pause")
        assert limits(site, "slow.test") == {"connections": 1, "pause": "open"}
        table = site.run("queue", "destinations").stdout
        assert "1 connection, paused" in table, table
        site.stop(signal.SIGKILL)
        site.start()
        for n in range(300):
            site.send([f"u{n}@slow.test", f"u{n}@other.test"], letter(f"two{n}"))
        other.wait(lambda sink: len(sink.taken()) == 300)
        # Who wants it now is told no by the pause, too, also across another start.
        site.run("queue", "retry", "--all")
        site.stop(signal.SIGTERM)
        site.start()
        for n in range(3):
            site.send(f"w{n}@other.test", letter(f"by{n}"))
        other.wait(lambda sink: len(sink.taken()) == 303)
        assert len(slow.taken()) == 12, "tried in a pause"
        [row] = [row for row in shown(site, "destinations") if row["destination"] == "slow.test"]
        assert (row["waiting"], row["held"]) == (300, 0), row

        site.run("queue", "shape", "slow.test", "--clear")
        assert limits(site, "slow.test") is None
        slow.wait(lambda sink: len(sink.taken()) == 312, 120)
        assert slow.open_most > 1, "still one at a time"
        site.wait_empty()
        assert len(slow.taken()) == 312, "twice"


@scene
def for_a_while(folder):
    """A pause of some seconds ends by itself, a rate is kept, and a stopped server takes both."""
    with Sink() as sink, Site(folder, BINARY, [("some.test", sink.port)]) as site:
        site.stop(signal.SIGTERM)
        site.run("queue", "shape", "some.test", "--pause", "6s", "--rate", "60/min")
        site.start()
        began = time.monotonic()
        for n in range(4):
            site.send(f"u{n}@some.test", letter(f"slow{n}"))
        assert "until" in limits(site, "some.test")["pause"], limits(site, "some.test")
        sink.wait(lambda sink: len(sink.taken()) == 4)
        starts = [one.began for one in sink.letters]
        assert time.monotonic() - began > 3, "no rate"
        gaps = [later - sooner for sooner, later in zip(starts, starts[1:])]
        assert min(gaps) > 0.8, gaps
        site.wait_empty()


def main():
    global BINARY
    BINARY = sys.argv[1]
    for name, play in SCENES.items():
        if not sys.argv[2:] or name in sys.argv[2:]:
            score.play(name, play)
    score.end()


main()
