"""A small IMAP client that reads responses into values: lists, bytes, ints, None.

It knows nothing of either server. Strings, quoted or literal, are `bytes`; atoms are `str`.
"""

import socket

REPLY_SECONDS_MAX = 60


class No(Exception):
    """The tagged answer was not OK."""


class Grammar(Exception):
    """A response that RFC 9051's grammar does not allow."""


class Client:
    def __init__(self, port, user, password):
        self.socket = socket.create_connection(("127.0.0.1", port), REPLY_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        self.count = 0
        self.response()
        self.command(f'LOGIN "{user}" "{password}"')

    def response(self):
        """One response, its literals included, without the final line end."""
        whole = b""
        while True:
            line = self.stream.readline()
            if not line.endswith(b"\r\n"):
                raise Grammar(f"line end missing: {line[-80:]!r}")
            whole += line
            if line[-3:-2] != b"}":
                return whole[:-2]
            size = int(line[line.rindex(b"{") + 1 : -3])
            whole += self.stream.read(size)

    def command(self, text, literal=None):
        """Returns the untagged responses."""
        self.count += 1
        tag = b"a%d " % self.count
        if literal is None:
            self.socket.sendall(tag + text.encode() + b"\r\n")
        else:
            self.socket.sendall(tag + text.encode() + b" {%d}\r\n" % len(literal))
        untagged = []
        while True:
            response = self.response()
            if literal is not None and response.startswith(b"+"):
                self.socket.sendall(literal + b"\r\n")
                literal = None
            elif response.startswith(tag):
                if not response.startswith(tag + b"OK"):
                    raise No(response[len(tag) :].decode(errors="replace"))
                return untagged
            else:
                untagged.append(response)

    def fetch(self, number, items):
        """What FETCH says of one message: upper-case name -> value."""
        found = {}
        for response in self.command(f"FETCH {number} ({' '.join(items)})"):
            words = response.split(b" ", 3)
            if len(words) == 4 and words[1] == b"%d" % number and words[2] == b"FETCH":
                values = iter(Reader(words[3]).value())
                for name in values:
                    found[name.upper()] = next(values)
        return found

    def close(self):
        self.socket.close()


class Reader:
    """Values of one response."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def value(self):
        found = self.next()
        if self.at != len(self.data):
            raise Grammar(f"more follows: {self.data[self.at:][:80]!r}")
        return found

    def next(self):
        data, at = self.data, self.at
        first = data[at : at + 1]
        if first == b"(":
            return self.list()
        if first == b'"':
            return self.quoted()
        if first == b"{":
            end = data.index(b"}\r\n", at)
            size = int(data[at + 1 : end])
            self.at = end + 3 + size
            return data[end + 3 : self.at]
        return self.atom()

    def list(self):
        self.at += 1
        found = []
        while True:
            if self.data[self.at : self.at + 1] == b")":
                self.at += 1
                return found
            # BODYSTRUCTURE has (part)(part) without a blank; all else is parted by one.
            if found and self.data[self.at : self.at + 1] == b" ":
                self.at += 1
            elif found and not (
                isinstance(found[-1], list) and self.data[self.at : self.at + 1] == b"("
            ):
                raise Grammar(f"no blank at {self.data[self.at:][:80]!r}")
            found.append(self.next())

    def quoted(self):
        found, at, data = bytearray(), self.at + 1, self.data
        while data[at : at + 1] != b'"':
            if data[at : at + 1] == b"\\":
                at += 1
            if data[at : at + 1] in (b"", b"\r", b"\n", b"\0"):
                raise Grammar(f"quoted string with {data[at:at + 1]!r}")
            found += data[at : at + 1]
            at += 1
        self.at = at + 1
        return bytes(found)

    def atom(self):
        """An atom; a section in brackets may have blanks and parentheses in it."""
        data, at, depth = self.data, self.at, 0
        while at < len(data) and (depth or data[at] not in b" ()"):
            depth += {ord("["): 1, ord("]"): -1}.get(data[at], 0)
            at += 1
        word = data[self.at : at].decode("ascii")
        if not word:
            raise Grammar(f"nothing at {data[at:][:80]!r}")
        self.at = at
        if word.upper() == "NIL":
            return None
        return int(word) if word.isdigit() else word
