#!/usr/bin/env python3
"""Mail that waits for its time: messages held for their sender (RFC 4865), for owners here and for
others elsewhere, and mailshots that leave in their hours.

    tests/queue/later.py PALOMAR

Ends with `N passed, M failed`.
"""

import json
import re
import smtplib
import sys
import time
from datetime import datetime, timedelta, timezone

from sink import Sink
from way_out import QUICK, Site, letter, same

from stage.score import Score

score = Score()
BINARY = sys.argv[1]


def clock(ahead):
    """RFC 3339, that many seconds from now."""
    at = datetime.now(timezone.utc) + timedelta(seconds=ahead)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def offer(folder):
    """What is offered to whom, and what is refused."""
    with Site(folder, BINARY, queue='hold_max = "1h"\n') as site:
        with site.submission() as smtp:
            smtp.ehlo()
            offered = smtp.esmtp_features["futurerelease"]
            score.check("the offer", re.fullmatch(
                r"3600 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", offered), offered)
            for wrong in ("HOLDFOR=3601", "HOLDFOR=x", "HOLDFOR=0", f"HOLDUNTIL={clock(4000)}",
                          f"HOLDFOR=5 HOLDUNTIL={clock(5)}"):
                code, said = smtp.mail("ana@play.test", [wrong])
                score.check(wrong.split("=")[0], (code, said[:5]) == (501, b"5.5.4"), said)
        with smtplib.SMTP("127.0.0.1", site.ports["smtp"], "neighbour") as smtp:
            smtp.ehlo()
            code, said = smtp.mail("who@elsewhere.test", ["HOLDFOR=5"])
            score.check("not from outside", code == 555 and "futurerelease" not in
                        smtp.esmtp_features, said)


def held(folder):
    """Held over a restart and a kill -9; then all have it once, and who is gone is told of."""
    sink = Sink()
    everybody = ("ana", "bob", "eva", "leo")
    with sink, Site(folder, BINARY, [("out.test", sink.port)], users=everybody, aliases=[
            ("all@play.test", "bob@play.test", "eva@play.test", "far@out.test")]) as site:
        small = letter("held")
        large = letter("large", body="A line of some length, many times.\r\n" * 40_000)
        # The past is now.
        site.send("bob@play.test", letter("past"), mail=["HOLDUNTIL=2001-01-01T00:00:00Z"])
        site.until(lambda: site.messages("bob"), "what was to go in the past")
        to = ["all@play.test", "eva@play.test", "leo@play.test", "bea@out.test"]
        first = site.send(to, small, mail=["HOLDFOR=600"])
        second = site.send(["all@play.test", "eva@play.test"], large, mail=["HOLDFOR=600"],
                           rcpt={"eva@play.test": ["NOTIFY=SUCCESS"]})
        score.check("a clean stop", site.stop() == 0)
        site.start()
        site.stop(by=9)
        site.start()
        [one] = [row for row in json.loads(site.run("queue", "list", "--json").stdout)
                 if row["id"] == first]
        score.check("it waits for all of them", len(one["recipients"]) == 5, one)
        score.check("and nobody has it", not sink.taken() and len(site.messages("bob")) == 1
                    and not site.messages("eva"))
        site.run("user", "remove", "leo@play.test")
        site.run("queue", "retry", first, second)
        sink.wait(lambda sink: len(sink.taken()) == 3)
        notices = site.wait_notices(2)
        site.wait_empty()
        for user in ("bob", "eva"):
            got = [raw for raw in site.messages(user) if b"Subject: past" not in raw]
            score.check(f"{user} has each once", len(got) == 2, len(got))
            for raw, sent in zip(sorted(got, key=len), (small, large)):
                head = raw[:len(raw) - len(sent)].decode()
                score.check("octet for octet", raw.endswith(sent), raw[:500])
                score.check("with its trace", head.startswith("Return-Path: <ana@play.test>\r\n"
                            "Delivered-To: ") and head.count("\r\nReceived: ") == 1, head)
        for one, _ in sink.taken():
            same(one.content, small if len(one.content) < 10_000 else large)
        [gone] = [notice for notice in notices if notice.names("leo@play.test")]
        score.check("who went meanwhile", gone.of("leo@play.test")["status"] == "5.1.1")
        [told] = [notice for notice in notices if notice.names("eva@play.test")]
        score.check("who wanted to know", told.of("eva@play.test")["action"] in (
            "delivered", "relayed"), told.each)
        score.check("and no more", len(site.notices()) == 2)


def by_the_clock(folder):
    """Nobody lets it go but the clock."""
    sink = Sink()
    with sink, Site(folder, BINARY, [("out.test", sink.port)], users=("ana", "bob")) as site:
        site.send("bob@play.test", letter("soon"))
        site.until(lambda: site.messages("bob"), "a first letter")
        begun = time.time()
        site.send(["bob@play.test", "bea@out.test"], letter("later"), mail=["HOLDFOR=3"])
        sink.wait(lambda sink: sink.taken())
        site.until(lambda: len(site.messages("bob")) == 2, "the letter that was held")
        took = time.time() - begun
        score.check("after three seconds and soon", 3 <= took < 20, took)
        site.wait_empty()


def hours(folder):
    """A mailshot waits for its hours, an ordinary letter does not, and a person may hurry it."""
    sink = Sink()
    # Two hours that are not near.
    hour = (datetime.now(timezone.utc).hour + 6) % 24
    queue = QUICK + f'bulk_hours = ["{hour:02}:00-{(hour + 2) % 24:02}:00"]\n'
    with sink, Site(folder, BINARY, [("out.test", sink.port)], queue=queue) as site:
        shot = site.send([f"u{n}@out.test" for n in range(60)], letter("shot"))
        said = site.send("bea@out.test", letter("newsletter", more="Precedence: bulk\r\n"))
        site.send("bea@out.test", letter("ordinary"))
        sink.wait(lambda sink: sink.taken())
        listed = json.loads(site.run("queue", "show", "--json", shot).stdout)
        [due] = {one["due"] for one in listed["recipients"]}
        due = datetime.fromtimestamp(due / 1000, timezone.utc)
        score.check("due in its hours", (due.hour, due.minute) == (hour, 0), listed)
        score.check("and not gone", [to for _, to in sink.taken()] == ["bea@out.test"])
        site.run("queue", "retry", shot, said)
        sink.wait(lambda sink: len(sink.taken()) == 62)
        site.wait_empty()


for play in (offer, held, by_the_clock, hours):
    score.play(play.__name__, play)
score.end()
