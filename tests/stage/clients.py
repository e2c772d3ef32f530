"""What mail programs are told, and programs that want a terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time


def write(path, text, mode=0o600):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def idle_until_exists(box, count):
    """Has an IMAP session wait in its selected mailbox, where something is to come, until `count`
    messages are there."""
    box.send(b"idle IDLE\r\n")
    while line := box.readline():
        found = re.match(rb"\* (\d+) EXISTS", line)
        if found and int(found[1]) >= count:
            break
    box.send(b"DONE\r\n")
    while line and not line.startswith(b"idle OK"):
        line = box.readline()
    assert line, "the connection ended first"


def mbsyncrc(folder, host, port, user, password, ca=None):
    """Synchronises everything with Maildirs under `folder`/mail. Without `ca` there is no TLS."""
    (folder / "mail").mkdir(exist_ok=True)
    tls = f"SSLType IMAPS\nCertificateFile {ca}" if ca else "SSLType None\nAuthMechs LOGIN"
    return write(folder / "mbsyncrc", f"""
IMAPAccount there
Host {host}
Port {port}
User {user}
Pass {password}
{tls}

IMAPStore far
Account there

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
""")


def offlineimaprc(folder, host, port, user, password, ca=None):
    """The same with Maildirs under `folder`/offline."""
    tls = f"ssl = yes\nsslcacertfile = {ca}" if ca else "ssl = no\nstarttls = no"
    return write(folder / "offlineimaprc", f"""
[general]
accounts = test
metadata = {folder}/meta
maxsyncaccounts = 1
[Account test]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {folder}/offline
sep = /
[Repository far]
type = IMAP
remotehost = {host}
remoteport = {port}
{tls}
remoteuser = {user}
remotepass = {password}
maxconnections = 1
""")


def on_a_terminal(command, folder, seconds, size=(40, 100), quiet=None, seen_now=None):
    """Runs a program on a terminal of its own until it ends; all that it showed.

    `seen_now(shown)` is told what came since it last answered with keys to press; `quiet()` is
    asked for keys where nothing came for a second.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", HOME=str(folder),
                          LINES=str(size[0]), COLUMNS=str(size[1]))
        os.execvp(command[0], [str(word) for word in command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    until, seen, since = time.monotonic() + seconds, b"", 0
    while time.monotonic() < until:
        if select.select([terminal], [], [], 1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            seen += data
            keys = seen_now(seen[since:]) if seen_now else None
        else:
            keys = quiet() if quiet else None
        if keys:
            os.write(terminal, keys)
            since = len(seen)
    else:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen


def plain(shown):
    """Without what moves the cursor and changes colours."""
    return re.sub(r"\x1b(?:\[[?0-9;]*[A-Za-z]|\([B0])", "", shown.decode(errors="replace"))
