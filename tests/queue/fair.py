#!/usr/bin/env python3
"""Nobody's mail waits for somebody else's: one destination that takes two seconds for each step
and has a long line, and a mailshot to five hundred at another, stand in the queue while fifty
ordinary letters to ten other destinations are sent. Their median wait with and without the others
is printed, and the wait of ten at the mailshot's own destination; what fails is one that waited for
the mailshot to be over, or a median that is no longer of the same kind.

    tests/queue/fair.py PALOMAR

Ends with `N passed, M failed`.
"""

import contextlib
import statistics
import sys
import time

from sink import Sink, Slowly
from way_out import QUICK, Site, letter, name_of

from stage.score import Score

STEP_SECONDS = 2
SLOW_LETTERS, SHOT_LETTERS, SHOT_RECIPIENTS, ORDINARY, NEIGHBOURS = 60, 500, 500, 50, 10
# Gross: what is usual is printed.
RATIO_MAX, SECONDS_MAX = 20, 5
# So few connections on each of the two shards that who takes more than is his takes others'.
QUEUE = QUICK + "connections_max = 16\n"
score = Score()


def slow():
    def step(reply):
        return lambda *_: Slowly(reply, STEP_SECONDS)
    return Sink(connect=step("220 sink.test ESMTP"), mail=step("250 2.1.0 ok"),
                rcpt=step("250 2.1.5 ok"), data=step("354 go on"), end=step("250 2.0.0 ok"))


def waits(site, sinks, name):
    """Seconds from the server's 250 to the other's dot, of each ordinary letter."""
    sent = {}
    with site.submission("bob") as smtp:
        for n in range(ORDINARY):
            sink = n % len(sinks)
            one = f"{name}{n}"
            smtp.sendmail("bob@play.test", [f"bea@o{sink}.test"], letter(one))
            sent[one] = time.monotonic()
    arrived = {}
    for sink in sinks:
        sink.wait(lambda sink: sum(name_of(one.content).startswith(name)
                                   for one, _ in sink.taken()) == ORDINARY // len(sinks), 300)
        arrived |= {name_of(one.content): one.ended for one, _ in sink.taken()}
    return sorted(max(arrived[one] - sent[one], 0.001) for one in sent), \
        max(arrived[one] for one in sent)


def play(folder, binary):
    with contextlib.ExitStack() as stack:
        ordinary = [stack.enter_context(Sink()) for _ in range(10)]
        snail = stack.enter_context(slow())
        shot = stack.enter_context(Sink(end=lambda *_: Slowly("250 2.0.0 ok", 0.4)))
        routes = [(f"o{n}.test", sink.port) for n, sink in enumerate(ordinary)]
        routes += [("slow.test", snail.port), ("shot.test", shot.port)]
        site = stack.enter_context(
            Site(folder, binary, routes, queue=QUEUE, users=("ana", "bob", "eva"),
                 tables="[limits]\nrecipients_max = 1000\n"))
        waits(site, ordinary, "first")
        alone, _ = waits(site, ordinary, "alone")
        with site.submission("eva") as smtp:
            for n in range(SLOW_LETTERS):
                smtp.sendmail("eva@play.test", [f"u{n}@slow.test"], letter(f"slow{n}"))
        with site.submission("ana") as smtp:
            to = [f"u{n}@shot.test" for n in range(SHOT_RECIPIENTS)]
            smtp.sendmail("ana@play.test", to, letter("shot"))
            for n in range(SHOT_LETTERS):
                smtp.sendmail("ana@play.test", [f"v{n}@shot.test"], letter(f"shot{n}"))
        snail.wait(lambda snail: snail.open > 0)
        beside, last = waits(site, ordinary, "beside")
        left = SHOT_RECIPIENTS + SHOT_LETTERS - len(shot.taken())
        still = SLOW_LETTERS - len(snail.taken())
        with site.submission("bob") as smtp:
            for n in range(NEIGHBOURS):
                smtp.sendmail("bob@play.test", [f"w{n}@shot.test"], letter(f"near{n}"))
        asked = time.monotonic()
        whole = SHOT_RECIPIENTS + SHOT_LETTERS + NEIGHBOURS
        shot.wait(lambda sink: len(sink.taken()) == whole, 300)
        over = max(one.ended for one, to in shot.taken() if not to.startswith("w"))
        near = sorted(one.ended - asked for one, to in shot.taken() if to.startswith("w"))
        ratio = statistics.median(beside) / statistics.median(alone)
        print(f"     ordinary mail alone: median {statistics.median(alone) * 1000:.0f} ms, worst "
              f"{alone[-1] * 1000:.0f} ms")
        print(f"     beside {left} of a mailshot and {still} at the slow host: median "
              f"{statistics.median(beside) * 1000:.0f} ms, worst {beside[-1] * 1000:.0f} ms; "
              f"ratio {ratio:.1f}")
        print(f"     to the mailshot's own destination: median {statistics.median(near):.1f} s, "
              f"worst {near[-1]:.1f} s, of {over - asked:.1f} s that it took")
        print(f"     connections at most: slow {snail.open_most}, mailshot {shot.open_most}")
        score.check("the others were in the queue all the while", left > 0 and still > 0)
        score.check("no ordinary letter waited for the mailshot", last < over, (last, over))
        score.check("the median is of the same kind",
                    ratio < RATIO_MAX or statistics.median(beside) < SECONDS_MAX, ratio)
        score.check("nor at its own destination", near[-1] < (over - asked) / 2, near)
        score.check("and the worst a matter of seconds", beside[-1] < SECONDS_MAX, beside[-5:])


def main():
    binary = sys.argv[1]
    score.play("fair", lambda folder: play(folder, binary))
    score.end()


main()
