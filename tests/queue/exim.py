#!/usr/bin/env python3
"""Debian's Exim as the next hop: letters to it, by BDAT, in the clear and over TLS, compared octet
for octet; recipients that it refuses, for now or for good, and a letter that is too large for it.
It runs in a root directory of its own, which needs root and `fetch_peers`: without, all is skipped.

    tests/queue/exim.py PALOMAR

Ends with `N passed, M failed`.
"""

import random
import shutil
import sys

from caged import DAEMON_ID, LETTER_BOXES, Caged, missing
from letters import compare, named, refusals, send_all
from sink import certificate
from way_out import Site, letter

from stage.score import Score

DOMAIN = "exim.test"
LETTERS = 100
BYTES_MAX = 8_000_000
# `away`: a file that makes it defer mail for u9.
CONFIG = """
primary_hostname = {domain}
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
domainlist local_domains = {domain}
localpartlist boxes = {boxes}
keep_environment =
notifier_socket =
spool_directory = /var/spool/exim4
log_file_path = /var/log/%slog
pid_file_path = /var/run/exim.pid
never_users =
deliver_drop_privilege = true
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_queue_per_connection = 0
smtp_accept_max = 200
message_size_limit = {bytes_max}
accept_8bitmime = true
chunking_advertise_hosts = *
prdr_enable = true
tls_advertise_hosts = {tls}
tls_certificate = /etc/exim4/sink.pem
tls_privatekey = /etc/exim4/sink.key
log_selector = +tls_cipher
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept
acl_smtp_data_prdr = accept
begin acl
check_rcpt:
  deny domains = !+local_domains
  deny local_parts = !+boxes
       message = 5.1.1 nobody here by that name
  defer local_parts = u9
        condition = ${{if exists{{/etc/away}}}}
        message = 4.2.1 the mailbox is away
  accept
begin routers
box:
  driver = accept
  local_parts = +boxes
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = /home/$local_part_data/Maildir
  maildir_format
"""
score = Score()


class Exim(Caged):
    program = "exim"
    daemons = ("Debian-exim",)
    folders = ("var/spool/exim4", "var/log", "etc/exim4")

    def __init__(self, folder, tls):
        super().__init__(folder)
        certificate(self.folder, "localhost")
        for name in ("sink.pem", "sink.key"):
            shutil.copy(self.folder / name, self.root / "etc/exim4")
        for path in ("var/spool/exim4", "var/log", "etc/exim4/sink.key"):
            shutil.chown(self.root / path, DAEMON_ID, DAEMON_ID)
        # It is its own user alone, and so theirs.
        for n in range(LETTER_BOXES):
            shutil.chown(self.root / f"home/u{n}", DAEMON_ID, DAEMON_ID)
        boxes = ":".join(f"u{n}" for n in range(LETTER_BOXES))
        self.write("etc/exim4/exim4.conf", CONFIG.format(
            domain=DOMAIN, port=self.port, tls="*" if tls else "", boxes=boxes,
            bytes_max=BYTES_MAX))

    def set_away(self, away):
        if away:
            self.write("etc/away", "")
        else:
            (self.root / "etc/away").unlink()

    def command(self):
        return ["/usr/sbin/exim4", "-bdf"]

    def log(self):
        logs = (self.root / "var/log").glob("*log")
        return "".join(log.read_text(errors="replace") for log in logs)

    def taken(self):
        """Its lines about what it took."""
        return [line for line in self.log().splitlines() if " <= " in line]


def outwards(site, exim, tls):
    dice = random.Random(26 + tls)
    sent = send_all(site, "out", DOMAIN, dice, LETTERS)
    site.until(lambda: len(exim.delivered()) >= LETTERS, "all in Exim's Maildirs")
    how = "over TLS" if tls else "in the clear"
    compare(score, f"to Exim {how}", exim.delivered(), sent)
    lines = exim.taken()
    chunked = sum(" K " in line for line in lines)
    score.check("all of them by BDAT", chunked == LETTERS, lines[:3])
    secured = sum(" X=TLS1.3" in line for line in lines)
    score.check(f"{secured} of them over TLS", secured == (LETTERS if tls else 0), lines[:3])
    site.wait_empty()


def too_large(site, exim):
    site.send(f"u5@{DOMAIN}", letter("large", body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 130_000))
    notices = site.wait_notices(2)
    told = [one for notice in notices for one in notice.each if one["status"] != "5.1.1"]
    score.check("what is larger than its SIZE comes back unsent",
                len(told) == 1 and told[0]["status"] == "5.3.4" and not named(exim, "large"), told)
    site.wait_empty()


def play(folder, binary, tls):
    folder.chmod(0o755)
    exim = Exim(folder / "exim", tls)
    site = Site(folder / "site", binary, [(DOMAIN, exim.port)],
                tables="[limits]\nmessage_bytes_max = \"60MB\"\n")
    with exim, site:
        outwards(site, exim, tls)
        if tls:
            refusals(score, site, exim, DOMAIN)
            too_large(site, exim)


def main():
    binary = sys.argv[1]
    if why := missing(Exim.program):
        score.skip("exim", why)
    else:
        score.play("Exim", lambda folder: play(folder, binary, tls=False))
        score.play("Exim with TLS", lambda folder: play(folder, binary, tls=True))
    score.end()


main()
