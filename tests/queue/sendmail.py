#!/usr/bin/env python3
"""Programs of this host send mail by a link named sendmail: as cron, mutt and s-nail call it, as root
and as other users, and what they are told where it does not work (docs/howto/sendmail.md).

    tests/queue/sendmail.py PALOMAR [SCENE]

Ends with `N passed, M failed`.
"""

import email
import email.policy
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from sink import Sink
from way_out import SECONDS_MAX, Site

from stage.score import Score

score = Score()
BINARY = None
SCENES = {}
NAMES = ("sendmail", "mailq", "newaliases")
USAGE, DATA, NO_USER, UNAVAILABLE, LATER, FORBIDDEN, CONFIG = 64, 65, 67, 69, 75, 77, 78
ME = pwd.getpwuid(os.getuid()).pw_name


def scene(function):
    SCENES[function.__name__] = function
    return function


class Host(Site):
    """A Palomar that this host's programs send by. `bin` has the links that they call."""

    def __init__(self, folder, sink, sendmail="", **more):
        folder = Path(folder)
        folder.chmod(0o755)
        self.bin, self.socket = folder / "bin", folder / "run" / "sendmail.sock"
        self.bin.mkdir()
        program = self.bin / "palomar"
        shutil.copy(BINARY, program)
        for name in NAMES:
            (self.bin / name).symlink_to(program)
        more["tables"] = more.get("tables", "") + \
            f'[sendmail]\nsocket = "{self.socket}"\n{sendmail}\n'
        super().__init__(folder, BINARY, [("out.test", sink.port)], **more)

    def call(self, *words, text="", name="sendmail", user=None, code=0, config=True):
        """What a program does; `user` is another one than ours, by name."""
        who = pwd.getpwnam(user) if user else None
        more = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if who else {}
        words = ["-C", str(self.config), *words] if config else words
        text = text.encode() if isinstance(text, str) else text
        done = subprocess.run([str(self.bin / name), *map(str, words)], input=text,
                              capture_output=True, timeout=SECONDS_MAX, cwd="/", **more)
        assert done.returncode == code, (words, done)
        if code:
            assert done.stderr.startswith(f"{name}: ".encode()), done
        return done


def header(content):
    return email.message_from_bytes(content)


@scene
def cron(folder):
    """A message on standard input: what is added to it, what is taken out, whom it goes to."""
    with Sink() as sink, Host(folder, sink) as site:
        assert oct(site.socket.stat().st_mode & 0o777) == "0o666"
        job = "Subject: Cron <root@host> job\nTo: ana\nCc: \"Bea, B.\" <bea@out.test>\n" \
              "Bcc: eva@out.test\n\n.\nIt said:\r\n..\n10%\r20%\n\0end"
        site.call("-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", ME, text=job)
        sink.wait(lambda sink: len(sink.taken()) == 2)
        assert {to for _, to in sink.taken()} == {"bea@out.test", "eva@out.test"}
        [local] = site.until(site.messages, "ana's copy")
        got = sink.letters[0]
        assert got.sender == f"{ME}@play.test", got.sender
        assert got.content.endswith(b"\r\n\r\n.\r\nIt said:\r\n..\r\n10%\r\n20%\r\nend\r\n"), \
            got.content
        for content in (local, got.content):
            head = header(content)
            assert "Bcc" not in head and head["Date"] and head["Message-ID"], head
            assert head["From"] == f"CronDaemon <{ME}@play.test>", head["From"]
            received = head.get_all("Received")[0]
            assert f"(local user {ME}, uid {os.getuid()})" in received, received
            assert "with ESMTP\n" in received.replace("\r", ""), received

        # Recipients by name; no header; a line of one dot; a sender of nobody; 8 bits.
        site.call("zoe@out.test", "yan@out.test", text="Only a text.\n.\nnot this\n")
        site.call("-f", "<>", "-N", "never", "-V", "id7", "uwe@out.test",
                  text="Subject: Señal\n\nGrüße\n")
        sink.wait(lambda sink: len(sink.taken()) == 5)
        [text] = sink.taken_by("zoe@out.test")
        assert text.content.endswith(b"\r\n\r\nOnly a text.\r\n"), text.content
        [null] = sink.taken_by("uwe@out.test")
        assert null.sender == "" and null.parameters["BODY"] == "8BITMIME", null.parameters
        large = "Subject: large\n\n" + "0123456789abcdef" * 4 * 60_000
        site.call("-i", "ida@out.test", text=large)
        sink.wait(lambda sink: sink.taken_by("ida@out.test"))
        [got] = sink.taken_by("ida@out.test")
        lines = got.content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n").split(b"\r\n")
        assert max(map(len, lines)) == 998 and lines[0] + b"".join(
            line.removeprefix(b" ") for line in lines[1:]) == large.split("\n\n")[1].encode()
        site.wait_empty()
        site.run("sendmail", "-t", "-i", input="To: last@out.test\n\n")
        sink.wait(lambda sink: sink.taken_by("last@out.test"))
        log = site.run("log", "--json", "--lines", "1000").stdout
        assert f"unix uid {os.getuid()}" in log, log[-2000:]


@scene
def users(folder):
    """Who is not trusted sends in his own name, whatever he says."""
    if os.getuid() != 0:
        return score.skip("users", "only root may become somebody else")
    with Sink() as sink, Host(folder, sink, 'trusted = ["www-data"]',
                              users=("ana", "games"),
                              aliases=[("player@play.test", "games@play.test"),
                                       ("all@play.test", "games@play.test", "ana@play.test")]
                              ) as site:
        def sender(user, *words):
            count = len(sink.letters)
            site.call("-i", *words, "bea@out.test", text="Subject: x\n\n", user=user)
            sink.wait(lambda sink: len(sink.letters) == count + 1 and sink.letters[count].taken)
            head = header(sink.letters[count].content)
            uid = pwd.getpwnam(user).pw_uid
            assert f"(local user {user}, uid {uid})" in head.get_all("Received")[0], head
            return sink.letters[count].sender
        for user, words, want in [
                ("nobody", [], "nobody@play.test"),
                ("nobody", ["-f", "ana@play.test"], "nobody@play.test"),
                ("nobody", ["-f", "boss@bank.test"], "nobody@play.test"),
                ("nobody", ["-f", "<>"], "nobody@play.test"),
                ("www-data", ["-f", "boss@bank.test"], "boss@bank.test"),
                ("www-data", ["-r", "<>"], ""),
                ("root", ["-f", "boss@bank.test"], "boss@bank.test"),
                ("games", ["-f", "player@play.test"], "player@play.test"),
                ("games", ["-f", "games+chess@play.test"], "games+chess@play.test"),
                ("games", ["-f", "ana@play.test"], "games@play.test"),
                ("games", ["-f", "all@play.test"], "games@play.test"),
                ("games", [], "games@play.test")]:
            got = sender(user, *words)
            assert got == want, (user, words, got)
        # The same who speaks SMTP himself.
        said = "EHLO x\r\nMAIL FROM:<boss@bank.test>\r\nRCPT TO:<zoe@out.test>\r\nDATA\r\n" \
               "Subject: by hand\r\n\r\nText\r\n.\r\nQUIT\r\n"
        done = site.call("-bs", text=said, user="nobody")
        codes = [line[:3] for line in done.stdout.decode().splitlines() if line[3:4] == " "]
        assert codes == ["220", "250", "250", "250", "354", "250", "221"], done.stdout
        sink.wait(lambda sink: sink.taken_by("zoe@out.test"))
        [got] = sink.taken_by("zoe@out.test")
        assert got.sender == "nobody@play.test", got.sender


@scene
def elsewhere(folder):
    """A user whom only the host's directory service knows, and one whom nobody knows."""
    if os.getuid() != 0:
        return score.skip("elsewhere", "only root may become somebody else")
    known, unknown = 64_242, 64_243
    service = Path(folder) / "service"
    service.mkdir()
    getent = service / "getent"
    getent.write_text(f'#!/bin/sh\n[ "$1 $2" = "passwd {known}" ] && '
                      f'echo "lea:*:{known}:100:Lea Far,Room 3:/home/lea:/bin/sh"\n')
    getent.chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{service}:{path}"
    try:
        with Sink() as sink, Host(folder, sink) as site:
            for uid, login in ((known, "lea"), (unknown, f"uid{unknown}")):
                words = [str(site.bin / "sendmail"), "-C", str(site.config), "bea@out.test"]
                subprocess.run(words, input=b"Subject: x\n\n", check=True, user=uid, group=uid,
                               extra_groups=[], cwd="/", timeout=SECONDS_MAX)
                sink.wait(lambda sink: len(sink.taken()) == uid - known + 1)
                got = sink.letters[-1]
                assert got.sender == f"{login}@play.test", got.sender
                received = header(got.content).get_all("Received")[0]
                assert f"(local user {login}, uid {uid})" in received, received
    finally:
        os.environ["PATH"] = path


@scene
def codes(folder):
    """What a program is told where it does not work, and that nothing is swallowed."""
    with Sink() as sink, Host(folder, sink, top='[limits]\nmessage_bytes_max = "64KB"\n') as site:
        site.call("-t", "-Z", code=USAGE)
        site.call(text="Text\n", code=USAGE)
        site.call("-N", "often", "bea@out.test", code=USAGE)
        site.call("-bd", code=USAGE)
        site.call("-t", text="Subject: to nobody\n\n", code=DATA)
        site.call("-t", text="To: <not an@address@>\n\n", code=DATA)
        site.call("bea@out.test", text="x" * 70_000, code=DATA)
        some = site.call("bea@out.test", "nosuch", text="Text\n", code=NO_USER)
        assert b"nosuch@play.test" in some.stderr and b"bea@" not in some.stderr, some.stderr
        site.call("nosuch", text="Text\n", code=NO_USER)
        sink.wait(lambda sink: len(sink.taken()) == 1)
        assert sink.taken_by("bea@out.test")
        # Everybody of this host can send, and only root and the server's user see the queue.
        if os.getuid() == 0:
            site.call("-bp", user="nobody", code=FORBIDDEN)
            site.socket.parent.chmod(0o700)
            told = site.call("bea@out.test", text="Text\n", user="nobody", code=FORBIDDEN)
            assert b"cannot be reached" in told.stderr, told.stderr
            site.socket.parent.chmod(0o755)
        # No server, and one that was killed.
        for how in (signal.SIGTERM, signal.SIGKILL):
            # Or the kill takes with it that the last one arrived, and it goes twice.
            site.wait_empty()
            site.stop(how)
            told = site.call("bea@out.test", text="Text\n", code=LATER)
            assert b"is not running" in told.stderr, told.stderr
            site.start()
            site.call("-i", f"{how.name}@out.test", text="Text\n")
        sink.wait(lambda sink: len(sink.taken()) == 3)
        site.wait_empty()
        broken = Path(folder) / "broken.toml"
        broken.write_text("hostname = 7\n")
        told = site.call("-C", broken, "bea@out.test", text="Text\n", code=CONFIG)
        assert b"hostname" in told.stderr, told.stderr
        missing = Path(folder) / "no.toml"
        told = site.call("-C", missing, "bea@out.test", text="Text\n", code=CONFIG)
        assert b"no.toml" in told.stderr, told.stderr
        site.stop(signal.SIGTERM)
        site.configure(site.text.replace("[sendmail]\n", "[sendmail]\nenabled = false\n"))
        site.start()
        told = site.call("bea@out.test", text="Text\n", code=UNAVAILABLE)
        assert b"sendmail.enabled" in told.stderr, told.stderr
        assert len(sink.taken()) == 3, f"one that was said to be not sent: {sink.taken()}"


@scene
def names(folder):
    """mailq, newaliases and -bp, by the name that the program is called by."""
    with Sink(rcpt=lambda *_: "450 4.2.1 later") as sink, \
            Host(folder, sink, queue='retry = ["1h"]\n') as site:
        site.call(name="newaliases")
        site.call("-bi")
        site.call("-q")
        site.call("-q15m")
        assert site.call(name="mailq").stdout == b"nothing waits\n"
        site.call("bea@out.test", text="Text\n")
        site.until(lambda: site.recipients("deferred") == 1, "it was tried")
        for done in (site.call(name="mailq"), site.call("-bp")):
            assert b"bea@out.test" in done.stdout and b"450 4.2.1 later" in done.stdout, done


@scene
def programs(folder):
    """mutt and s-nail, with nothing but `set sendmail=`."""
    with Sink() as sink, Host(folder, sink) as site:
        home = Path(folder) / "home"
        home.mkdir()
        sendmail = f"{site.bin}/sendmail -C {site.config}"
        env = {**os.environ, "HOME": str(home), "MAILRC": "/dev/null"}
        file = home / "table.csv"
        file.write_text("Größe;1\n")

        def run(*command):
            done = subprocess.run(list(map(str, command)), input="Observación\n".encode(),
                                  capture_output=True, timeout=SECONDS_MAX, env=env, cwd=home)
            assert done.returncode == 0, done
        played = []
        if shutil.which("mutt"):
            rc = home / "muttrc"
            rc.write_text(f'set sendmail="{sendmail} -oem -oi"\nset copy=no\nset use_from=yes\n'
                          'set from="ana@play.test"\nset realname="Ana"\nset charset=utf-8\n')
            run("mutt", "-F", rc, "-s", "Señal de mutt", "-a", file, "-b", "eva@out.test",
                "--", "bea@out.test")
            played.append("mutt")
        if shutil.which("s-nail"):
            run("s-nail", "-:/", "-S", "ttycharset=utf-8", "-S", f"mta={site.bin}/sendmail",
                "-S", f"mta-arguments=-C {site.config}", "-S", "from=ana@play.test",
                "-s", "Señal de s-nail", "-a", file, "-b", "eva@out.test", "bea@out.test")
            played.append("s-nail")
        if not played:
            return score.skip("programs", "neither mutt nor s-nail is installed")
        sink.wait(lambda sink: len(sink.taken()) == 2 * len(played))
        assert len(sink.letters) == len(played), "one letter each, for both"
        for got, name in zip(sink.letters, played):
            head = email.message_from_bytes(got.content, policy=email.policy.default)
            assert head["Subject"] == f"Señal de {name}", head["Subject"]
            assert "ana@play.test" in head["From"] and "Bcc" not in head, head
            parts = [part.get_content() for part in head.walk() if not part.is_multipart()]
            assert parts[0].strip() == "Observación" and len(parts) == 2, parts
            assert sorted(got.addresses()) == ["bea@out.test", "eva@out.test"], got.addresses()


def main():
    global BINARY
    BINARY = sys.argv[1]
    for name, play in SCENES.items():
        if not sys.argv[2:] or name in sys.argv[2:]:
            score.play(name, play)
    score.end()


main()
