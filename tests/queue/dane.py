#!/usr/bin/env python3
"""Mail to hosts whose zones say which certificates they have (RFC 7672): a root, zones and their
signatures of our own, served by Debian's Knot; certificates by openssl. What fits is delivered,
what does not waits, and a zone without signatures asks for nothing. MX hosts listen on port 25 of
127.0.1.x, which needs root: without, all is skipped.

    tests/queue/dane.py PALOMAR [SCENE]

Ends with `N passed, M failed`.
"""

import contextlib
import email
import email.policy
import gzip
import hashlib
import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "dns"))

from sink import Sink
from way_out import Site, letter
from zones import SOA, Knot, sign

from stage.score import Score

score = Score()
BINARY = None
SCENES = {}
OTHER = "00112233445566778899aabbccddeeff" * 2
DELEGATED = "{0}. 3600 IN NS ns.test.\n"


def scene(function):
    SCENES[function.__name__] = function
    return function


def openssl(*words):
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True).stdout


class Certificate:
    """For `name`, signed by itself or by `authority`."""

    def __init__(self, folder, name, authority=None, may_sign=False):
        self.file, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        chain = ["-CA", authority.file, "-CAkey", authority.key] if authority else []
        use = f"basicConstraints=critical,CA:{'TRUE' if may_sign else 'FALSE'}"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", 30, "-subj", f"/CN={name}",
                "-addext", f"subjectAltName=DNS:{name}", "-addext", use, "-keyout", self.key,
                "-out", self.file, *chain)
        self.whole = openssl("x509", "-in", self.file, "-outform", "DER")
        public = folder / f"{name}.pub"
        public.write_bytes(openssl("x509", "-in", self.file, "-pubkey", "-noout"))
        self.public = openssl("pkey", "-pubin", "-in", public, "-outform", "DER")
        if authority:
            self.file.write_text(self.file.read_text() + authority.file.read_text())

    def serves(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sha512(data):
    return hashlib.sha512(data).hexdigest()


def host(name, last, *tlsa):
    """A domain, its one MX, and what the zone says of that."""
    lines = f"{name} 60 IN MX 10 mx-{name}\nmx-{name} 60 IN A 127.0.1.{last}\n"
    return lines + "".join(f"_25._tcp.mx-{name} 60 IN TLSA {record}\n" for record in tlsa)


class World:
    """Zones, certificates, and a Knot that has the zones."""

    def __init__(self, folder):
        self.folder = folder / "zones"
        self.folder.mkdir()
        root = Certificate(self.folder, "root", may_sign=True)
        # For a name that nobody has.
        self.own = Certificate(self.folder, "nobody.example")
        self.signed = Certificate(self.folder, "mx-authority.test", root)
        own = f"3 1 1 {sha256(self.own.public)}"
        ours = (f"3 0 2 {sha512(self.own.whole)}", f"2 0 1 {sha256(root.whole)}")
        text = (
            "ns 3600 IN A 127.0.0.1\n"
            + host("right", 11, own)
            + host("whole", 11, f"3 0 0 {self.own.whole.hex()}")
            + host("several", 11, f"3 1 1 {OTHER}", "0 0 1 " + OTHER, *ours)
            + host("wrong", 12, f"3 1 1 {OTHER}")
            + host("unusable", 12, f"1 1 1 {OTHER}")
            + host("authority", 13, f"2 0 1 {sha256(root.whole)}")
            + host("misnamed", 13, f"2 1 1 {sha256(root.public)}")
            + host("bare", 14, own)
            + "second 60 IN MX 10 mx-wrong\nsecond 60 IN MX 20 mx-right\n"
            + "alias 60 IN MX 10 www\nwww 60 IN CNAME mx-right\n"
            # Reports go to a domain whose own certificate is none of those that it names.
            + "".join(f'_smtp._tls.{name} 60 IN TXT "v=TLSRPTv1; rua=mailto:tls@wrong.test"\n'
                      for name in ("mx-right", "mx-wrong")))
        test, test_ds, _ = sign(self.folder, "test.", text)
        broken, broken_ds, _ = sign(self.folder, "broken.", host("late", 11, f"3 1 1 {OTHER}"))
        changed = broken.read_text().replace(OTHER, sha256(self.own.public))
        assert changed != broken.read_text()
        broken.write_text(changed)
        plain = self.folder / "plain.zone"
        plain.write_text(f"$ORIGIN plain.\n{SOA}" + host("some", 12, f"3 1 1 {OTHER}"))
        below = "".join(DELEGATED.format(zone) for zone in ("test", "broken", "plain"))
        top, _, self.anchor = sign(
            self.folder, ".", f"{below}ns.test. 3600 IN A 127.0.0.1\n{test_ds}{broken_ds}")
        (folder / "knot").mkdir()
        self.knot = Knot(folder / "knot", {
            ".": top, "test.": test, "broken.": broken, "plain.": plain})

    def site(self, folder, **more):
        servers = f'[dns]\nservers = ["127.0.0.1:{self.knot.port}"]\n'
        trust = f'dnssec = "on"\ntrust_anchor_file = "{self.anchor}"\n'
        return Site(folder / "site", BINARY, relay="local_addresses = true\n",
                    tables=servers + trust, **more)


@contextlib.contextmanager
def hosts(world):
    def at(last, tls):
        return Sink(address=f"127.0.1.{last}", port=25, tls=tls)

    with at(11, world.own.serves()) as own, at(12, world.own.serves()) as other, \
            at(13, world.signed.serves()) as signed, at(14, None) as bare:
        yield own, other, signed, bare


@scene
def delivered(folder):
    """What fits, in each form of record, whatever name is in a certificate that is named itself; and
    what asks for nothing that we could check."""
    world = World(folder)
    with world.knot, hosts(world) as (own, other, signed, _), world.site(folder) as site:
        for domain, sink in (("right.test", own), ("whole.test", own), ("several.test", own),
                             ("authority.test", signed), ("unusable.test", other),
                             ("alias.test", own), ("some.plain", other)):
            to = f"bea@{domain}"
            site.send(to, letter(domain))
            sink.wait(lambda sink: sink.taken_by(to))
            [got] = sink.taken_by(to)
            score.check(f"{domain}: delivered over {got.secured}", got.secured is not None)
        site.send("bea@second.test", letter("second"))
        own.wait(lambda own: own.taken_by("bea@second.test"))
        score.check("second.test: past a host that does not fit, to one that does",
                    not other.taken_by("bea@second.test"))
        site.wait_empty()


@scene
def waiting(folder):
    """What does not fit waits, and the host hears nothing of it."""
    world = World(folder)
    wanted = {
        "wrong.test": ("4.7.5", "none of its certificates"),
        "misnamed.test": ("4.7.5", "not valid for name"),
        "bare.test": ("4.7.10", "TLS is required"),
        "late.broken": ("4.4.3", "TLSA"),
    }
    with world.knot, hosts(world) as sinks, world.site(folder) as site, site.log() as log:
        for domain, (status, words) in wanted.items():
            site.send(f"bea@{domain}", letter(domain))
            entry = log.event("message.deferred", rcpt=f"<bea@{domain}>")
            score.check(f"{domain}: {entry['status']} {entry['reply']}",
                        entry["status"] == status and words in entry["reply"], entry)
        for sink in sinks:
            assert sink.letters == [], sink.told()
        site.until(lambda: site.metric("palomar_queue_rows") == len(wanted), "all that wait")
        assert site.made("failure") == 0


def report_in(content):
    """The report of a mail, taken apart (RFC 8460 5.3)."""
    mail = email.message_from_bytes(content, policy=email.policy.default)
    assert mail.get_content_type() == "multipart/report", mail["Content-Type"]
    assert mail["Content-Type"].params["report-type"] == "tlsrpt"
    assert not mail.defects, mail.defects
    _, file = mail.iter_parts()
    assert file.get_content_type() == "application/tlsrpt+gzip", file.get_content_type()
    report = json.loads(gzip.decompress(file.get_content()))
    assert mail["TLS-Report-Domain"] and mail["TLS-Report-Submitter"] == "play.test"
    assert report["report-id"] in mail["Subject"], (mail["Subject"], report["report-id"])
    return mail, report


@scene
def reports(folder):
    """What TLS came to is counted over a restart and a kill, and told those who want it: signed,
    and whatever their own host asks of TLS."""
    world = World(folder)
    with world.knot, hosts(world) as (own, other, *_), world.site(folder) as site, \
            site.log() as log:
        site.run("dkim", "make", "play.test")
        site.run("dkim", "activate", "play.test", "--force")
        for turn in range(2):
            site.send("bea@right.test", letter(f"right{turn}"))
            own.wait(lambda sink: len(sink.taken()) == turn + 1)
            if turn == 0:
                site.send("bea@wrong.test", letter("wrong"))
                log.event("message.deferred", rcpt="<bea@wrong.test>")
                site.run("queue", "hold", "--all")
                site.stop()
                site.start()
        site.send("bea@unusable.test", letter("unusable"))
        other.wait(lambda sink: sink.taken())
        rows = {row["domain"]: row for row in json.loads(
            site.run("queue", "reports", "--json").stdout)}
        assert rows["mx-right.test"]["successes"] == 2, rows
        assert rows["mx-wrong.test"]["failures"] == 1, rows
        assert rows["mx-unusable.test"]["policy"] == "tlsa", rows
        site.run("queue", "reports", "--now")
        other.wait(lambda sink: len(sink.taken_by("tls@wrong.test")) == 2)
        told = {}
        for got in other.taken_by("tls@wrong.test"):
            assert got.secured is not None and got.sender == "postmaster@play.test"
            assert b"\r\nTLS-Required: No\r\n" in got.content, got.content[:2000]
            mail, report = report_in(got.content)
            signed = " ".join(mail.get_all("DKIM-Signature"))
            assert "d=play.test" in signed and "l=" not in signed.replace("bl=", ""), signed
            told[mail["TLS-Report-Domain"]] = report
        assert set(told) == {"mx-right.test", "mx-wrong.test"}, told
        [right], [wrong] = (told[f"mx-{name}.test"]["policies"] for name in ("right", "wrong"))
        assert right["policy"]["policy-type"] == "tlsa", right
        assert right["summary"] == {"total-successful-session-count": 2,
                                    "total-failure-session-count": 0}, right
        assert wrong["summary"] == {"total-successful-session-count": 0,
                                    "total-failure-session-count": 1}, wrong
        [why] = wrong["failure-details"]
        assert why["receiving-mx-hostname"] == "mx-wrong.test", why
        assert why["failed-session-count"] == 1 and why["receiving-ip"] == "127.0.1.12", why
        # What was told is told once, and the reports themselves are not reported on.
        nothing = lambda: "nothing was counted" in site.run("queue", "reports").stdout
        site.until(nothing, "no counts")
        site.stop(signal.SIGKILL)
        site.start()
        assert nothing()
        assert site.made("failure") == 0


def main():
    global BINARY
    BINARY = sys.argv[1]
    wanted = sys.argv[2:]
    try:
        socket.create_server(("127.0.1.9", 25)).close()
        reason = None
    except OSError as why:
        reason = why
    for name, play in SCENES.items():
        if wanted and name not in wanted:
            continue
        if reason is None:
            score.play(name, play)
        else:
            score.skip(name, f"no port 25 of 127.0.1.x: {reason}")
    score.end()


main()
