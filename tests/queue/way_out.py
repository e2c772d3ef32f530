"""A Palomar whose mail leaves for peers of ours: how letters are given to it, and how what became
of them is read from outside: mailboxes by IMAP, counters by its metrics."""

import email
import email.policy
import hashlib
import smtplib
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage.servers import SECONDS_MAX, Palomar

SECRET = "an-open-secret"
LISTENERS = [(name, "") for name in ("submission", "smtp", "imap", "metrics")]
# Seconds where a site of work has minutes.
QUICK = 'retry = ["1s"]\npause = "1s"\npause_max = "1s"\n'


class Site(Palomar):
    """`routes`: pairs (domain, hop) or (domain, hop, more lines). `queue`: lines of `[queue]`."""

    def __init__(self, folder, binary, routes=(), queue=QUICK, top="", tables="", relay="",
                 users=("ana",), domain="play.test", aliases=()):
        text = f"[queue]\n{queue}\n[smtp.relay]\nrelay_trusted = true\n{relay}\n{tables}\n"
        for name, hop, *more in routes:
            hop = f"127.0.0.1:{hop}" if isinstance(hop, int) else hop
            text += f'[[route]]\ndomain = "{name}"\nhop = "{hop}"\n' + "".join(more) + "\n"
        super().__init__(folder, binary, LISTENERS, domain=domain, top=top, tables=text)
        for user in users:
            self.user(user, SECRET)
        for source, *targets in aliases:
            self.run("alias", "add", source, *targets)

    def submission(self, user="ana"):
        """A connection that has logged in."""
        smtp = smtplib.SMTP("127.0.0.1", self.ports["submission"], "laptop", SECONDS_MAX)
        smtp.login(f"{user}@{self.domain}", SECRET)
        return smtp

    def send(self, recipients, raw, sender="ana", mail=(), rcpt=(), user="ana"):
        """By submission; the id that the server gave it. `rcpt` counts for all recipients, or is
        a dictionary by address."""
        with self.submission(user) as smtp:
            return give(smtp, f"{sender}@{self.domain}", recipients, raw, mail, rcpt)

    def relay(self, sender, recipients, raw, mail=(), rcpt=()):
        """Without a log-in, from a trusted network."""
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], "neighbour", SECONDS_MAX) as smtp:
            smtp.ehlo()
            return give(smtp, sender, recipients, raw, mail, rcpt)

    def messages(self, user="ana", mailbox="INBOX"):
        """All that is there, raw."""
        box = self.imap(f"{user}@{self.domain}", SECRET)
        try:
            status, said = box.select(mailbox, readonly=True)
            assert status == "OK", said
            if int(said[0]) == 0:
                return []
            _, rows = box.fetch("1:*", "(BODY.PEEK[])")
            return [row[1] for row in rows if isinstance(row, tuple)]
        finally:
            box.logout()

    def notices(self, user="ana"):
        return [Notice(raw) for raw in self.messages(user) if b"multipart/report" in raw]

    def wait_notices(self, count, user="ana", seconds=60):
        return self.until(lambda: at_least(self.notices(user), count), f"{count} notices", seconds)

    def until(self, asked, what, seconds=60, step=0.1):
        """What `asked` answers, once it answers anything that is true."""
        deadline = time.monotonic() + seconds
        while not (answer := asked()):
            assert time.monotonic() < deadline, \
                f"not within {seconds} s: {what}\n{self.said()[-3000:]}"
            assert self.lives(step), f"the server ended: {self.said()[-3000:]}"
        return answer

    def metric(self, name, label=""):
        """The sum over shards, of the series that have this label."""
        url = f"http://127.0.0.1:{self.ports['metrics']}/metrics"
        text = urllib.request.urlopen(url, timeout=SECONDS_MAX).read().decode()
        lines = [line for line in text.splitlines()
                 if line.startswith(name) and line[len(name)] in " {" and label in line]
        return sum(float(line.rsplit(None, 1)[1]) for line in lines)

    def made(self, about):
        """Notices so far."""
        return self.metric("palomar_queue_notices_total", f'about="{about}"')

    def recipients(self, fate):
        return self.metric("palomar_queue_recipients_total", f'fate="{fate}"')

    def wait_empty(self, seconds=60):
        """Nothing waits any more, and what was found out is on record."""
        self.until(lambda: self.metric("palomar_queue_rows") == 0, "an empty queue", seconds)


class Notice:
    """A report on what became of a message (RFC 3464), taken apart."""

    def __init__(self, raw):
        self.raw = raw
        self.message = email.message_from_bytes(raw, policy=email.policy.default)
        assert self.message.get_content_type() == "multipart/report", self.message["Content-Type"]
        assert self.message["Content-Type"].params["report-type"] == "delivery-status"
        assert not self.message.defects, self.message.defects
        parts = list(self.message.iter_parts())
        assert len(parts) == 3, [part.get_content_type() for part in parts]
        self.words, facts, self.original = parts
        self.words = self.words.get_content()
        assert facts.get_content_type() in (
            "message/delivery-status", "message/global-delivery-status"), facts
        # As it stands there: Python knows no message/global-delivery-status.
        end = b"--" + self.message.get_boundary().encode()
        text = raw.split(end)[2].split(b"\r\n\r\n", 1)[1].decode().replace("\r\n", "\n").strip()
        self.whole, *self.each = [
            {key.lower(): str(value) for key, value in
             email.message_from_string(group + "\n\n", policy=email.policy.default).items()}
            for group in text.split("\n\n")]

    def of(self, address):
        """The facts of one recipient."""
        [found] = [one for one in self.each if final(one) == address]
        return found

    def names(self, address):
        return any(final(one) == address for one in self.each)


def final(one):
    """Of the facts of a recipient: who he is."""
    return one["final-recipient"].split(";")[1].strip()


def at_least(found, count):
    return found if len(found) >= count else None


def give(smtp, sender, recipients, raw, mail=(), rcpt=()):
    recipients = [recipients] if isinstance(recipients, str) else recipients
    code, said = smtp.mail(sender, list(mail))
    assert code == 250, (sender, code, said)
    for address in recipients:
        options = rcpt.get(address, ()) if isinstance(rcpt, dict) else rcpt
        code, said = smtp.rcpt(address, list(options))
        assert code == 250, (address, code, said)
    code, said = smtp.data(raw)
    assert code == 250, (code, said)
    return said.decode().rsplit(None, 1)[1]


def letter(name, to="them", body="A line.\r\n", sender="ana@play.test", more=""):
    """A complete message, with CRLF, that a server has no reason to add to but for its trace."""
    text = (f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nFrom: <{sender}>\r\nTo: {to}:;\r\n"
            f"Message-ID: <{name}@made.test>\r\nSubject: {name}\r\n{more}\r\n{body}")
    return text.encode()


def name_of(content):
    """The `name` of a letter, wherever it was found."""
    subject = content.split(b"\r\nSubject: ", 1)[1]
    return subject.split(b"\r\n", 1)[0].decode()


def same(got, sent):
    """What arrived is what was sent behind lines of trace, octet for octet."""
    assert got.endswith(sent), (hashlib.sha256(got).hexdigest(), got[:600], sent[:300])
    trace = got[:len(got) - len(sent)].decode()
    assert trace.startswith("Received: ") or trace.startswith("Delivered-To: "), trace
    assert trace.endswith("\r\n") and "\r\n\r\n" not in trace, trace
