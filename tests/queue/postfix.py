#!/usr/bin/env python3
"""Debian's Postfix as the other side: letters to it and letters from it, over TLS, compared octet
for octet; addresses that it refuses, and those that it takes and sends back. A private instance,
which needs root: without, all is skipped.

    tests/queue/postfix.py PALOMAR

Ends with `N passed, M failed`.
"""

import os
import pwd
import random
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from pathlib import Path

from letters import LETTERS, bodies, compare, send_all
from sink import certificate
from way_out import SECONDS_MAX, Notice, Site, letter, name_of

from stage.score import Score
from stage.servers import Server, free_port, own

DOMAIN = "pf.test"
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = {domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
local_transport = error:5.1.1 nobody here
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = texthash:{folder}/etc/boxes
virtual_alias_maps = texthash:{folder}/etc/aliases
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
transport_maps = texthash:{folder}/etc/transport
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient
smtpd_tls_cert_file = {folder}/sink.pem
smtpd_tls_key_file = {folder}/sink.key
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
disable_vrfy_command = yes
message_size_limit = 50000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
score = Score()


class Postfix(Server):
    """Users u0 to u9 have Maildirs; `later@` leads to nobody, `far@` to bob here."""

    def __init__(self, folder, site_port):
        super().__init__(folder)
        self.port, self.mail = free_port(), self.folder / "mail"
        nobody = pwd.getpwnam("nobody")
        for name in ("queue", "data", "mail", "etc"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        own(self.mail, nobody.pw_uid, nobody.pw_gid)
        own(self.folder / "data", pwd.getpwnam("postfix").pw_uid, 0)
        certificate(self.folder)
        etc = self.folder / "etc"
        (etc / "main.cf").write_text(MAIN.format(
            folder=self.folder, domain=DOMAIN, uid=nobody.pw_uid, gid=nobody.pw_gid))
        (etc / "master.cf").write_text(MASTER.format(port=self.port))
        (etc / "boxes").write_text("".join(f"u{n}@{DOMAIN} u{n}/\n" for n in range(10)))
        (etc / "aliases").write_text(
            f"later@{DOMAIN} nobody@void.test\nfar@{DOMAIN} bob@play.test\n")
        (etc / "transport").write_text(
            f"play.test smtp:[127.0.0.1]:{site_port}\nvoid.test error:5.1.1 nobody by that name\n")

    def __enter__(self):
        self.spawn("/usr/sbin/postfix", "-c", self.folder / "etc", "start-fg")
        until = time.monotonic() + SECONDS_MAX
        while not self.greets():
            if time.monotonic() > until or not self.lives(0.05):
                told = self.said() + self.log()
                self.stop()
                raise RuntimeError(f"Postfix does not answer:\n{told}")
        return self

    def stop(self, by=signal.SIGTERM):
        """Its master is no child of ours, and is known by its folder."""
        if self.child is not None:
            subprocess.run(["/usr/sbin/postfix", "-c", self.folder / "etc", "stop"],
                           capture_output=True, check=False)
        return super().stop(by)

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                return probe.recv(100).startswith(b"220")
        except OSError:
            return False

    def log(self):
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def delivered(self):
        """All that lies in the Maildirs, with CRLF."""
        return [file.read_bytes().replace(b"\n", b"\r\n")
                for file in self.mail.glob("*/new/*")]


def outwards(site, postfix, dice):
    began = time.monotonic()
    sent = send_all(site, "out", DOMAIN, dice, LETTERS)
    site.until(lambda: len(postfix.delivered()) >= LETTERS, "all in Postfix's Maildirs")
    took = time.monotonic() - began
    found = postfix.delivered()
    compare(score, f"to Postfix ({LETTERS / took:.0f}/s)", found, sent)
    secured = sum(bool(re.search(rb"using TLSv1\.[23]", raw)) for raw in found)
    score.check("all of them over TLS", secured == LETTERS, secured)
    connections = postfix.log().count(" connect from ")
    print(f"     on {connections} connections")


def inwards(site, postfix, dice):
    sent = {f"in{n}": letter(f"in{n}", body=body, sender=f"u1@{DOMAIN}")
            for n, body in bodies(dice)}
    with smtplib.SMTP("127.0.0.1", postfix.port, "neighbour", SECONDS_MAX) as smtp:
        for n, raw in enumerate(sent.values()):
            to = "far@pf.test" if n % 10 == 0 else "bob@play.test"
            smtp.sendmail(f"u1@{DOMAIN}", [to], raw, ["BODY=8BITMIME"])
    site.until(lambda: len(site.messages("bob")) >= LETTERS, "all in bob's mailbox", step=0.5)
    found = site.messages("bob")
    compare(score, "from Postfix", found, sent)
    secured = sum(bool(re.search(rb"with (UTF8)?ESMTPS", raw)) for raw in found)
    score.check("all of them over TLS, too", secured == LETTERS, (secured, found[0][:400]))


def refusals(site, postfix):
    site.send([f"nobody@{DOMAIN}", f"u3@{DOMAIN}"], letter("refused"))
    [notice] = site.wait_notices(1)
    one = notice.of(f"nobody@{DOMAIN}")
    score.check(f"an unknown user: {one['diagnostic-code']}",
                (one["action"], one["status"]) == ("failed", "5.1.1")
                and one["diagnostic-code"].startswith("smtp; 550 5.1.1")
                and len(notice.each) == 1, one)
    site.until(lambda: any(name_of(raw) == "refused" for raw in postfix.delivered()),
               "the other recipient's copy")
    score.check("the other recipient has his copy", True)
    # Postfix takes it, finds nobody behind the alias, and tells from its null sender.
    site.send(f"later@{DOMAIN}", letter("later"))
    site.until(lambda: len(site.notices()) >= 2, "Postfix's notice")
    theirs = [raw for raw in site.messages() if b"MAILER-DAEMON@pf.test" in raw]
    assert len(theirs) == 1, len(theirs)
    theirs = Notice(theirs[0])
    score.check("and Postfix's own notice comes in", theirs.each[0]["action"] == "failed",
                theirs.each)
    site.send(f"u4@{DOMAIN}", letter("success"), rcpt=["NOTIFY=SUCCESS"])
    notices = site.wait_notices(3)
    told = [one for notice in notices for one in notice.each if one["action"] == "delivered"]
    score.check("who knows of DSN is asked to tell of success, and does",
                len(told) == 1 and site.made("success") == 0, told)
    site.wait_empty()


def play(folder, binary):
    folder.chmod(0o755)
    dice = random.Random(25)
    port = free_port()
    site = Site(folder / "site", binary, [(DOMAIN, port)], users=("ana", "bob"),
                tables="[limits]\nmessage_bytes_max = \"60MB\"\n")
    postfix = Postfix(folder / "postfix", site.ports["smtp"])
    site.configure(site.text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{postfix.port}"))
    with site, postfix:
        outwards(site, postfix, dice)
        inwards(site, postfix, dice)
        refusals(site, postfix)


def main():
    binary = sys.argv[1]
    if os.getuid() != 0 or not Path("/usr/sbin/postfix").exists():
        score.skip("postfix", "needs root and Debian's postfix")
    else:
        score.play("Postfix", lambda folder: play(folder, binary))
    score.end()


main()
