"""A blocking IMAP client that reads no more of a response than where it ends."""

import socket
import ssl

from stacks import PASSWORD

REPLY_SECONDS_MAX = 600
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


class Client:
    def __init__(self, port, user=None, tls=False):
        self.socket = socket.create_connection(("127.0.0.1", port), REPLY_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = CONTEXT.wrap_socket(self.socket)
        self.count = 0
        self.until(b"* OK")
        if user:
            self.command(f"LOGIN {user} {PASSWORD}")

    def until(self, start):
        """Reads until the last line, whole, begins so; returns all bytes."""
        data = bytearray()
        while True:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError(f"closed after {bytes(data[-200:])!r}")
            data += more
            if data.endswith(b"\r\n"):
                last = data.rfind(b"\n", 0, -1) + 1
                if data.startswith(start, last):
                    return data
                if start.startswith(b"a") and data.startswith(b"a", last):
                    return data

    def command(self, text, literal=None):
        """Sends one command, with a non-synchronising literal at its end, and waits for OK."""
        self.send(text, literal)
        return self.answer()

    def send(self, text, literal=None):
        self.count += 1
        data = f"a{self.count} {text}".encode()
        if literal is not None:
            data += b" {%d+}\r\n" % len(literal) + literal
        self.socket.sendall(data + b"\r\n")

    def answer(self):
        tag = b"a%d " % self.count
        data = self.until(tag)
        last = data.rfind(b"\n", 0, -1) + 1
        if not data.startswith(tag + b"OK", last):
            raise RuntimeError(bytes(data[last:]).decode(errors="replace").strip())
        return data

    def idle(self):
        self.send("IDLE")
        self.until(b"+")

    def close(self):
        self.socket.close()
