#!/usr/bin/env python3
"""Debian's OpenSMTPD as the next hop, which offers no PIPELINING: letters to it, compared octet for
octet; recipients that it refuses, for now or for good. Where it is told to offer STARTTLS each of
its handshakes fails: that of Debian 12 cannot sign with its OpenSSL (OpenSMTPD issue 1171). So its
mail goes in the clear then, and waits where the site asks for TLS. It runs in a root directory of
its own, which needs root and `fetch_peers`: without, all is skipped.

    tests/queue/opensmtpd.py PALOMAR

Ends with `N passed, M failed`.
"""

import random
import shutil
import sys

from caged import Caged, missing
from letters import compare, named, refusals, send_all
from sink import certificate
from way_out import Site, letter

from stage.score import Score

DOMAIN = "os.test"
LETTERS = 100
CONFIG = """
{pki}
{away}
listen on lo inet4 port {port} hostname {domain} {tls} {filter}
action "boxes" maildir
match from any for domain "{domain}" action "boxes"
"""
PKI = 'pki here cert "/etc/sink.pem"\npki here key "/etc/sink.key"'
AWAY = 'filter away phase rcpt-to match rcpt-to { "u9@os.test" } reject "451 4.2.1 away"'
score = Score()


class OpenSmtpd(Caged):
    program = "opensmtpd"
    daemons = ("opensmtpd", "opensmtpq")
    folders = ("var/spool/smtpd", "var/lib/opensmtpd/empty")

    def __init__(self, folder, tls):
        super().__init__(folder)
        (self.root / "var/spool/smtpd").chmod(0o711)
        certificate(self.folder, "localhost")
        for name in ("sink.pem", "sink.key"):
            shutil.copy(self.folder / name, self.root / "etc")
        (self.root / "etc/sink.key").chmod(0o600)
        self.write("etc/mailname", f"{DOMAIN}\n")
        self.tls = tls
        self.configure()

    def configure(self, away=False):
        """`away`: u9 is refused for now."""
        self.write("etc/smtpd.conf", CONFIG.format(
            port=self.port, domain=DOMAIN, pki=PKI if self.tls else "",
            tls="tls pki here" if self.tls else "", away=AWAY if away else "",
            filter="filter away" if away else ""))

    def set_away(self, away):
        self.stop()
        self.configure(away)
        self.start()

    def command(self):
        return ["/usr/sbin/smtpd", "-d"]

    def broken(self):
        """Handshakes that came to nothing."""
        return self.words.read_text(errors="replace").count("SSL routines")


def outwards(site, peer):
    sent = send_all(site, "out", DOMAIN, random.Random(27 + peer.tls), LETTERS)
    site.until(lambda: len(peer.delivered()) >= LETTERS, "all in OpenSMTPD's Maildirs")
    how = "whose TLS is broken" if peer.tls else "without TLS"
    compare(score, f"to OpenSMTPD {how}", peer.delivered(), sent)
    broken = peer.broken()
    score.check(f"{broken} handshakes broke", bool(broken) == peer.tls)
    site.wait_empty()


def strict(site, peer):
    """The site wants TLS there from now on."""
    site.stop()
    site.configure(site.text.replace(f'domain = "{DOMAIN}"\n', f'domain = "{DOMAIN}"\ntls = "verified"\n'))
    site.start()
    before = site.recipients("deferred")
    site.send(f"u6@{DOMAIN}", letter("secret"))
    site.until(lambda: site.recipients("deferred") > before, "a deferral")
    score.check("where TLS must be it waits", named(peer, "secret") == 0)


def play(folder, binary, tls):
    folder.chmod(0o755)
    peer = OpenSmtpd(folder / "opensmtpd", tls)
    site = Site(folder / "site", binary, [(DOMAIN, peer.port)],
                tables="[limits]\nmessage_bytes_max = \"60MB\"\n")
    with peer, site:
        outwards(site, peer)
        refusals(score, site, peer, DOMAIN)
        site.wait_empty()
        if tls:
            strict(site, peer)


def main():
    binary = sys.argv[1]
    if why := missing(OpenSmtpd.program):
        score.skip("opensmtpd", why)
    else:
        score.play("OpenSMTPD", lambda folder: play(folder, binary, tls=False))
        score.play("OpenSMTPD, TLS broken", lambda folder: play(folder, binary, tls=True))
    score.end()


main()
