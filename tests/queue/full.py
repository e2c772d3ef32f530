#!/usr/bin/env python3
"""A disk that is full while letters wait in the queue: no new mail is taken, what waits leaves and
its outcomes are recorded all the same, from the reserve, and after kill -9 nothing is sent again
that was on record, and nothing is lost. The disk is a tmpfs, which needs root: without, all is
skipped.

    tests/queue/full.py PALOMAR

Ends with `N passed, M failed`.
"""

import os
import signal
import smtplib
import subprocess
import sys
from collections import Counter

from sink import Sink
from way_out import SECONDS_MAX, Site, letter, name_of

from stage.score import Score

LETTERS, REFUSED = 400, 20
DISK = "320m"
STORE = """[store]
journal_slot_bytes = "16MiB"
journal_slots = 4
free_bytes_min = "8MiB"
"""
score = Score()


def fill(path):
    """Another program writes until nothing is left."""
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def answer(site):
    """What a new letter is told."""
    with smtplib.SMTP("127.0.0.1", site.ports["smtp"], "neighbour", SECONDS_MAX) as smtp:
        try:
            smtp.sendmail("ana@play.test", ["new@a.test"], letter("new"))
            return 250, b""
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code, refused.smtp_error
        except smtplib.SMTPRecipientsRefused as refused:
            return next(iter(refused.recipients.values()))


def is_taken(site):
    return answer(site)[0] == 250


def wait_refused(site):
    """The server looks at the disk now and then."""
    site.until(lambda: answer(site)[0] == 452, "452 to new mail", step=0.5)


def names(sink):
    """How often each letter was taken; the ones that only asked are not counted."""
    found = Counter(name_of(each.content) for each, _ in sink.taken())
    return {name: count for name, count in found.items() if name != "new"}


def story(site, sink, filler):
    sink.stop()
    with smtplib.SMTP("127.0.0.1", site.ports["smtp"], "neighbour", SECONDS_MAX) as smtp:
        for n in range(LETTERS):
            to = f"no{n}@a.test" if n < REFUSED else f"u{n}@{'ab'[n % 2]}.test"
            smtp.sendmail("ana@play.test", [to], letter(f"w{n}", body="A line.\r\n" * 200))
    fill(filler)
    wait_refused(site)
    score.check("a full disk: new mail is told 452", True)
    sink.start()
    site.until(lambda: site.recipients("delivered") >= LETTERS // 2, "half of them delivered")
    site.stop(signal.SIGKILL)
    sent = names(sink)
    score.check(f"after kill -9 in the midst ({len(sent)} sent) it starts on the full disk",
                starts(site, filler), site.said()[-500:])
    site.wait_empty()
    sent = names(sink)
    twice = sum(count - 1 for count in sent.values())
    # One for each of the slots, and of the outcomes that were not on record yet.
    score.check(f"all that waited has left ({twice} twice)",
                len(sent) == LETTERS - REFUSED and twice <= 60, len(sent))
    before = sum(sent.values())
    site.stop(signal.SIGKILL)
    score.check("it starts again", starts(site, filler), site.said()[-500:])
    wait_refused(site)
    site.wait_empty()
    score.check("and sends nothing twice that was on record", sum(names(sink).values()) == before)
    filler.unlink(missing_ok=True)
    site.until(lambda: is_taken(site), "new mail")
    score.check("with room there is new mail", True)
    notices = site.wait_notices(REFUSED)
    about = Counter(one["final-recipient"] for notice in notices for one in notice.each)
    score.check("each refused letter came back once",
                len(about) == REFUSED and set(about.values()) == {1}, about)


def starts(site, filler):
    """On the full disk, or after it said what to do."""
    try:
        site.start()
        return True
    except RuntimeError as error:
        if "free room there" not in str(error):
            return False
    filler.unlink()
    site.start()
    fill(filler)
    return True


def play(folder, binary):
    def refuse(_letter, address, _count):
        return "550 5.1.1 nobody" if address.startswith("no") else None

    data = folder / "site/data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", data], check=True)
    try:
        with Sink(rcpt=refuse) as sink:
            routes = [("a.test", sink.port), ("b.test", sink.port)]
            with Site(folder / "site", binary, routes, tables=STORE) as site:
                story(site, sink, data / "filler")
    finally:
        subprocess.run(["umount", "-l", data], check=False)


def main():
    binary = sys.argv[1]
    if os.getuid() != 0:
        score.skip("full", "a disk to fill needs root")
    else:
        score.play("a full disk", lambda folder: play(folder, binary))
    score.end()


main()
