"""An SMTP or LMTP server that does what a scene tells it to, and notes everything it is told.

A rule is a function (letter, argument, count) for one step, which answers a reply, or `None` for
the one that nobody minds, or one of `DROP`, `TAKE_AND_DROP`, `Slowly`. `count` says how often this
step was asked with this argument, from 1. Steps: connect, ehlo, starttls, mail, rcpt, data, piece
(content so far), end; in LMTP end is asked for each recipient.

What a client may not do is a fault, which ends the scene: bare line ends, lines that are too long,
content without its end, commands out of order.
"""

import base64
import hashlib
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

STEP_SECONDS_MAX = 120
LINE_BYTES_MAX = 4096
DROP, TAKE_AND_DROP = object(), object()
FULL = ("PIPELINING", "8BITMIME", "SIZE 50000000", "ENHANCEDSTATUSCODES")


class Slowly:
    """A reply that comes octet by octet, or all of it late."""

    def __init__(self, reply, seconds, drips=False):
        self.reply, self.seconds, self.drips = reply, seconds, drips


class Gone(Exception):
    """The connection is over."""


class Letter:
    """One transaction, as the peer saw it."""

    def __init__(self, connection, number, mail, secured):
        self.connection, self.number, self.secured = connection, number, secured
        self.sender, self.parameters = mail
        self.recipients, self.refused = [], []
        self.content, self.manner = b"", None
        # The recipients whose content was answered with 2xx, whether or not that was heard.
        self.taken = []
        self.began, self.ended, self.answered = time.monotonic(), None, None

    def addresses(self):
        return [address for address, _ in self.recipients]

    def digest(self):
        return hashlib.sha256(self.content).hexdigest()


class Sink:
    """Listens from its making until `stop`; use as a context. `port` 0: any. `login`: the name
    and the password without which it takes nothing."""

    def __init__(self, offers=FULL, address="127.0.0.1", port=0, lmtp=False, tls=None,
                 tls_breaks=False, login=None, **rules):
        self.offers, self.lmtp, self.tls, self.tls_breaks = offers, lmtp, tls, tls_breaks
        self.login = login
        self.rules, self.counts = rules, Counter()
        self.changed = threading.Condition()
        self.letters, self.faults, self.heard = [], [], []
        self.connections = self.open = self.open_most = 0
        self.sockets, self.threads = set(), []
        self.address, self.port = address, port
        self.listener = None
        self.start()

    def start(self):
        self.listener = socket.create_server((self.address, self.port), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self.accept, args=(self.listener,), daemon=True)
        self.accepting.start()

    def accept(self, listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                self.connections += 1
                number = self.connections
                self.sockets.add(peer)
                thread = threading.Thread(
                    target=Talk(self, peer, number).run, daemon=True)
                self.threads = [one for one in self.threads if one.is_alive()] + [thread]
            thread.start()

    def stop(self):
        """Nobody listens any more, and who is connected is not."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        listener.close()
        self.accepting.join(10)
        with self.changed:
            for peer in self.sockets:
                try:
                    peer.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            threads = list(self.threads)
        for thread in threads:
            thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        assert not self.faults, self.faults

    def ask(self, step, letter, argument):
        rule = self.rules.get(step)
        if rule is None:
            return None
        with self.changed:
            self.counts[step, argument] += 1
            count = self.counts[step, argument]
        return rule(letter, argument, count)

    def taken(self):
        """(letter, recipient) of all that was taken."""
        with self.changed:
            return [(letter, to) for letter in self.letters for to in letter.taken]

    def taken_by(self, address):
        return [letter for letter, to in self.taken() if to == address]

    def wait(self, wanted, seconds=60):
        """Until `wanted(self)` holds."""
        with self.changed:
            held = self.changed.wait_for(lambda: wanted(self), seconds)
        assert held, f"not within {seconds} s: {self.told()}"

    def told(self):
        return [(letter.sender, letter.addresses(), letter.taken) for letter in self.letters[-5:]]


class Talk:
    """One connection."""

    def __init__(self, sink, peer, number):
        self.sink, self.peer, self.number = sink, peer, number
        self.unread, self.letter, self.letters = b"", None, 0
        self.secured, self.greeted, self.known = None, False, sink.login is None

    def run(self):
        sink = self.sink
        self.peer.settimeout(STEP_SECONDS_MAX)
        # Replies to a pipelined group are many small writes.
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sink.changed:
            sink.open += 1
            sink.open_most = max(sink.open, sink.open_most)
        try:
            self.say(sink.ask("connect", None, None) or "220 sink.test ESMTP")
            while self.command():
                pass
        except (Gone, OSError):
            pass
        except AssertionError as fault:
            with sink.changed:
                sink.faults.append(f"connection {self.number}: {fault}")
        finally:
            with sink.changed:
                sink.open -= 1
                sink.sockets.discard(self.peer)
                sink.changed.notify_all()
            self.peer.close()

    # ---- octets ----

    def fill(self):
        data = self.peer.recv(65536)
        if not data:
            raise Gone
        self.unread += data

    def line(self):
        while b"\n" not in self.unread:
            assert len(self.unread) < LINE_BYTES_MAX, "a line without an end"
            self.fill()
        line, self.unread = self.unread.split(b"\n", 1)
        assert line.endswith(b"\r"), f"a bare line feed behind {line[-60:]!r}"
        return line[:-1]

    def say(self, reply):
        if reply is DROP:
            raise Gone
        if isinstance(reply, Slowly):
            return self.say_slowly(reply)
        self.peer.sendall(reply.encode() + b"\r\n")

    def say_slowly(self, slow):
        # What a slow host does: this is no waiting for anything.
        octets = slow.reply.encode() + b"\r\n"
        pieces = [octets[n:n + 1] for n in range(len(octets))] if slow.drips else [octets]
        for piece in pieces:
            threading.Event().wait(slow.seconds / len(pieces))
            self.peer.sendall(piece)

    # ---- commands ----

    def command(self):
        line = self.line()
        verb, _, rest = line.partition(b" ")
        verb, rest = verb.upper().decode("ascii", "replace"), rest.decode("utf-8")
        with self.sink.changed:
            self.sink.heard.append((self.number, verb))
        if verb == "QUIT":
            self.say("221 2.0.0 bye")
            return False
        handle = getattr(self, f"on_{verb.lower()}", None)
        assert handle, f"unknown command {line[:80]!r}"
        handle(rest)
        return True

    def on_ehlo(self, name):
        assert name and " " not in name, f"EHLO {name!r}"
        self.greeted, self.letter = True, None
        told = self.sink.ask("ehlo", None, None)
        if told is not None:
            return self.say(told)
        offers = [*self.sink.offers]
        if (self.sink.tls or self.sink.tls_breaks) and not self.secured:
            offers.append("STARTTLS")
        if self.sink.login:
            offers.append("AUTH PLAIN LOGIN")
        lines = ["sink.test", *offers]
        self.say("\r\n".join([f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]))

    def on_lhlo(self, name):
        assert self.sink.lmtp, "LHLO to an SMTP server"
        self.on_ehlo(name)

    def on_helo(self, name):
        self.greeted, self.letter = True, None
        self.say("250 sink.test")

    def on_starttls(self, _):
        assert not self.unread, "something behind STARTTLS"
        told = self.sink.ask("starttls", None, None)
        if told is not None:
            return self.say(told)
        self.say("220 2.0.0 go ahead")
        if self.sink.tls_breaks:
            self.fill()
            self.peer.sendall(b"this is no handshake\r\n")
            raise Gone
        with self.sink.changed:
            self.sink.sockets.discard(self.peer)
        try:
            self.peer = self.sink.tls.wrap_socket(self.peer, server_side=True)
        except ssl.SSLError as why:
            raise Gone from why
        with self.sink.changed:
            self.sink.sockets.add(self.peer)
        self.secured, self.greeted = self.peer.version(), False

    def on_auth(self, rest):
        method, _, first = rest.partition(" ")
        assert method.upper() == "PLAIN", method
        if not first:
            self.say("334 ")
            first = self.line().decode()
        given = tuple(base64.b64decode(first).decode().split("\0")[1:])
        self.known = given == self.sink.login
        self.say("235 2.7.0 welcome" if self.known else "535 5.7.8 who are you")

    def on_rset(self, _):
        self.letter = None
        self.say("250 2.0.0 ok")

    def on_noop(self, _):
        self.say("250 2.0.0 ok")

    def on_mail(self, rest):
        assert self.greeted and self.letter is None, "MAIL out of order"
        sender, parameters = path(rest, "FROM:")
        if not self.known:
            return self.say("530 5.7.0 log in first")
        told = self.sink.ask("mail", None, sender)
        if told is None or positive(told):
            self.letters += 1
            self.letter = Letter(self.number, self.letters, (sender, parameters), self.secured)
            with self.sink.changed:
                self.sink.letters.append(self.letter)
        self.say(told or "250 2.1.0 ok")

    def on_rcpt(self, rest):
        address, parameters = path(rest, "TO:")
        if self.letter is None:
            # By PIPELINING, behind a MAIL that was refused.
            return self.say("503 5.5.1 MAIL first")
        told = self.sink.ask("rcpt", self.letter, address)
        if told is None or positive(told):
            self.letter.recipients.append((address, parameters))
        else:
            self.letter.refused.append(address)
        self.say(told or "250 2.1.5 ok")

    def on_data(self, _):
        if self.letter is None or not self.letter.recipients:
            return self.say("503 5.5.1 RCPT first")
        told = self.sink.ask("data", self.letter, None)
        self.say(told or "354 go ahead")
        if told is not None and not text(told).startswith("354"):
            return
        self.letter.manner, lines = "DATA", []
        size = 0
        while (line := self.line()) != b".":
            assert len(line) <= 998 + 1, "a line of more than 998 octets"
            lines.append(line[1:] if line.startswith(b".") else line)
            size += len(line) + 2
            self.piece(size)
        self.letter.content = b"".join(line + b"\r\n" for line in lines)
        self.end()

    def on_bdat(self, rest):
        assert "CHUNKING" in self.sink.offers, "BDAT was not offered"
        words = rest.upper().split()
        wanted, is_last = int(words[0]), words[1:] == ["LAST"]
        while len(self.unread) < wanted:
            self.fill()
        chunk, self.unread = self.unread[:wanted], self.unread[wanted:]
        if self.letter is None or not self.letter.recipients:
            return self.say("503 5.5.1 RCPT first")
        self.letter.manner = "BDAT"
        self.letter.content += chunk
        self.piece(len(self.letter.content))
        self.end() if is_last else self.say("250 2.0.0 ok")

    def piece(self, size):
        if self.sink.ask("piece", self.letter, size) is DROP:
            raise Gone

    def end(self):
        letter, self.letter = self.letter, None
        letter.ended = time.monotonic()
        each = letter.addresses() if self.sink.lmtp else [None]
        for address in each:
            told = self.sink.ask("end", letter, address)
            whom = [address] if self.sink.lmtp else letter.addresses()
            with self.sink.changed:
                if told is None or told is TAKE_AND_DROP or positive(told):
                    letter.taken += whom
                self.sink.changed.notify_all()
            if told is TAKE_AND_DROP:
                raise Gone
            self.say(told or f"250 2.0.0 taken as {letter.connection}.{letter.number}")
            letter.answered = time.monotonic()


def text(told):
    return getattr(told, "reply", told)


def positive(told):
    return told not in (DROP, TAKE_AND_DROP) and text(told).startswith("2")


def path(rest, word):
    """The address and the parameters of MAIL or RCPT."""
    assert rest.upper().startswith(f"{word}<"), rest
    address, _, parameters = rest[len(word) + 1:].partition(">")
    words = parameters.split()
    return address, dict(w.upper().split("=", 1)[:1] + w.split("=", 1)[1:] if "=" in w
                         else (w.upper(), "") for w in words)


def certificate(folder, name="sink.test"):
    """A self-signed one, as a server context."""
    cert, key = Path(folder) / "sink.pem", Path(folder) / "sink.key"
    if not cert.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", f"/CN={name}",
             "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", cert],
            check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context
