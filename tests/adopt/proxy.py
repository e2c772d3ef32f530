"""Stands before a server and counts the messages that clients take or bring.

Clients always connect to the same ports; which server is behind them is changed by `to`.
"""

import re
import socket
import threading

# A whole message: RETR or TOP (fetchmail's way to leave \Seen alone), FETCH of a body, APPEND.
TAKES = re.compile(
    rb"^(?:RETR |TOP |\S+ (?:UID )?FETCH .*(?:BODY(?:\.PEEK)?\[\]|RFC822(?![.\w]))|\S+ APPEND )",
    re.IGNORECASE,
)


class Proxy:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.behind, self.taken = None, []
        threading.Thread(target=self.accept, daemon=True).start()

    def to(self, port):
        self.behind = port

    def count(self):
        """Messages since the last call, as the commands that asked for them."""
        taken, self.taken = self.taken, []
        return taken

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.behind))
            except OSError:
                near.close()
                continue
            threading.Thread(target=self.pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, False), daemon=True).start()

    def pump(self, source, sink, is_client):
        rest = b""
        try:
            while data := source.recv(65536):
                if is_client:
                    *lines, rest = (rest + data).split(b"\r\n")
                    self.taken += [line for line in lines if TAKES.match(line)]
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
