#!/usr/bin/env python3
"""Mail that leaves, against peers that take it, refuse it, break off, say nothing or lie: what
each of them got, octet for octet, and what the sender was told, field for field.

    tests/queue/peers.py PALOMAR [SCENE]

Ends with `N passed, M failed`.
"""

import contextlib
import json
import re
import signal
import smtplib
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from sink import DROP, FULL, TAKE_AND_DROP, Sink, Slowly, certificate
from way_out import QUICK, SECONDS_MAX, Notice, Site, final, letter, name_of, same

from stage.score import Score

score = Score()
BINARY = None
SCENES = {}


def scene(function):
    SCENES[function.__name__] = function
    return function


def first(times, reply):
    """That reply to the first `times`, and no objection later."""
    return lambda _letter, _argument, count: reply if count <= times else None


def always(reply):
    return lambda _letter, _argument, _count: reply


def by_address(**replies):
    """Of recipients by the name before the @."""
    def rule(_letter, address, count):
        told = replies.get(address.partition("@")[0])
        return told(count) if callable(told) else told
    return rule


def found_once(notices, address):
    """The facts of the one notice that tells of this recipient."""
    found = [notice.of(address) for notice in notices if notice.names(address)]
    assert len(found) == 1, (address, [notice.each for notice in notices])
    return found[0]


def facts(got, action, status, diagnostic=None):
    assert (got["action"], got["status"]) == (action, status), got
    if diagnostic is not None:
        assert got["diagnostic-code"].split("; ", 1) == ["smtp", diagnostic], got
    return got


# ---- what the peer gets ----

BODIES = {
    "dots": "..\r\n.\r\n.x\r\n...\r\n\r\n. \r\n.",
    "empty": "",
    "lines": "".join(f"{n} {'y' * (n % 900)}\r\n" for n in range(900)),
    "dotted": ".\r\n" * 20_000,
    "large": "0123456789abcdef0123456789abcdef0123456789abcdef\r\n" * 60_000,
    "eight": "Grüße, señor: ñ ß €\r\n" * 50,
    "blank": "\r\n" * 5_000,
}


@scene
def contents(folder):
    """Each letter through DATA, through BDAT and to a host without 8BITMIME or PIPELINING."""
    sinks = {
        "data.test": Sink(),
        "bdat.test": Sink(offers=(*FULL, "CHUNKING")),
        "old.test": Sink(offers=()),
        "helo.test": Sink(ehlo=always("500 5.5.1 what is that")),
    }
    with contextlib.ExitStack() as stack:
        for sink in sinks.values():
            stack.enter_context(sink)
        site = stack.enter_context(
            Site(folder, BINARY, [(name, sink.port) for name, sink in sinks.items()]))
        sent = {}
        for name, body in BODIES.items():
            raw = letter(name, body=body)
            # What smtplib makes of a last line without an end.
            sent[name] = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
            site.send([f"bea@{domain}" for domain in sinks], raw,
                      mail=["BODY=8BITMIME"] if name == "eight" else ())
        for domain, sink in sinks.items():
            sink.wait(lambda sink: len(sink.taken()) == len(BODIES))
            for got, to in sink.taken():
                assert to == f"bea@{domain}" and got.sender == "ana@play.test", got.recipients
                same(got.content, sent[name_of(got.content)])
                wanted = "BDAT" if domain == "bdat.test" else "DATA"
                assert got.manner == wanted, got.manner
                eight = got.parameters.get("BODY")
                if domain in ("data.test", "bdat.test"):
                    assert int(got.parameters["SIZE"]) == len(got.content), got.parameters
                    is_eight = name_of(got.content) == "eight"
                    assert (eight == "8BITMIME") == is_eight, got.parameters
                else:
                    assert not got.parameters, got.parameters
        site.wait_empty()
        assert site.messages() == [], "a notice of what went well"


@scene
def unfit(folder):
    """What a hop cannot take comes back without being tried."""
    utf8 = Sink(offers=(*FULL, "SMTPUTF8"))
    plain = Sink()
    small = Sink(offers=("PIPELINING", "SIZE 2000"))
    with utf8, plain, small, Site(folder, BINARY, [
            ("utf8.test", utf8.port), ("plain.test", plain.port), ("small.test", small.port),
            ("xn--bcher-kva.test", plain.port)]) as site:
        raw = letter("utf8")
        with site.submission() as smtp:
            smtp.ehlo_or_helo_if_needed()
            # smtplib writes addresses in UTF-8 only where it knows that they are.
            smtp.command_encoding = "utf-8"
            for address in ("josé@utf8.test", "josé@plain.test", "bea@bücher.test"):
                code, said = smtp.mail("ana@play.test", ["SMTPUTF8", "BODY=8BITMIME"])
                assert code == 250, said
                smtp.putcmd("rcpt", f"TO:<{address}>")
                code, said = smtp.getreply()
                assert code == 250, said
                code, said = smtp.data(raw)
                assert code == 250, said
        site.send("bea@small.test", letter("much", body="x\r\n" * 2000))
        site.send("bea@small.test", letter("little"))
        notices = site.wait_notices(3)
        site.wait_empty()
        [got] = utf8.taken()
        assert got[1] == "josé@utf8.test" and "SMTPUTF8" in got[0].parameters, got
        # SMTPUTF8 says that the header may need it, too, whatever the address has in A-labels.
        assert plain.taken() == [] and not any(one.recipients for one in plain.letters)
        facts(found_once(notices, "josé@plain.test"), "failed", "5.6.7")
        facts(found_once(notices, "bea@bücher.test"), "failed", "5.6.7")
        got = facts(found_once(notices, "bea@small.test"), "failed", "5.3.4")
        assert got["diagnostic-code"].startswith("x-palomar; "), got
        [(got, _)] = small.taken()
        assert name_of(got.content) == "little" and len(small.letters) == 1


@scene
def addresses(folder):
    """Addresses leave as they were written, each once."""
    sink = Sink()
    written = ['"a b"@one.test', r'"a\"b>c"@one.test', "bea+tag@ONE.test", "o'hara=x@one.test"]
    with sink, Site(folder, BINARY, [("one.test", sink.port)]) as site:
        site.send(written + written, letter("addresses"))
        site.wait_empty()
        assert [to for _, to in sink.taken()] == written, sink.told()


@scene
def reuse(folder):
    """Letters follow each other on a connection, no more at a time than may be."""
    sink, few = Sink(), Sink(offers=(*FULL, "LIMITS MAILMAX=3 RCPTMAX=2"))
    queue = QUICK + ("messages_per_connection_max = 8\nconnections_per_destination_max = 4\n"
                     'idle = "10s"\n')
    with sink, few, Site(folder, BINARY, [("one.test", sink.port), ("few.test", few.port)],
                         queue=queue) as site:
        with site.submission() as smtp:
            for n in range(60):
                smtp.sendmail("ana@play.test", [f"u{n}@one.test"], letter(f"n{n}"))
            for n in range(9):
                to = [f"u{m}@few.test" for m in range(5)]
                smtp.sendmail("ana@play.test", to, letter(f"f{n}"))
        sink.wait(lambda sink: len(sink.taken()) == 60)
        few.wait(lambda few: len(few.taken()) == 45)
        assert max(one.number for one in sink.letters) == 8
        assert sink.connections <= 60 / 8 + 4 + 1, sink.connections
        assert sink.open_most <= 4, sink.open_most
        assert max(one.number for one in few.letters) == 3
        assert all(len(one.recipients) <= 2 for one in few.letters)
        assert all(not one.refused for one in few.letters)
        print(f"     60 letters on {sink.connections} connections, "
              f"45 copies on {few.connections} with MAILMAX=3")


# ---- what the peer says ----

@scene
def separately(folder):
    """One letter to many: each recipient has his own end, and each failure is told once."""
    say = "550 5.1.1 no such user here"
    sinks = {
        "mixed.test": Sink(rcpt=by_address(
            no=say, later=lambda n: "450 4.2.1 full just now" if n == 1 else None,
            bare="550 no", long="550-5.7.1 one reason\r\n550-5.7.1 and another\r\n550 5.7.1 end")),
        "mail.test": Sink(mail=always("550 5.7.1 not from there")),
        "mail4.test": Sink(mail=first(1, "451 4.7.1 greylisted")),
        "data.test": Sink(data=always("554 5.7.1 nothing for us")),
        "data4.test": Sink(data=first(1, "451 4.3.0 a moment")),
        "dot.test": Sink(end=always("554 5.6.0 what a content")),
        "dot4.test": Sink(end=first(2, "451 4.3.0 not now")),
        "unheard.test": Sink(end=first(1, TAKE_AND_DROP)),
        "lost.test": Sink(end=first(2, DROP)),
        "closed.test": Sink(connect=first(2, DROP)),
        "away.test": Sink(connect=first(1, "421 4.3.2 going down")),
        "never.test": Sink(connect=first(1, "554 5.3.2 no mail here")),
        "mail421.test": Sink(mail=first(1, "421 4.3.2 enough")),
        "rcpt421.test": Sink(rcpt=first(1, "421 4.3.2 enough")),
        "dot421.test": Sink(end=first(1, "421 4.3.2 enough")),
        "drips.test": Sink(connect=first(1, Slowly("220 sink.test ESMTP", 3, drips=True))),
        "babbles.test": Sink(connect=first(1, "hello there, what a fine day")),
        "endless.test": Sink(connect=first(1, "220-" + "\r\n220-".join(["so much"] * 50_000))),
        "wide.test": Sink(connect=first(1, "220 " + "x" * 500_000)),
        "ahead.test": Sink(mail=first(1, "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 taken")),
        "many.test": Sink(rcpt=lambda letter, _a, _n: "452 4.5.3 too many"
                          if len(letter.recipients) >= 3 else None),
    }
    failing = {"no@mixed.test": ("5.1.1", say), "bare@mixed.test": ("5.0.0", "550 no"),
               "long@mixed.test": ("5.7.1", None),
               "bea@mail.test": ("5.7.1", "550 5.7.1 not from there"),
               "bea@data.test": ("5.7.1", "554 5.7.1 nothing for us"),
               "bea@dot.test": ("5.6.0", "554 5.6.0 what a content")}
    well = ["ok@mixed.test", "later@mixed.test"]
    well += [f"u{n}@many.test" for n in range(8)]
    well += [f"bea@{domain}" for domain in sinks
             if f"bea@{domain}" not in failing and domain not in ("mixed.test", "many.test")]
    with contextlib.ExitStack() as stack:
        for sink in sinks.values():
            stack.enter_context(sink)
        site = stack.enter_context(
            Site(folder, BINARY, [(name, sink.port) for name, sink in sinks.items()]))
        raw = letter("separately", body="One of many lines.\r\n" * 100)
        site.send([*failing, *well], raw)
        site.wait_empty()
        notices = site.wait_notices(1)
        site.until(lambda: sum(len(one.each) for one in site.notices()) >= len(failing),
                   "notices of all")
        notices = site.notices()
        for address, (status, diagnostic) in failing.items():
            got = facts(found_once(notices, address), "failed", status, diagnostic)
            assert "127.0.0.1" in got["remote-mta"], got
        assert "and another" in found_once(notices, "long@mixed.test")["diagnostic-code"]
        told = [one["final-recipient"] for notice in notices for one in notice.each]
        assert len(told) == len(failing), told
        for address in well:
            sink = sinks[address.partition("@")[2]]
            copies = 2 if "unheard" in address else 1
            assert len(sink.taken_by(address)) == copies, (address, sink.told())
        for sink in sinks.values():
            for got, _ in sink.taken():
                same(got.content, raw)
        refused = [sinks[name].taken() for name in ("mail.test", "data.test", "dot.test")]
        assert not any(refused), refused
        assert sinks["mixed.test"].taken_by("no@mixed.test") == []
        unsure = site.metric("palomar_queue_unsure_total")
        # `lost` closes behind the dot as well, and nobody can tell the two apart.
        assert unsure == 3, unsure
        many = [len(one.recipients) for one in sinks["many.test"].letters]
        print(f"     {len(failing)} of {len(failing) + len(well)} recipients refused, in "
              f"{len(notices)} notices; {unsure:.0f} answers lost, 1 duplicate; "
              f"452 behind three: {many}")


@scene
def half(folder):
    """Broken off in the middle: it is sent once more, and nobody has it twice."""
    sink = Sink(piece=lambda one, size, _: DROP if one.connection < 3 and size > 1_000_000
                else None)
    chunks = Sink(offers=(*FULL, "CHUNKING"), piece=sink.rules["piece"])
    with sink, chunks, Site(folder, BINARY, [
            ("half.test", sink.port), ("chunks.test", chunks.port)]) as site:
        raw = letter("half", body="0123456789abcdef0123456789abcdef0123456789abcde\r\n" * 300_000)
        site.send(["bea@half.test", "bea@chunks.test"], raw)
        for peer in (sink, chunks):
            peer.wait(lambda peer: peer.taken())
        site.wait_empty()
        for peer in (sink, chunks):
            [(got, _)] = peer.taken()
            same(got.content, raw)
            assert peer.connections == 3, peer.connections
        assert site.metric("palomar_queue_unsure_total") == 0


@scene
def lmtp(folder):
    """Each recipient has an answer of his own behind the dot."""
    sink = Sink(lmtp=True, end=by_address(
        no="550 5.2.1 not any more", full=lambda n: "452 4.2.2 full" if n == 1 else None))
    with sink, Site(folder, BINARY, [
            ("lmtp.test", sink.port, 'transport = "lmtp"')]) as site:
        raw = letter("lmtp")
        site.send([f"{name}@lmtp.test" for name in ("ok", "no", "full", "well")], raw)
        [notice] = site.wait_notices(1)
        site.wait_empty()
        got = facts(notice.of("no@lmtp.test"), "failed", "5.2.1", "550 5.2.1 not any more")
        assert len(notice.each) == 1, got
        for name in ("ok", "full", "well"):
            [once] = sink.taken_by(f"{name}@lmtp.test")
            same(once.content, raw)


@scene
def lmtp_breaks(folder):
    """The connection ends between two of the answers: who had his is not asked again."""
    sink = Sink(lmtp=True, end=by_address(b=lambda n: DROP if n == 1 else None))
    with sink, Site(folder, BINARY, [
            ("lmtp.test", sink.port, 'transport = "lmtp"')]) as site:
        site.send([f"{name}@lmtp.test" for name in "abc"], letter("breaks"))
        site.wait_empty()
        copies = [len(sink.taken_by(f"{name}@lmtp.test")) for name in "abc"]
        assert copies == [1, 1, 1] and len(sink.letters) == 2, copies
        assert sink.letters[1].addresses() == ["b@lmtp.test", "c@lmtp.test"]
        assert site.metric("palomar_queue_unsure_total") == 2
        assert site.messages() == []


@scene
def smarthost(folder):
    """All goes to one host that wants a log-in; a wrong password is no fault of the sender's."""
    login, strange = ("palomar", "s3cret pässword"), Sink(login=("palomar", "another"))
    (folder / "secret").write_text(f"{login[1]}\n")
    (folder / "secret").chmod(0o600)
    known = f'user = "palomar"\npassword_file = "{folder}/secret"\n'
    with Sink(login=login) as smart, strange, Site(
            folder / "site", BINARY, [("strange.test", strange.port, known)],
            relay=f'smarthost = "127.0.0.1:{smart.port}"\n{known}') as site:
        to = ["bea@one.test", "bea@two.test", "bea@strange.test"]
        site.send(to, letter("smart"))
        smart.wait(lambda smart: len(smart.taken()) == 2)
        site.until(lambda: site.recipients("deferred") >= 2, "two attempts at the other")
        assert sorted(to for _, to in smart.taken()) == ["bea@one.test", "bea@two.test"]
        assert not strange.letters and site.made("failure") == 0
        assert site.metric("palomar_queue_rows") == 1


@scene
def secured(folder):
    """TLS is taken where it is to be had; where it breaks the letter goes in the clear, unless the
    site wants more."""
    tls = certificate(folder)
    kept = Sink(tls=tls)
    broken = Sink(tls_breaks=True)
    refused = Sink(tls=tls, starttls=always("454 4.7.0 not now"))
    strict, strict_plain = Sink(tls=tls), Sink()
    with kept, broken, refused, strict, strict_plain, Site(folder / "site", BINARY, [
            ("kept.test", kept.port), ("broken.test", broken.port),
            ("refused.test", refused.port), ("strict.test", strict.port, 'tls = "verified"'),
            ("none.test", strict_plain.port, 'tls = "verified"'),
            ("never.test", kept.port, 'tls = "none"')]) as site:
        raw = letter("secured")
        site.send([f"bea@{name}.test" for name in
                   ("kept", "broken", "refused", "strict", "none", "never")], raw)
        kept.wait(lambda sink: len(sink.taken()) == 2)
        broken.wait(lambda sink: len(sink.taken()) == 1)
        refused.wait(lambda sink: len(sink.taken()) == 1)
        [got] = kept.taken_by("bea@kept.test")
        assert got.secured == "TLSv1.3", got.secured
        same(got.content, raw)
        [got] = kept.taken_by("bea@never.test")
        assert got.secured is None
        assert broken.taken()[0][0].secured is None and broken.connections == 2
        site.until(lambda: site.recipients("deferred") >= 4, "two attempts at each")
        for sink in (strict, strict_plain):
            assert sink.letters == [], sink.told()
        assert site.metric("palomar_queue_rows") == 2


# ---- what comes and goes ----

@scene
def away(folder):
    """A destination that hangs up on all: few ask whether it is back, and then all of it goes."""
    dead = threading.Event()
    dead.set()
    count = 600
    sink = Sink(connect=lambda *_: DROP if dead.is_set() else None)
    with sink, Site(folder, BINARY, [("away.test", sink.port)]) as site:
        with site.submission() as smtp:
            for n in range(count):
                smtp.sendmail("ana@play.test", [f"u{n}@away.test"], letter(f"away{n}"))
        began, asked = time.monotonic(), sink.connections
        sink.wait(lambda sink: sink.connections >= asked + 6)
        took, asked = time.monotonic() - began, sink.connections
        dead.clear()
        began = time.monotonic()
        sink.wait(lambda sink: len(sink.taken()) == count, 120)
        back = time.monotonic() - began
        site.wait_empty()
        assert len(sink.letters) == count
        # A probe at the end of each pause of a second.
        assert took > 3, (took, asked)
        print(f"     {count} letters, {asked} connections while it was away; all were there "
              f"{back:.1f} s after it was back")


@scene
def stopped(folder):
    """A stop while letters are under way: it waits for an answer that comes soon, and what it does
    not wait for goes after the next start."""
    sink = Sink(end=lambda *_: Slowly("250 2.0.0 at last", 2))
    domains = [f"slow{n}.test" for n in range(4)]
    with sink, Site(folder, BINARY, [(domain, sink.port) for domain in domains]) as site:
        # From connections of their own: so that entries and destinations are of any two shards.
        for n in range(4):
            for domain in domains:
                site.send(f"u{n}@{domain}", letter(f"slow{n}"))
        sink.wait(lambda sink: len(sink.letters) >= 8)
        began = time.monotonic()
        code = site.stop()
        took = time.monotonic() - began
        assert code == 0, code
        under_way = len(sink.letters)
        assert under_way < 16, under_way
        site.start()
        sink.wait(lambda sink: len({to for _, to in sink.taken()}) == 16)
        site.wait_empty()
        twice = len(sink.taken()) - 16
        assert twice == 0, f"{twice} twice"
        print(f"     stopped in {took:.1f} s with {under_way} letters under way")


@scene
def piecewise(folder):
    """Three transactions of one letter, and kill -9 in the last: who had his letter before has it
    once."""
    sink = Sink(end=lambda *_: Slowly("250 2.0.0 at last", 1))
    with sink, Site(folder, BINARY, [("many.test", sink.port)],
                    tables="[limits]\nrecipients_max = 300\n") as site:
        site.send([f"u{n}@many.test" for n in range(300)], letter("many"))
        sink.wait(lambda sink: len(sink.letters) == 3 and sink.letters[2].ended)
        site.stop(signal.SIGKILL)
        site.start()
        site.until(lambda: len({to for _, to in sink.taken()}) == 300, "all of them")
        site.wait_empty()
        copies = Counter(Counter(to for _, to in sink.taken()).values())
        assert copies == {1: 200, 2: 100}, copies


@scene
def operate(folder):
    """Held, released, tried now and removed by the command line."""
    open_now = threading.Event()
    sink = Sink(rcpt=lambda *_: None if open_now.is_set() else "450 4.2.1 not yet")
    with sink, Site(folder, BINARY, [("later.test", sink.port)],
                    queue='retry = ["1h"]\n') as site:
        ids = [site.send([f"u{n}@later.test", f"v{n}@later.test"], letter(f"later{n}"))
               for n in range(4)]
        site.until(lambda: site.recipients("deferred") == 8, "all were tried")
        way = json.loads(site.run("route", "u0@later.test", "--json").stdout)
        assert [hop["address"] for hop in way["hops"]] == [f"127.0.0.1:{sink.port}"], way
        assert site.run("route", "ana@play.test").stdout == "play.test is delivered here\n"
        [row] = json.loads(site.run("queue", "destinations", "--json").stdout)
        assert (row["destination"], row["waiting"], row["held"]) == ("later.test", 8, 0), row
        rows = json.loads(site.run("queue", "list", "--json").stdout)
        assert sorted(row["id"] for row in rows) == sorted(ids), rows
        for row in rows:
            assert [(one["state"], one["status"], one["tries"]) for one in row["recipients"]] == \
                [("waiting", "4.2.1", 1)] * 2, row
        site.run("queue", "hold", ids[0])
        site.run("queue", "remove", ids[1])
        open_now.set()
        site.run("queue", "retry", ids[2])
        sink.wait(lambda sink: len(sink.taken()) == 2)
        # The other two wait for their hour, or are held.
        site.until(lambda: len(json.loads(site.run("queue", "list", "--json").stdout)) == 2,
                   "two that are left")
        site.stop(signal.SIGKILL)
        site.start()
        row = json.loads(site.run("queue", "show", "--json", ids[0]).stdout)
        assert {one["state"] for one in row["recipients"]} == {"held"}, row
        site.run("queue", "retry", "--all")
        sink.wait(lambda sink: len(sink.taken()) == 4)
        site.run("queue", "release", ids[0])
        sink.wait(lambda sink: len(sink.taken()) == 6)
        site.wait_empty()
        assert site.run("queue", "list").stdout == "nothing waits\n"
        wanted = sorted(f"{name}{n}@later.test" for n in (0, 2, 3) for name in "uv")
        assert sorted(to for _, to in sink.taken()) == wanted
        assert site.messages() == [], "who removes a letter tells nobody"


# ---- what the sender is told ----

@scene
def notices(folder):
    """RFC 3461: NOTIFY, RET, ORCPT and ENVID, to hosts that know of it and to others."""
    plain = Sink(rcpt=by_address(no="550 5.1.1 nobody", never="550 5.1.1 nobody",
                                 hdrs="550 5.1.1 nobody", success="550 5.1.1 nobody"))
    dsn = Sink(offers=(*FULL, "DSN"))
    with plain, dsn, Site(folder, BINARY,
                          [("plain.test", plain.port), ("dsn.test", dsn.port)]) as site:
        raw = letter("noted", body="The body itself.\r\n" * 3)
        site.send("no@plain.test", raw, mail=["RET=FULL", "ENVID=QQ+2B314159"],
                  rcpt=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;Bob+2BOne@old.test"])
        [full] = site.wait_notices(1)
        got = facts(full.of("no@plain.test"), "failed", "5.1.1", "550 5.1.1 nobody")
        assert got["original-recipient"].replace(" ", "") == "rfc822;Bob+One@old.test", got
        assert full.whole["original-envelope-id"] == "QQ+314159", full.whole
        assert full.whole["reporting-mta"].startswith("dns;"), full.whole
        assert full.original.get_content_type() == "message/rfc822"
        inside = full.original.get_payload()[0]
        assert inside["Subject"] == "noted" and "The body itself." in inside.get_payload()
        assert "550 5.1.1 nobody" in full.words and "no@plain.test" in full.words, full.words
        assert full.message["Auto-Submitted"].startswith("auto-"), full.message
        assert b"Return-Path: <>" in full.raw, full.raw[:300]

        site.send("hdrs@plain.test", raw, mail=["RET=HDRS"])
        heads = site.wait_notices(2)[1]
        assert heads.original.get_content_type() == "text/rfc822-headers"
        assert b"The body itself" not in heads.raw and "noted" in heads.original.get_content()

        site.send("well@plain.test", raw, rcpt=["NOTIFY=SUCCESS"])
        relayed = site.wait_notices(3)[2]
        got = relayed.of("well@plain.test")
        assert got["action"] == "relayed" and got["status"].startswith("2."), got
        assert relayed.original.get_content_type() == "text/rfc822-headers"

        failed, relayed = site.made("failure"), site.made("success")
        site.send(["never@plain.test", "success@plain.test", "deaf@plain.test"], raw,
                  rcpt={"never@plain.test": ["NOTIFY=NEVER"],
                        "success@plain.test": ["NOTIFY=SUCCESS"],
                        "deaf@plain.test": ["NOTIFY=NEVER"]})
        site.send("bea@dsn.test", raw, mail=["RET=HDRS", "ENVID=e7"],
                  rcpt=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;b@old.test"])
        site.send("eva@dsn.test", raw, rcpt=["NOTIFY=NEVER"])
        dsn.wait(lambda sink: len(sink.taken()) == 2)
        plain.wait(lambda sink: sink.taken_by("deaf@plain.test"))
        site.wait_empty()
        assert (site.made("failure"), site.made("success")) == (failed, relayed)
        [got] = dsn.taken_by("bea@dsn.test")
        assert (got.parameters["RET"], got.parameters["ENVID"]) == ("HDRS", "e7"), got.parameters
        asked = got.recipients[0][1]
        assert set(asked["NOTIFY"].split(",")) == {"SUCCESS", "FAILURE"}, asked
        assert asked["ORCPT"].lower() == "rfc822;b@old.test", asked
        assert dsn.taken_by("eva@dsn.test")[0].recipients[0][1]["NOTIFY"] == "NEVER"

        # Nobody sent it, so nobody is told.
        dropped = site.made("dropped")
        site.relay("", "no@plain.test", raw)
        site.wait_empty()
        site.until(lambda: site.made("dropped") == dropped + 1, "a notice that is not made")
        # He has an address elsewhere, and is told there.
        site.relay("who@dsn.test", "no@plain.test", raw)
        dsn.wait(lambda sink: sink.taken_by("who@dsn.test"))
        [got] = dsn.taken_by("who@dsn.test")
        assert got.sender == "" and b"multipart/report" in got.content
        # Nobody has this address of ours.
        site.relay("nobody@play.test", "no@plain.test", raw)
        site.until(lambda: site.made("dropped") == dropped + 2, "a notice that is not made")
        site.wait_empty()
        assert len(site.messages()) == 3, len(site.messages())


@scene
def double(folder):
    """A notice that is refused itself brings none."""
    sink = Sink(rcpt=always("550 5.1.1 nobody at all"))
    with sink, Site(folder, BINARY, [("nobody.test", sink.port)]) as site:
        site.relay("who@nobody.test", "bea@nobody.test", letter("double"))
        site.until(lambda: site.recipients("failed") == 2, "both refused")
        site.wait_empty()
        assert [one.sender for one in sink.letters] == ["who@nobody.test", ""]
        assert (site.made("failure"), site.metric("palomar_queue_rows")) == (1, 0)
        assert sum(verb == "RCPT" for _, verb in sink.heard) == 2


# ---- many who are not there ----

HOLES = 200


@scene
def holes(folder):
    """Hosts on which a connection hangs keep mail for others waiting for seconds at most."""
    hole = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = hole.getsockname()[1]
    fill = [socket.socket() for _ in range(3)]
    for one in fill:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
    good = Sink()
    ways = [(f"hole{n}.test", port) for n in range(HOLES)] + [("good.test", good.port)]
    with hole, good, Site(folder, BINARY, ways, queue='retry = ["5m"]\n') as site:
        with site.submission() as smtp:
            for turn in range(3):
                for n in range(HOLES):
                    smtp.sendmail("ana@play.test", [f"u{turn}@hole{n}.test"],
                                  letter(f"x{turn}.{n}"))
        site.until(lambda: site.metric("palomar_queue_rows_out") >= HOLES, "all are out")
        began = time.monotonic()
        site.send("bob@good.test", letter("ordinary"))
        good.wait(lambda sink: sink.taken())
        waited = time.monotonic() - began
        print(f"     {HOLES} holes: an ordinary letter waited {waited:.1f} s")
        # One after the other, 100 at a time for 30 s each, it would be a minute.
        assert waited < 20, waited
    for one in fill:
        one.close()


# ---- aliases ----

@scene
def aliases(folder):
    """An address here that leads elsewhere, alone and with a copy here."""
    sink, elsewhere = Sink(rcpt=by_address(no="550 5.1.1 gone")), Sink()
    with sink, elsewhere, Site(folder, BINARY, [
            ("out.test", sink.port), ("elsewhere.test", elsewhere.port)], aliases=[
            ("away@play.test", "far@out.test"),
            ("both@play.test", "ana@play.test", "far@out.test", "wide@out.test"),
            ("gone@play.test", "no@out.test")], users=("ana", "bob")) as site:
        raw = letter("away")
        site.relay("who@elsewhere.test", "away@play.test", raw)
        sink.wait(lambda sink: sink.taken())
        [(got, to)] = sink.taken()
        same(got.content, raw)
        assert to == "far@out.test"
        # It left in our name, since it leaves from our address (SRS), and what comes back to that
        # name is for who sent it.
        srs = r"SRS0=[^=]+=[^=]+=elsewhere.test=who@play.test"
        assert re.fullmatch(srs, got.sender), got.sender
        site.relay("", got.sender, letter("back"))
        elsewhere.wait(lambda sink: sink.taken())
        [(back, to)] = elsewhere.taken()
        assert (back.sender, to) == ("", "who@elsewhere.test")
        with smtplib.SMTP("127.0.0.1", site.ports["smtp"], "neighbour") as smtp:
            smtp.ehlo()
            smtp.mail("")
            code, said = smtp.rcpt(got.sender.replace("=who@", "=whom@"))
            assert code == 550, said
        site.relay("who@elsewhere.test", "gone@play.test", letter("gone"))
        elsewhere.wait(lambda sink: len(sink.taken()) == 2)
        notice, to = elsewhere.taken()[1]
        assert (notice.sender, to) == ("", "who@elsewhere.test")
        facts(Notice(notice.content).of("no@out.test"), "failed", "5.1.1")
        assert b"Delivered-To: away@play.test\r\n" in got.content
        raw = letter("both")
        site.send("both@play.test", raw, sender="bob", user="bob")
        sink.wait(lambda sink: len(sink.taken()) == 3)
        [here] = site.until(site.messages, "the copy here")
        assert here.endswith(raw) and here.count(b"\r\nSubject: both") == 1
        site.send("gone@play.test", letter("gone"), sender="bob", user="bob")
        [notice] = site.wait_notices(1, user="bob")
        got = facts(notice.of("no@out.test"), "failed", "5.1.1")
        assert got["original-recipient"].replace(" ", "") == "rfc822;gone@play.test", got
        site.wait_empty()


@scene
def verp(folder):
    """Who wants it (XVERP) has a sender for each recipient, whose bounces come to him."""
    sink = Sink()
    with sink, Site(folder, BINARY, [("out.test", sink.port)], users=("ana", "news")) as site:
        raw = letter("news", sender="news@play.test")
        site.send(["a@out.test", "b+c@out.test", "ana@play.test"], raw, sender="news",
                  user="news", mail=["XVERP"])
        sink.wait(lambda sink: len(sink.taken()) == 2)
        assert {(to, one.sender) for one, to in sink.taken()} == {
            ("a@out.test", "news+a=out.test@play.test"),
            ("b+c@out.test", "news+b+c=out.test@play.test")}, sink.taken()
        site.relay("", "news+a=out.test@play.test", letter("bounce"))
        [bounce] = site.until(lambda: site.messages("news"), "the bounce")
        assert b"Delivered-To: news+a=out.test@play.test\r\n" in bounce, bounce[:300]
        [here] = site.until(site.messages, "the copy here")
        assert here.startswith(b"Return-Path: <news@play.test>\r\n"), here[:200]


@scene
def catch_all(folder):
    """Whoever takes the mail of unknown addresses does not take what comes back for a sender."""
    sink, elsewhere = Sink(), Sink()
    with sink, elsewhere, Site(folder, BINARY, [
            ("out.test", sink.port), ("elsewhere.test", elsewhere.port)], aliases=[
            ("away@play.test", "far@out.test"), ("@play.test", "ana@play.test")]) as site:
        site.relay("who@elsewhere.test", "away@play.test", letter("away"))
        sink.wait(lambda sink: sink.taken())
        [(got, _)] = sink.taken()
        site.relay("", got.sender, letter("back"))
        elsewhere.wait(lambda sink: sink.taken())
        # An address that we did not make is an unknown one.
        forged = letter("forged")
        site.relay("", got.sender.replace("=who@", "=whom@"), forged)
        [here] = site.until(site.messages, "the forged one here")
        assert here.endswith(forged)
        site.wait_empty()


@scene
def circle(folder):
    """Two servers, each of which leads an address to the other: it ends, and the sender knows."""
    with contextlib.ExitStack() as stack:
        near = Site(folder / "near", BINARY, aliases=[("round@play.test", "round@far.test")])
        far = Site(folder / "far", BINARY, [("play.test", near.ports["smtp"])],
                   domain="far.test", aliases=[("round@far.test", "round@play.test")])
        near.configure(near.text + f'[[route]]\ndomain = "far.test"\nhop = "127.0.0.1:'
                       f'{far.ports["smtp"]}"\n')
        stack.enter_context(near)
        stack.enter_context(far)
        near.send("round@play.test", letter("round"))
        [notice] = near.wait_notices(1)
        [one] = notice.each
        assert (one["action"], one["status"]) == ("failed", "5.4.6"), one
        near.wait_empty()
        far.wait_empty()
        assert near.recipients("delivered") + far.recipients("delivered") <= 3


@scene
def hops(folder):
    """A host that sends all back, and takes out what a loop is known by but for Received."""
    site = None
    rounds, refused = [], []

    def send_back(one, _address, _count):
        kept = b"".join(line for line in one.content.splitlines(keepends=True)
                        if not line.lower().startswith(b"delivered-to:"))
        rounds.append(kept)
        with smtplib.SMTP("127.0.0.1", site.ports["smtp"], "back", SECONDS_MAX) as smtp:
            try:
                smtp.sendmail(one.sender, ["round@play.test"], kept)
            except (smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused) as why:
                refused.append(why.args)
                return f"{why.smtp_code} {why.smtp_error.decode()}" \
                    if isinstance(why, smtplib.SMTPDataError) else "554 5.4.6 refused"
        return None

    sink = Sink(end=send_back)
    with sink, Site(folder, BINARY, [("back.test", sink.port)],
                    aliases=[("round@play.test", "round@back.test")]) as site:
        site.send("round@play.test", letter("hops"))
        [notice] = site.wait_notices(1, seconds=120)
        [one] = notice.each
        assert (one["action"], one["status"]) == ("failed", "5.4.6"), one
        site.wait_empty()
        assert len(refused) == 1 and len(rounds) <= 101, (refused, len(rounds))
        print(f"     refused after {len(rounds)} rounds: {refused[0][1].decode()}")


# ---- what takes long ----

@contextlib.contextmanager
def patience():
    """Begins what takes a minute, and checks it after all other scenes."""
    queue = 'retry = ["2s"]\npause = "2s"\npause_max = "4s"\ndelay_notice_after = "1m"\n' \
            'expire_after = "75s"\n'
    busy = Sink(rcpt=by_address(slow="450 4.2.1 later", deaf="450 4.2.1 later",
                                late=lambda n: None))
    with tempfile.TemporaryDirectory(prefix="palomar-play-") as folder:
        dead = socket.create_server(("127.0.0.1", 0))
        port = dead.getsockname()[1]
        # Bound and not listening: whoever connects is refused, and nobody else gets the port.
        dead.close()
        dead = socket.socket()
        dead.bind(("127.0.0.1", port))
        with busy, Site(folder, BINARY, [("busy.test", busy.port), ("dead.test", port)],
                        queue=queue) as site:
            site.send(["slow@busy.test", "deaf@busy.test", "ok@busy.test", "bea@dead.test"],
                      letter("patience"),
                      rcpt={"deaf@busy.test": ["NOTIFY=FAILURE"]})
            try:
                yield lambda: waited(site, busy)
            finally:
                dead.close()


def waited(site, busy):
    site.until(lambda: sum(len(one.each) for one in site.notices()) >= 2, "delays told", 120)
    # What was told is told once, also by the next one.
    site.stop(signal.SIGKILL)
    site.start()
    site.until(lambda: site.metric("palomar_queue_rows") == 0, "the end", 120)
    site.until(lambda: sum(len(one.each) for one in site.notices()) >= 5, "all notices")
    notices = site.notices()
    told = sorted((final(one), one["action"], one["status"])
                  for notice in notices for one in notice.each)
    assert told == [
        ("bea@dead.test", "delayed", "4.4.1"), ("bea@dead.test", "failed", "4.4.1"),
        ("deaf@busy.test", "failed", "4.2.1"),
        ("slow@busy.test", "delayed", "4.2.1"), ("slow@busy.test", "failed", "4.2.1")], told
    for notice in notices:
        for one in notice.each:
            assert ("will-retry-until" in one) == (one["action"] == "delayed"), one
    assert [to for _, to in busy.taken()] == ["ok@busy.test"]
    tries = busy.counts["rcpt", "slow@busy.test"]
    # 75 s, from 1.6 to 2.4 s apart.
    assert 28 <= tries <= 50, tries
    print(f"     {tries} attempts in 75 s, each about 2 s apart; five ends and delays told")


def main():
    global BINARY
    BINARY = sys.argv[1]
    wanted = sys.argv[2:]
    with contextlib.ExitStack() as stack:
        check = stack.enter_context(patience()) if not wanted or "waits" in wanted else None
        for name, play in SCENES.items():
            if not wanted or name in wanted:
                score.play(name, play)
        if check:
            score.play("waits", lambda _folder: check())
    score.end()


main()
