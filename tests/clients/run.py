#!/usr/bin/env python3
"""Real mail clients against a running server: each sends or fetches a letter that breaks careless
servers (`letter.py`), and what arrives is compared byte for byte.

    tests/clients/run.py PALOMAR [NAME]

Every client logs in as its own account NAME@clients.test; the server's log must know them all in the
end. Ends with `N passed, M failed`.
"""

import imaplib
import json
import mailbox
import os
import poplib
import smtplib
import ssl
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
import letter
from stage import clients
from stage.score import Score
from stage.servers import Palomar

imaplib._MAXLINE = 100_000_000
poplib._MAXLINE = 10_000
CLIENT_SECONDS_MAX = 120
DOMAIN, PASSWORD = "clients.test", "an-open-secret"
LISTENERS = [(name, "") for name in ("submission", "submissions", "imap", "imaps", "pop3s")]
CLIENTS = {}


def client(function):
    CLIENTS[function.__name__.removesuffix("_")] = function
    return function


def certificate_of(server):
    """Signed by itself, and for localhost."""
    return server.folder / "data/tls/self-signed.pem"


class Site:
    """The server under test, and a folder for one client's files."""

    def __init__(self, server, name, folder):
        self.__dict__.update(server.ports)
        self.host, self.password, self.ca = "localhost", PASSWORD, certificate_of(server)
        self.name, self.folder = name, folder
        self.user = f"{name}@{DOMAIN}"
        self.raw, self.digest = letter.big(name, self.user, self.user)

    def write(self, name, text, mode=0o600):
        return clients.write(self.folder / name, text, mode)

    def imaps_login(self):
        """As `stage.clients` takes it."""
        return self.folder, self.host, self.imaps, self.user, self.password, self.ca

    def run(self, *command, input=None, ok=(0,), env=None):
        done = subprocess.run(
            [str(c) for c in command], input=input, capture_output=True, cwd=self.folder,
            timeout=CLIENT_SECONDS_MAX, env={**os.environ, "HOME": str(self.folder), **(env or {})})
        if done.returncode not in ok:
            tail = (done.stdout[-1500:] + done.stderr[-1500:]).decode(errors="replace")
            raise AssertionError(f"{command[0]} ended with {done.returncode}: {tail}")
        return done.stdout

    def tls(self):
        return ssl.create_default_context(cafile=self.ca)

    def imap_open(self):
        box = imaplib.IMAP4_SSL(self.host, self.imaps, ssl_context=self.tls())
        box.login(self.user, self.password)
        return box

    def append(self, raw=None, folder="INBOX"):
        with self.imap_open() as box:
            status, said = box.append(folder, None, None, self.raw if raw is None else raw)
            assert status == "OK", said

    def fetch_all(self, folder="INBOX"):
        with self.imap_open() as box:
            status, said = box.select(folder, readonly=True)
            assert status == "OK", said
            count = int(said[0])
            if count == 0:
                return []
            _, rows = box.fetch(f"1:{count}", "(BODY.PEEK[])")
            return [row[1] for row in rows if isinstance(row, tuple)]

    def arrived(self, folder="INBOX"):
        """The one letter in the folder is this client's."""
        found = self.fetch_all(folder)
        assert len(found) == 1, f"{len(found)} messages in {folder}"
        letter.judge(found[0], self.name, self.digest)


@client
def smtplib_(site):
    with smtplib.SMTP(site.host, site.submission, local_hostname="laptop") as smtp:
        smtp.starttls(context=site.tls())
        smtp.login(site.user, site.password)
        smtp.sendmail(site.user, [site.user], site.raw, ["BODY=8BITMIME"])
    site.arrived()


@client
def imaplib_(site):
    site.append()
    site.arrived()
    with site.imap_open() as box:
        box.select("INBOX")
        assert box.search(None, "SUBJECT", "?=")[0] == "OK"
        assert box.store("1", "+FLAGS", r"(\Flagged $Label1)")[0] == "OK"
        assert box.copy("1", "Archive")[0] == "OK"
        assert box.create('"Planetas/J\\"u"')[0] == "OK"
        status, found = box.search("UTF-8", "FLAGGED")
        assert (status, found) == ("OK", [b"1"]), found
    site.arrived("Archive")


@client
def poplib_(site):
    site.append()
    box = poplib.POP3_SSL(site.host, site.pop3s, context=site.tls())
    box.user(site.user)
    box.pass_(site.password)
    assert box.stat()[0] == 1
    _, lines, _ = box.retr(1)
    letter.judge(b"\r\n".join(lines) + b"\r\n", site.name, site.digest)
    assert len(box.uidl()[1]) == 1
    box.dele(1)
    box.quit()
    assert site.fetch_all() == []


@client
def swaks(site):
    data = site.write("letter.eml", site.raw)
    site.run("swaks", "--server", site.host, "--port", site.submission, "-tls", "--auth", "LOGIN",
             "--auth-user", site.user, "--auth-password", site.password, "--from", site.user,
             "--to", site.user, "--data", f"@{data}", "--tls-ca-path", site.ca, "--silent", "2")
    site.arrived()


@client
def msmtp(site):
    rc = site.write("msmtprc", f"""
account default
host {site.host}
port {site.submissions}
tls on
tls_starttls off
tls_trust_file {site.ca}
auth plain
user {site.user}
password {site.password}
from {site.user}
""")
    site.run("msmtp", "-C", rc, site.user, input=site.raw.replace(b"\r\n", b"\n"))
    site.arrived()


@client
def curl(site):
    data = site.write("letter.eml", site.raw)
    common = ["curl", "-sS", "--cacert", site.ca, "--user", f"{site.user}:{site.password}",
              "--max-time", "60"]
    site.run(*common, "--url", f"smtps://{site.host}:{site.submissions}/laptop",
             "--mail-from", site.user, "--mail-rcpt", site.user, "--upload-file", data)
    site.arrived()
    by_imap = site.run(*common, f"imaps://{site.host}:{site.imaps}/INBOX;MAILINDEX=1")
    letter.judge(by_imap, site.name, site.digest)
    by_pop = site.run(*common, f"pop3s://{site.host}:{site.pop3s}/1")
    letter.judge(by_pop, site.name, site.digest)


@client
def mbsync(site):
    site.append()
    rc = clients.mbsyncrc(*site.imaps_login())
    site.run("mbsync", "-c", rc, "-a")
    near = mailbox.Maildir(site.folder / "mail" / "INBOX", create=False)
    keys = list(near.keys())
    assert len(keys) == 1, keys
    letter.judge(near.get_bytes(keys[0]), site.name, site.digest)
    # The other way: a letter put into the local Drafts, and a flag set here, appear there.
    drafts = mailbox.Maildir(site.folder / "mail" / "Drafts", create=True)
    drafts.add(b"Subject: a draft\r\nMessage-ID: <draft@here>\r\n\r\nnot yet\r\n")
    message = near.get_message(keys[0])
    message.set_subdir("cur")
    message.set_flags("SF")
    near[keys[0]] = message
    site.run("mbsync", "-c", rc, "-a")
    assert b"not yet" in site.fetch_all("Drafts")[0]
    with site.imap_open() as box:
        box.select("INBOX")
        _, rows = box.fetch("1", "(FLAGS)")
        assert b"\\Flagged" in rows[0] and b"\\Seen" in rows[0], rows


@client
def offlineimap(site):
    site.append()
    rc = clients.offlineimaprc(*site.imaps_login())
    site.run("offlineimap", "-c", rc, "-o", "-u", "basic")
    near = mailbox.Maildir(site.folder / "offline" / "INBOX", create=False)
    keys = list(near.keys())
    assert len(keys) == 1, keys
    letter.judge(near.get_bytes(keys[0]), site.name, site.digest)


@client
def fetchmail(site):
    site.append()
    got = site.folder / "got"
    rc = site.write("fetchmailrc", f"""
poll {site.host} service {site.pop3s} protocol POP3 uidl
  user "{site.user}" password "{site.password}" is root here
  ssl sslcertck sslcertfile {site.ca} sslcommonname localhost
  keep no rewrite mda "cat > {got}.pop"
""")
    by_imap = site.write("fetchmailrc.imap", f"""
poll {site.host} service {site.imaps} protocol IMAP
  user "{site.user}" password "{site.password}" is root here
  ssl sslcertck sslcertfile {site.ca} sslcommonname localhost
  keep no rewrite mda "cat > {got}.imap"
""")
    for file, suffix in ((rc, ".pop"), (by_imap, ".imap")):
        site.run("fetchmail", "-f", file, "--nodetach", "--nosyslog", "--idfile",
                 site.folder / f"ids{suffix}", "--pidfile", site.folder / f"pid{suffix}")
        letter.judge(got.with_suffix(suffix).read_bytes(), site.name, site.digest)


@client
def getmail(site):
    site.append()
    (site.folder / "got").mkdir()
    keep = site.write("keep", f'#!/bin/sh\nexec cat > {site.folder}/got/$$\n', 0o700)
    for kind, port in (("SimplePOP3SSLRetriever", site.pop3s), ("SimpleIMAPSSLRetriever", site.imaps)):
        rc = site.write("getmailrc", f"""
[retriever]
type = {kind}
server = {site.host}
port = {port}
username = {site.user}
password = {site.password}
ca_certs = {site.ca}
[destination]
type = MDA_external
path = {keep}
allow_root_commands = true
unixfrom = false
[options]
read_all = true
delivered_to = false
received = false
""")
        site.run("getmail", f"--getmaildir={site.folder}", f"--rcfile={rc.name}", "--quiet")
    got = list((site.folder / "got").iterdir())
    assert len(got) == 2, got
    for path in got:
        letter.judge(path.read_bytes(), site.name, site.digest)


@client
def s_nail(site):
    box = f"imaps://{site.user.replace('@', '%40')}:{site.password}@{site.host}:{site.imaps}"
    smtp = f"smtps://{site.user.replace('@', '%40')}:{site.password}@{site.host}:{site.submissions}"
    attachment = site.write("plate.fits", b"plate " * 3_400_000)
    common = ["-S", "v15-compat", "-S", f"tls-ca-file={site.ca}", "-S", "tls-verify=strict",
              "-S", f"from={site.user}", "-S", "sendwait", "-S", "hostname=localhost",
              "-S", "ttycharset=utf-8", "-S", "sendcharsets=utf-8"]
    site.run("s-nail", "-:/", *common, "-S", f"mta={smtp}", "-S", "smtp-auth=login", "-s",
             "Señal de s-nail", "-a", attachment, site.user, input="Observación\n".encode())
    found = site.fetch_all()
    assert len(found) == 1 and b"plate.fits" in found[0], len(found)
    assert len(found[0]) > letter.ATTACHMENT_BYTES, len(found[0])
    listed = site.run("s-nail", "-:/", *common, "-H", "-f", f"{box}/INBOX",
                      env={"TERM": "dumb", "LC_ALL": "C.UTF-8"}, ok=(0, 1))
    assert "Señal" in listed.decode(errors="replace"), listed


@client
def neomutt(site):
    """Sends with its own SMTP, then opens the mailbox by IMAP in a terminal and saves a copy."""
    user = site.user.replace("@", "%40")
    rc = site.write("neomuttrc", f"""
set ssl_ca_certificates_file = "{site.ca}"
set certificate_file = "{site.folder}/certs"
set ssl_force_tls = yes
set from = "{site.user}"
set realname = "Ana Muñoz"
set smtp_url = "smtps://{user}@{site.host}:{site.submissions}"
set smtp_pass = "{site.password}"
set imap_user = "{site.user}"
set imap_pass = "{site.password}"
set folder = "imaps://{user}@{site.host}:{site.imaps}/"
set spoolfile = "+INBOX"
set copy = no
set send_charset = "utf-8"
set charset = "utf-8"
set header_cache = "{site.folder}/cache"
set confirmappend = no
set confirmcreate = no
set quit = yes
set wait_key = no
set delete = yes
set sleep_time = 0
""")
    attachment = site.write("plate.fits", b"plate " * 3_400_000)
    site.run("neomutt", "-F", rc, "-s", "Señal de neomutt", "-a", attachment, "--", site.user,
             input="Observación\n".encode(), env={"TERM": "dumb", "LC_ALL": "C.UTF-8"})
    found = site.fetch_all()
    assert len(found) == 1 and b"plate.fits" in found[0], len(found)
    assert len(found[0]) > letter.ATTACHMENT_BYTES, len(found[0])
    out = site.folder / "saved"
    keys = f'push "<copy-message><kill-line>{out}<enter><flag-message><quit>"'
    seen = clients.on_a_terminal(["neomutt", "-F", rc, "-e", keys], site.folder, CLIENT_SECONDS_MAX)
    assert out.exists(), seen[-1500:]
    assert "neomutt" in out.read_text(errors="replace")
    with site.imap_open() as box:
        box.select("INBOX")
        _, rows = box.fetch("1", "(FLAGS)")
        assert b"\\Flagged" in rows[0], rows


def account(name):
    return name.replace("_", "-")


def known_to(server):
    """Who has logged in and how, by the server's own log."""
    seen = {}
    for line in server.run("log", "--json", "--lines", "100000").stdout.splitlines():
        entry = json.loads(line)
        if entry.get("event") == "login.succeeded":
            seen.setdefault(entry["user"].split("@")[0], set()).add(entry["proto"])
    return seen


def main():
    only = sys.argv[2:]
    score = Score()

    def scene(folder):
        server = Palomar(folder / "palomar", sys.argv[1], LISTENERS, DOMAIN)
        server.run("user", "import", clients.write(folder / "users.csv", "".join(
            f"{account(name)}@{DOMAIN},{PASSWORD},1GB\n" for name in CLIENTS)))
        with server:
            for name, play in CLIENTS.items():
                if not only or name in only:
                    score.play(name, lambda at: play(Site(server, account(name), at)))
            seen = known_to(server)
            for name, protocols in sorted(seen.items()):
                print(f"seen by the server: {name:12} {' '.join(sorted(protocols))}")
            missing = {account(name) for name in only or CLIENTS} - set(seen)
            assert not missing, f"not in the server's log: {missing}"
            assert not score.failed, server.said()

    score.play("every client is in the server's log", scene)
    score.end()


if __name__ == "__main__":
    main()
