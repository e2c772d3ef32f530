#!/usr/bin/env python3
"""kill -9 at random moments, against a ledger of what was acknowledged.

Some thousand letters to twenty destinations and to users here, given by several senders at once:
destinations that take all, refuse some recipients or some contents, are slow, say "later" first,
take a letter and do not say so, or are not there for half of the time. In the end each recipient of
each letter that was acknowledged has exactly one end: the peer's ledger has it, or the sender a
notice; nobody has both, and nobody neither. A letter twice is right only where the kill came
between our dot and our record of the peer's 250, or where the peer hung up behind the dot: those
are counted, and any other fails.

    tests/queue/ledger.py PALOMAR [LETTERS [KILLS [SEED]]]

The seed is printed; it makes letters, behaviours and the moments again, but not the machine's pace.
"""

import random
import signal
import smtplib
import sys
import threading
import time
import zlib
from collections import Counter, defaultdict

from sink import TAKE_AND_DROP, Sink, Slowly
from way_out import QUICK, Notice, Site, letter, name_of, same

from stage.score import Score
from stage.servers import free_ports

USERS = ("ana", "bob", "eva", "teo")
KINDS = ["takes"] * 8 + ["refuses"] * 3 + ["reads"] * 2 + ["later"] * 2 + ["slow"] * 2 + \
    ["deaf"] + ["gone"] * 2
# From the peer's 250 to our record of it: more is no accident of the moment.
RECORD_SECONDS_MAX = 5
DRAIN_SECONDS_MAX = 240
# To one here and one elsewhere.
ALIAS, BEHIND = "all@play.test", ["eva@play.test", "all@takes0.test"]
# So often that kills come in them, too, and what waits is in files and not in the journal.
CHECKPOINTS = '[store]\ncheckpoint_interval = "300ms"\n'
score = Score()


def chance(name, one_in):
    """The same for the same name, in every attempt."""
    return zlib.crc32(name.encode()) % one_in == 0


class Destination:
    """A domain, its host, and what that makes of letters."""

    def __init__(self, number, kind, port):
        self.kind, self.domain = kind, f"{kind}{number}.test"
        # Letters whose answer was never given.
        self.unheard, self.lock = Counter(), threading.Lock()
        rules = {
            "refuses": {"rcpt": lambda _, to, _n: "550 5.1.1 no such user"
                        if chance(to, 4) else None},
            "reads": {"end": lambda one, _, _n: "554 5.6.0 not such a content"
                      if chance(name_of(one.content), 4) else None},
            "later": {"rcpt": lambda _, _to, n: "450 4.2.1 later" if n % 3 == 1 else None},
            "slow": {"end": lambda *_: Slowly("250 2.0.0 at last", 0.15)},
            "deaf": {"end": self.hang_up},
        }.get(kind, {})
        self.sink = Sink(port=port, **rules)

    def hang_up(self, one, _argument, _count):
        name = name_of(one.content)
        with self.lock:
            if self.unheard[name] or not chance(name, 5):
                return None
            self.unheard[name] += 1
        return TAKE_AND_DROP

    def refuses(self, name, address):
        return (self.kind == "refuses" and chance(address, 4)
                or self.kind == "reads" and chance(name, 4))


class Ledger:
    """What was given, and what was said of it."""

    def __init__(self, seed, destinations, count):
        self.seed, self.destinations, self.count = seed, destinations, count
        self.lock, self.changed = threading.Lock(), threading.Condition()
        # name -> (user, recipients, raw)
        self.given, self.acknowledged, self.refused = {}, set(), Counter()

    def make(self, number, attempt):
        dice = random.Random(f"{self.seed} {number}")
        name = f"m{number}x{attempt}"
        user = dice.choice(USERS)
        hosts = dice.sample(self.destinations, dice.randint(1, 4))
        to = [f"u{number}{n}@{host.domain}" for host in hosts
              for n in range(dice.choice((1, 1, 1, 2, 5)))]
        if dice.random() < 0.2:
            to.append(dice.choice((*(f"{user}@play.test" for user in USERS), ALIAS)))
        lines = dice.choice((3, 30, 300)) if dice.random() < 0.98 else 20_000
        raw = letter(name, sender=f"{user}@play.test",
                     body=f".{name} {dice.random()}\r\n" + "a line of its body\r\n" * lines)
        return name, user, to, raw

    def note(self, name, user, to, raw):
        with self.lock:
            self.given[name] = (user, to, raw)

    def acknowledge(self, name):
        with self.changed:
            self.acknowledged.add(name)
            self.changed.notify_all()

    def wait(self, count, seconds):
        with self.changed:
            return self.changed.wait_for(lambda: len(self.acknowledged) >= count, seconds)


class Sender(threading.Thread):
    """Gives its letters until each is acknowledged, whatever happens to the server."""

    def __init__(self, site, ledger, numbers, up, user):
        super().__init__(daemon=True)
        self.site, self.ledger, self.numbers, self.up = site, ledger, numbers, up
        self.smtp, self.fault, self.over = {}, None, threading.Event()

    def run(self):
        try:
            for number in self.numbers:
                attempt = 0
                while not self.give(number, attempt):
                    attempt += 1
                    if self.over.is_set():
                        return
                    self.up.wait(30)
        except Exception as fault:
            self.fault = fault

    def give(self, number, attempt):
        name, user, to, raw = self.ledger.make(number, attempt)
        try:
            if user not in self.smtp:
                self.smtp[user] = self.site.submission(user)
            smtp = self.smtp[user]
            assert smtp.mail(f"{user}@play.test")[0] == 250
            for address in to:
                code, said = smtp.rcpt(address)
                assert code == 250, (address, code, said)
            # From here on it may be taken although nobody says so.
            self.ledger.note(name, user, to, raw)
            code, said = smtp.data(raw)
            if code == 250:
                self.ledger.acknowledge(name)
                return True
            self.ledger.refused[f"{code} {said.decode()[:60]}"] += 1
            smtp.rset()
        except (OSError, EOFError, smtplib.SMTPException):
            for one in self.smtp.values():
                one.close()
            self.smtp.clear()
        return False


def kill_and_start(site, up, killed, dice):
    """Comes back with another number of shards now and then: what waits changes its owner."""
    up.clear()
    site.child.send_signal(signal.SIGKILL)
    site.child.wait()
    # Whatever the one before began was begun by now, and what comes now comes of the next.
    killed.append(time.monotonic())
    if dice.random() < 0.3:
        site.configure(site.text.replace("shards = 2", f"shards = {dice.randint(1, 4)}"))
    site.start()
    up.set()


def storm(site, ledger, kills, dice):
    """Gives all letters and kills meanwhile, and then while the rest leaves. The times of it."""
    up, killed = threading.Event(), []
    up.set()
    senders = [Sender(site, ledger, range(n, ledger.count, 8), up, n) for n in range(8)]
    away = [one.sink for one in ledger.destinations if one.kind == "gone"]
    while_given = kills * 4 // 5
    for sender in senders:
        sender.start()
    for kill in range(while_given):
        # Anywhere in its part of the letters, and anywhere in what follows on one.
        at = (kill + dice.random()) * ledger.count / while_given
        if kill == while_given // 5:
            for sink in away:
                sink.stop()
        ledger.wait(at, 60)
        site.lives(dice.random() * 0.3)
        kill_and_start(site, up, killed, dice)
    assert ledger.wait(ledger.count, 300), "not all were acknowledged"
    for sender in senders:
        sender.join(60)
        assert sender.fault is None, repr(sender.fault)
    for sink in away:
        sink.start()
    for _ in range(kills - while_given):
        site.lives(dice.random() * 2)
        kill_and_start(site, up, killed, dice)
    return killed


def ends(site, destinations):
    """What became of all letters: copies and notices by (name, recipient)."""
    copies, notices = defaultdict(list), Counter()
    for destination in destinations:
        for one, to in destination.sink.taken():
            copies[name_of(one.content), to].append(one)
    for user in USERS:
        for raw in site.messages(user):
            if b"multipart/report" in raw:
                notice = Notice(raw)
                about = notice.original.get_payload()
                about = about[0]["Subject"] if isinstance(about, list) else name_of(about.encode())
                for one in notice.each:
                    assert one["action"] == "failed", one
                    notices[about, one["final-recipient"].split(";")[1].strip()] += 1
            else:
                copies[name_of(raw), f"{user}@play.test"].append(raw)
    return copies, notices


def judge(ledger, copies, notices, killed):
    """Every (name, recipient) has exactly one end."""
    by_domain = {one.domain: one for one in ledger.destinations}
    lost, wrong, odd = [], [], []
    twice = Counter()
    longest = 0
    for name, (user, to, raw) in ledger.given.items():
        is_certain = name in ledger.acknowledged
        to = [one for address in to for one in (BEHIND if address == ALIAS else [address])]
        has_end = [bool(copies[name, address] or notices[name, address]) for address in to]
        if not is_certain and not any(has_end):
            continue
        for address, ended in zip(to, has_end):
            if not ended:
                lost.append((name, address, is_certain))
                continue
            came, told = copies[name, address], notices[name, address]
            host = by_domain.get(address.partition("@")[2])
            if host is None:
                if len(came) != 1 or told or not came[0].endswith(raw):
                    wrong.append((name, address, len(came), told))
                continue
            refused = host.refuses(name, address)
            if (told, bool(came)) != ((1, False) if refused else (0, True)):
                wrong.append((name, address, len(came), told, refused))
            for one in came:
                same(one.content, raw)
            in_order = sorted(came, key=lambda one: one.ended)
            for n, one in enumerate(in_order[:-1]):
                if n < host.unheard[name]:
                    twice["unheard"] += 1
                    continue
                again = in_order[n + 1].began
                answered = one.answered or one.ended
                gap = min((kill - answered for kill in killed if one.began <= kill <= again),
                          default=None)
                if gap is None or gap > RECORD_SECONDS_MAX:
                    last = max((kill for kill in killed if kill < again), default=again)
                    odd.append((name, address, [
                        f"{copy.connection}.{copy.number}: {copy.began - last:+.3f} to "
                        f"{copy.ended - last:+.3f} s" for copy in in_order]))
                else:
                    twice["killed"] += 1
                    longest = max(gap, longest)
    return lost, wrong, odd, twice, longest


def play(folder, binary, count, kills, seed):
    ports = free_ports(len(KINDS))
    destinations = [Destination(n, kind, port)
                    for n, (kind, port) in enumerate(zip(KINDS, ports))]
    ledger, dice = Ledger(seed, destinations, count), random.Random(f"{seed} kills")
    site = Site(folder, binary, [(one.domain, one.sink.port) for one in destinations],
                queue=QUICK + "recipients_per_message_max = 2\n", users=USERS, tables=CHECKPOINTS,
                aliases=[(ALIAS, *BEHIND)])
    began = time.monotonic()
    try:
        with site:
            killed = storm(site, ledger, kills, dice)
            given = time.monotonic() - began
            site.wait_empty(DRAIN_SECONDS_MAX)
            expected = sum(one.refuses(name, to) for name in ledger.acknowledged
                           for one in destinations for to in ledger.given[name][1]
                           if to.endswith(one.domain))
            site.until(lambda: sum(ends(site, destinations)[1].values()) >= expected,
                       f"{expected} notices", step=0.5)
            copies, notices = ends(site, destinations)
    finally:
        for one in destinations:
            one.sink.stop()
    faults = [fault for one in destinations for fault in one.sink.faults]
    lost, wrong, odd, twice, longest = judge(ledger, copies, notices, killed)
    recipients = sum(len(ledger.given[name][1]) for name in ledger.acknowledged)
    maybe = len(ledger.given) - len(ledger.acknowledged)
    print(f"     {len(ledger.acknowledged)} letters acknowledged with {recipients} recipients, "
          f"{maybe} not; {len(killed)} kills; given in {given:.0f} s, all gone in "
          f"{time.monotonic() - began:.0f} s")
    print(f"     {sum(notices.values())} notices; twice: {twice['killed']} by a kill "
          f"(at most {longest:.3f} s behind the peer's 250), {twice['unheard']} by a peer that "
          f"hung up")
    if ledger.refused:
        print(f"     refused and given again: {dict(ledger.refused)}")
    score.check("all are acknowledged", len(ledger.acknowledged) == count)
    score.check("nothing is lost", not lost, (len(lost), lost[:10]))
    score.check("each recipient has one end, and the right one", not wrong,
                (len(wrong), wrong[:10]))
    score.check("what came twice came so by a kill", not odd,
                f"{len(odd)}, by seconds from the kill before: {odd[:10]}")
    score.check("no peer was told what may not be said", not faults, faults[:5])


def main():
    binary, *rest = sys.argv[1:]
    count, kills, seed = (*map(int, rest), *(2000, 20, None)[len(rest):])
    seed = seed if seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"     seed {seed}", flush=True)
    score.play("kill -9", lambda folder: play(folder, binary, count, kills, seed))
    score.end()


main()
