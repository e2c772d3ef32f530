"""Keys from `palomar dkim make` to their removal, on a stopped and a running server; what they sign
is judged by dkimpy (RSA and Ed25519) and Mail::DKIM (RSA), which ask a real name server for the
keys that were pasted there as `palomar dkim show` prints them."""

import base64
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import dkim
import dns.message
import dns.query

HERE = Path(__file__).resolve().parent
# Behind Debian's modules: the folder there has a `dns` of its own.
sys.path += [str(HERE.parent), str(HERE.parent / "dns")]

from stage.servers import SECONDS_MAX, Palomar, free_ports
from zones import Knot

DOMAIN = "play.test"
SOA = "@ 3600 IN SOA ns.test. host.test. 1 3600 600 86400 60\n@ 3600 IN NS ns.test.\n"
HOST = "192.0.2.10"

PERL = r"""
my $resolver = Net::DNS::Resolver->new(nameservers => ["127.0.0.1"], port => $ARGV[0]);
Mail::DKIM::DNS::resolver($resolver);
my $judge = Mail::DKIM::Verifier->new();
binmode STDIN;
local $/ = undef;
$judge->PRINT(<STDIN>);
$judge->CLOSE;
print $_->algorithm, " ", $_->result, "\n" for $judge->signatures;
"""

HEAD = (b"Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0000\r\n"
        b"From: Ana <ana@play.test>\r\nTo: bo@elsewhere.test\r\n"
        b"Subject: a  subject\r\n\twith   folds \r\n"
        b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@play.test>\r\n")

# Header lines that come on top, and a body.
LETTERS = {
    "plain": (b"", b"Hello.\r\n\r\nBye.\r\n"),
    "no body": (b"", b""),
    "empty lines": (b"", b"\r\n\r\n \t\r\n"),
    "white space": (b"", b" a \t b  \r\n\t\r\nc\t \r\n\r\n\r\n"),
    "no end": (b"", b"a\r\nb  "),
    "eight bits": ("X-A: \u00e9\r\nReply-To: J\u00fcrgen <j@play.test>\r\n".encode(),
                   "\u00e9\u00e8 \U0001f54a\r\n".encode()),
    "dots": (b"", b".\r\n..\r\n.a\r\n"),
    "several": (b"To: c@elsewhere.test\r\nReferences: <a@b>\r\n <c@d>\r\nList-Id: <l.play.test>\r\n"
                b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n"
                b"Resent-From: r@play.test\r\nComments:\r\nSender: s@play.test\r\n"
                b"List-Unsubscribe: <https://play.test/u>\r\n"
                b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", b"x\r\n" * 5000),
    "from below": (b"From: x@news.play.test\r\n", b"x\r\n"),
}


class Zone:
    """What is published, and a Knot that serves it."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def serve(self, text, name=DOMAIN):
        self.count += 1
        folder = self.folder / f"zone-{self.count}"
        folder.mkdir()
        file = folder / "zone"
        file.write_text(f"$ORIGIN {name}.\n$TTL 300\n{SOA}{text}")
        reverse = folder / "reverse"
        reverse.write_text("$ORIGIN 2.0.192.in-addr.arpa.\n$TTL 300\n" + SOA
                           + "10 IN PTR mail.play.test.\n11 IN PTR other.play.test.\n")
        return Knot(folder, {f"{name}.": file, "2.0.192.in-addr.arpa.": reverse})


def asking(port):
    """How dkimpy gets its keys."""
    def text(name, timeout=5):
        query = dns.message.make_query(name.decode() if isinstance(name, bytes) else name, "TXT")
        answer = dns.query.tcp(query, "127.0.0.1", port=port, timeout=SECONDS_MAX)
        for rrset in answer.answer:
            for data in rrset:
                return b"".join(data.strings)
        return None
    return text


class Play:
    def __init__(self, binary, folder):
        self.folder = folder
        self.server = Palomar(folder / "palomar", binary, [("lmtp", "")], domain=DOMAIN)
        self.plain = self.server.text.replace('hostname = "localhost"',
                                              'hostname = "mail.play.test"')
        self.use(free_ports(1)[0])
        self.zone = Zone(folder)

    def use(self, port):
        """Names are asked for there."""
        self.port = port
        self.server.configure(self.plain + f'[dns]\nservers = ["127.0.0.1:{port}"]\n'
                                           'dnssec = "off"\n')

    def run(self, *words, code=0):
        done = self.server.run(*words, code=code)
        assert "pkcs8" not in done.stdout + done.stderr, "a private key"
        return done.stdout if code == 0 else done.stderr

    def keys(self):
        return {key["selector"]: key["state"]
                for key in json.loads(self.run("dkim", "list", "--json"))}

    def zone_text(self):
        """What an operator pastes."""
        return self.run("dkim", "show", DOMAIN)

    def signed(self, head, body, *options):
        letter = self.folder / "letter.eml"
        letter.write_bytes(head + b"\r\n" + body)
        done = subprocess.run([self.server.binary, "dkim", "test", letter, "--whole", *options,
                               "--config", self.server.config], capture_output=True,
                              timeout=SECONDS_MAX)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def judge(self, message):
        """What each judge says of each signature: (judge, number or algorithm, verdict)."""
        said = []
        fields = message.split(b"\r\n\r\n")[0].count(b"DKIM-Signature:")
        for number in range(fields):
            try:
                good = dkim.DKIM(message).verify(idx=number, dnsfunc=asking(self.port))
            except dkim.DKIMException as error:
                good = repr(error)
            said.append(("dkimpy", number, good))
        done = subprocess.run(
            ["perl", "-MMail::DKIM::Verifier", "-MMail::DKIM::DNS", "-MNet::DNS", "-e", PERL,
             str(self.port)], input=message, capture_output=True, timeout=SECONDS_MAX)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.decode().splitlines():
            algorithm, verdict = line.split()
            if algorithm == "rsa-sha256":
                said.append(("Mail::DKIM", algorithm, verdict == "pass"))
        return said

    def believed(self, message, signatures=2):
        said = self.judge(message)
        assert all(good is True for _, _, good in said), (said, message[:3000])
        assert len(said) == signatures + 1, said

    def doubted(self, message):
        said = self.judge(message)
        assert said and all(good is not True for _, _, good in said), (said, message[:3000])


def made_and_published(play):
    assert play.keys() == {}
    made = json.loads(play.run("dkim", "make", DOMAIN, "--json"))
    assert [key["algorithm"] for key in made] == ["rsa-sha256", "ed25519-sha256"], made
    assert all(key["state"] == "new" for key in made)
    assert set(made[0]) == {"domain", "selector", "algorithm", "bits", "state", "created",
                            "public"}, made[0]
    assert "new and signs nothing" in play.run("dkim", "make", DOMAIN, code=1)
    # Nobody answers, then the zone is there without them.
    assert "nothing was changed" in play.run("dkim", "activate", DOMAIN, code=75)
    with play.zone.serve("") as knot:
        play.use(knot.port)
        assert "no such record" in play.run("dkim", "activate", DOMAIN, code=75)
    wrong = play.zone_text().replace("p=", "p=AAAA")
    with play.zone.serve(wrong) as knot:
        play.use(knot.port)
        assert "another key" in play.run("dkim", "activate", DOMAIN, code=75)
    assert set(play.keys().values()) == {"new"}
    letter = play.folder / "letter.eml"
    letter.write_bytes(HEAD + b"\r\n")
    assert "no active key" in play.run("dkim", "test", letter, code=1)


def every_letter(play):
    for name, (more, body) in LETTERS.items():
        head = HEAD.replace(b"From: Ana", b"X-From: Ana") if name == "from below" else HEAD
        message = play.signed(more + head, body)
        if not message.endswith(b"\r\n"):
            # On the wire every line has an end.
            message += b"\r\n"
        play.believed(message)
        for line in message.split(b"\r\n\r\n")[0].split(b"\r\n"):
            assert len(line) <= 78, line
    # LF files too.
    play.believed(play.signed(HEAD.replace(b"\r\n", b"\n"), b"a\nb\n"))
    good = play.signed(HEAD, b"Hello.\r\n", "--lifetime", "7d")
    assert b" x=" in good
    play.believed(good)
    # White space may change on the way, and fields come on top.
    play.believed(good.replace(b"a  subject\r\n\twith   folds ", b"a subject with folds"))
    play.believed(b"Received: from b by c\r\n" + good + b"\r\n\r\n")
    for changed in (
            good.replace(b"Hello.", b"Hallo."), good + b"more\r\n",
            good.replace(b"ana@play.test", b"bob@play.test"),
            good.replace(b"bo@elsewhere", b"eve@elsewhere"),
            # What is sealed: a second one, or a first one.
            b"From: eve@play.test\r\n" + good, b"Subject: other\r\n" + good,
            b"Reply-To: eve@elsewhere.test\r\n" + good, b"Cc: eve@elsewhere.test\r\n" + good,
            b"Content-Type: text/html\r\n" + good, b"MIME-Version: 1.0\r\n" + good,
            b"Date: Sun, 22 Nov 2026 11:00:00 +0000\r\n" + good):
        play.doubted(changed)


def rotated(play):
    """On a running server, which is killed in between."""
    old = play.keys()
    before = play.signed(HEAD, b"signed with the old ones\r\n")
    assert "young" in play.run("dkim", "rotate", DOMAIN, "--older-than", "90d")
    made = json.loads(play.run("dkim", "rotate", DOMAIN, "--json"))
    assert made["step"] == "made" and len(made["keys"]) == 2, made
    play.run("dkim", "rotate", DOMAIN, code=75)
    assert {name: state for name, state in play.keys().items() if name in old} == old
    play.server.stop(signal.SIGKILL)
    play.server.start()
    assert len(play.keys()) == 4
    with play.zone.serve(play.zone_text()) as knot:
        play.use(knot.port)
        assert json.loads(play.run("dkim", "rotate", DOMAIN, "--json"))["step"] == "activated"
        play.server.stop(signal.SIGKILL)
        play.server.start()
        states = play.keys()
        assert all(states[name] == "retired" for name in old), states
        new = [name for name in states if name not in old]
        assert all(states[name] == "active" for name in new) and len(new) == 2, states
        play.believed(before)
        after = play.signed(HEAD, b"signed with the new ones\r\n")
        assert all(f"s={name};".encode() in after for name in new), after
        play.believed(after)
    gone = sorted(old)[0]
    assert "7 more days" in play.run("dkim", "remove", DOMAIN, gone, code=1)
    play.run("dkim", "remove", DOMAIN, gone, "--force")
    assert gone not in play.keys()
    assert "signs mail" in play.run("dkim", "remove", DOMAIN, new[0], code=1)
    return new


def imported(play):
    """Keys as OpenSSL and OpenDKIM's tools write them."""
    wanted = {}
    for name, how in (("plain", ["genrsa", "2048"]), ("old", ["genrsa", "-traditional", "3072"]),
                      ("ed", ["genpkey", "-algorithm", "ed25519"])):
        key = play.folder / f"{name}.pem"
        key.write_bytes(subprocess.run(["openssl", *how], capture_output=True, check=True).stdout)
        public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"],
                                capture_output=True, check=True).stdout
        wanted[name] = base64.b64encode(public[-32:] if name == "ed" else public).decode()
        play.run("dkim", "import", DOMAIN, key, "--selector", name)
        [record] = json.loads(play.run("dkim", "show", DOMAIN, name, "--json"))
        assert record["text"].split("p=")[1] == wanted[name], (record, wanted[name])
        play.run("dkim", "activate", DOMAIN, name, "--force")
    weak = play.folder / "weak.pem"
    weak.write_bytes(subprocess.run(["openssl", "genrsa", "1024"], capture_output=True,
                                    check=True).stdout)
    assert "no private key" in play.run("dkim", "import", DOMAIN, weak, "--selector", "w", code=1)
    with play.zone.serve(play.zone_text()) as knot:
        play.use(knot.port)
        play.believed(play.signed(HEAD, b"signed with keys from elsewhere\r\n"))


def checked(play):
    """`dns check` of a good zone, of none, and of one with a fault in every record."""
    def rows(code, *addresses):
        options = [word for ip in addresses for word in ("--address", ip)]
        done = play.server.run("dns", "check", DOMAIN, "--json", *options, code=code)
        found = {}
        for row in json.loads(done.stdout):
            found.setdefault(row["what"], []).append(row)
        return found

    def status(found):
        return {what: sorted({row["status"] for row in of}) for what, of in found.items()}

    good = (f"mail IN A {HOST}\n@ IN MX 10 mail\n"
            '@ IN TXT "v=spf1 include:spf.play.test -all"\n'
            f'spf IN TXT "v=spf1 ip6:2001:db8::/32 a:mail.play.test ~all"\n'
            '_dmarc IN TXT "v=DMARC1; p=quarantine; rua=mailto:d@play.test"\n'
            '_mta-sts IN TXT "v=STSv1; id=20261122"\n'
            '_smtp._tls IN TXT "v=TLSRPTv1; rua=mailto:t@play.test"\n')
    with play.zone.serve(good + play.zone_text()) as knot:
        play.use(knot.port)
        found = rows(0, HOST)
        assert set(sum(status(found).values(), [])) == {"ok"}, found
        # Mail that leaves from elsewhere.
        found = rows(1, "192.0.2.11")
        assert status(found)["SPF"] == status(found)["A"] == status(found)["PTR"] == ["wrong"]
        assert "include:spf.play.test ip4:192.0.2.11 -all" in found["SPF"][0]["zone"], found
        text = play.server.run("dns", "check", DOMAIN, "--address", HOST).stdout
        assert "what belongs into the zone" not in text and "v=DMARC1" in text, text
    with play.zone.serve("") as knot:
        play.use(knot.port)
        found = rows(1, HOST)
        assert status(found) == {
            "A": ["missing"], "PTR": ["ok"], "MX": ["missing"], "SPF": ["missing"],
            "DKIM": ["missing"], "DMARC": ["missing"], "MTA-STS": ["missing"],
            "TLS-RPT": ["missing"]}, found
        # Pasting what it says makes it well.
        lines = "".join(row["zone"] + "\n" for of in found.values() for row in of
                        if row["what"] != "PTR")
    with play.zone.serve(lines) as knot:
        play.use(knot.port)
        found = rows(0, HOST)
        missing = {what for what, of in status(found).items() if of != ["ok"]}
        assert missing == {"MTA-STS"}, found
    bad = (f"mail IN A 192.0.2.99\n@ IN MX 10 relay\n"
           '@ IN TXT "v=spf1 mx"\n@ IN TXT "v=spf1 a -all"\n_dmarc IN TXT "v=DMARC1; p=never"\n'
           '_mta-sts IN TXT "v=STSv1"\n_smtp._tls IN TXT "v=TLSRPTv1; rua=t@play.test"\n')
    with play.zone.serve(bad + play.zone_text().replace("p=", "p=AAAA")) as knot:
        play.use(knot.port)
        found = rows(1, HOST)
        wrong = {what for what, of in status(found).items() if of == ["wrong"]}
        assert wrong == set(found) - {"PTR"}, found
    for record, want, word in (
            ("v=spf1 redirect=spf.play.test", "ok", ""),
            ("v=spf1 ?mx:play.test/24 -all", "wrong", "neutral"),
            ("v=spf1 a:mail.play.test/24//64 -all", "ok", ""),
            ("v=spf1 -include:spf.play.test", "wrong", "(fail)"),
            ("v=spf1 exists:%{i}.play.test ~all", "wrong", "softfail"),
            ("v=spf1 include:play.test -all", "wrong", "more than 10"),
            ("v=spf1 redirect=play.test", "wrong", "more than 10"),
            ("v=spf1 include:nothing.play.test -all", "wrong", "no SPF record"),
            ("v=spf1 include:bad.play.test -all", "wrong", "is no term")):
        with play.zone.serve(f'mail IN A {HOST}\n@ IN MX 10 mail\n@ IN TXT "{record}"\n'
                             f'spf IN TXT "v=spf1 ip4:{HOST} -all"\n'
                             'bad IN TXT "v=spf1 ipv4:192.0.2.1"\n') as knot:
            play.use(knot.port)
            [row] = rows(1, HOST)["SPF"]
            assert row["status"] == want and word in row["note"], (record, row)
    play.use(free_ports(1)[0])
    assert set(sum(status(rows(75)).values(), [])) == {"unknown"}


def main(binary):
    with tempfile.TemporaryDirectory(prefix="palomar-dkim-") as folder:
        play = Play(binary, Path(folder))
        made_and_published(play)
        print("made on a stopped server, and activated by nobody before the DNS shows it")
        with play.zone.serve(play.zone_text()) as knot:
            play.use(knot.port)
            play.run("dkim", "activate", DOMAIN)
            assert set(play.keys().values()) == {"active"}
            every_letter(play)
            print(f"{len(LETTERS)} kinds of letters believed by two judges, 11 forgeries by none")
            with play.server:
                play.believed(play.signed(HEAD, b"on a running server\r\n"))
                new = rotated(play)
                print("rotated on a running server that was killed twice")
                checked(play)
                print("zones: good, empty, wrong, out of reach")
                imported(play)
                print("keys of OpenSSL taken over")
                assert play.keys()[new[0]] == "retired", "others took their place"
                play.run("dkim", "retire", DOMAIN, "ed")
                assert play.keys()["ed"] == "retired"
            logs = play.server.folder.rglob("*.log")
            assert not any("pkcs8" in log.read_text(errors="replace") for log in logs)


main(sys.argv[1])
