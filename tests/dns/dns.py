"""`palomar dns lookup` against Knot, NSD and Unbound: what is found, what is not, and what DNSSEC
says of it."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from zones import SECONDS_MAX, Knot, Nsd, Silent, Unbound, Zones, free_ports


class Site:
    """A configuration, and look-ups with it."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.config = folder / "palomar.toml"

    def use(self, *ports, more=""):
        servers = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        self.config.write_text(
            f'hostname = "mail.example.org"\ndomains = ["example.org"]\n'
            f'data_dir = "{self.folder}/data"\n[dns]\nservers = [{servers}]\n{more}')

    def lookup(self, name, kind, *options):
        return subprocess.run(
            [self.binary, "dns", "lookup", name, kind, *options, "--config", str(self.config)],
            capture_output=True, text=True, timeout=SECONDS_MAX)

    def check(self, asked, kind, outcome, security=None, records=None, code=None, **more):
        done = self.lookup(asked, kind, "--json")
        said = (asked, kind, done.stdout, done.stderr)
        assert done.stdout, said
        [row] = json.loads(done.stdout)
        assert row["outcome"] == outcome, said
        want = code if code is not None else 0 if outcome == "records" else 1
        assert done.returncode == want, (*said, done.returncode)
        if security is not None:
            assert row["security"] == security, said
        if records is not None:
            assert row["records"] == records, said
        for key, value in more.items():
            assert row[key] == value, said
        return row


def trusting(zones, mode="on"):
    return f'trust_anchor_file = "{zones.anchor}"\ndnssec = "{mode}"\n'


MX = ["10 mail.good.test.", "20 relay.good.test."]
TLSA = "3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"


def signed_and_not(site):
    """With the private root's key, through whatever resolves."""
    site.check("good.test", "MX", "records", "secure", MX)
    site.check("mail.good.test", "AAAA", "records", "secure", ["2001:db8::10"])
    site.check("_25._tcp.mail.good.test", "TLSA", "records", "secure", [TLSA])
    site.check("any.wild.good.test", "A", "records", "secure", ["192.0.2.12"])
    site.check("far.off.wild.good.test", "A", "records", "secure", ["192.0.2.12"])
    site.check("any.wild.good.test", "AAAA", "nodata", "secure")
    site.check("wild.good.test", "A", "nodata", "secure")
    site.check("_443._tcp.mail.good.test", "TLSA", "nxdomain", "secure")
    site.check("_tcp.mail.good.test", "A", "nodata", "secure")
    site.check("once.good.test", "A", "records", "secure", ["192.0.2.13"], ttl=0)
    row = site.check("large.good.test", "TXT", "records", "secure")
    assert len(row["records"]) == 12, row
    site.check("www.good.test", "A", "records", "secure", ["192.0.2.10"], aliases=1,
               name="mail.good.test")
    site.check("nothing.good.test", "A", "nxdomain", "secure")
    site.check("_25._tcp.relay.good.test", "TLSA", "nxdomain", "secure")
    site.check("relay.good.test", "AAAA", "nodata", "secure")
    site.check("nowhere.good.test", "A", "nxdomain", "secure", aliases=1)


def beyond(site):
    """What only a resolver finds: zones of other servers."""
    site.check("hashed.test", "MX", "records", "secure",
               ["10 mail.hashed.test.", "20 relay.hashed.test."])
    site.check("nothing.hashed.test", "A", "nxdomain", "secure")
    site.check("relay.hashed.test", "AAAA", "nodata", "secure")
    site.check("any.wild.hashed.test", "AAAA", "nodata", "secure")
    site.check("_443._tcp.mail.hashed.test", "TLSA", "nxdomain", "secure")
    site.check("wild.hashed.test", "A", "nodata", "secure")
    site.check("far.off.wild.hashed.test", "A", "records", "secure", ["192.0.2.12"])
    site.check("any.wild.hashed.test", "A", "records", "secure", ["192.0.2.12"])
    site.check("plain.test", "MX", "records", "insecure",
               ["10 mail.plain.test.", "20 relay.plain.test."])
    site.check("nothing.plain.test", "A", "nxdomain", "insecure")
    site.check("relay.plain.test", "AAAA", "nodata", "insecure")
    site.check("outside.good.test", "A", "records", "insecure", ["192.0.2.10"], aliases=1)
    site.check("mail.broken.test", "A", "bogus", code=75)
    site.check("relay.broken.test", "A", "records", "secure", ["192.0.2.11"])
    site.check("mail.late.test", "A", "bogus", code=75)
    site.check("nothing.late.test", "A", "bogus", code=75)
    site.check("mail.forged.test", "A", "bogus", code=75)
    site.check("mail.lame.test", "A", "servfail", code=75)


def through_unbound(site, zones, knot, nsd, folder):
    for validates in (False, True):
        with Unbound(folder / f"unbound-{validates}", knot, nsd, zones.anchor,
                     validates) as unbound:
            for mode in ("on", "auto"):
                site.use(unbound.port, more=trusting(zones, mode))
                signed_and_not(site)
                beyond(site)
            site.use(unbound.port, more='dnssec = "off"\n')
            site.check("good.test", "MX", "records", "indeterminate", MX)
            site.check("nothing.good.test", "A", "nxdomain", "indeterminate")
            site.use(unbound.port,
                     more=trusting(zones) + 'insecure_domains = ["broken.test"]\n')
            site.check("mail.broken.test", "A", "records", "indeterminate", ["192.0.2.66"])
            # The real root's keys did not sign this one.
            site.use(unbound.port)
            site.check("good.test", "MX", "bogus", code=75)


def beside_the_dead(site, zones, knot):
    closed = free_ports(1)[0]
    site.use(closed, knot.port, more=trusting(zones))
    began = time.monotonic()
    site.check("good.test", "MX", "records", "secure", MX)
    assert time.monotonic() - began < 1, "a closed port is no reason to wait"
    site.use(closed)
    site.check("good.test", "MX", "unreachable", code=75)
    with Silent() as silent:
        site.use(silent.port, knot.port, more=trusting(zones))
        began = time.monotonic()
        site.check("good.test", "MX", "records", "secure", MX)
        assert time.monotonic() - began < 5, "silence was waited for too often"
        site.use(silent.port)
        site.check("good.test", "MX", "timeout", code=75)


def unsigned(site, nsd):
    """NSD alone: no root, so no validation."""
    site.use(nsd.port, more='dnssec = "off"\n')
    site.check("b.plain.test", "A", "loop")
    site.check("chain1.plain.test", "A", "records", aliases=8)
    site.check("chain0.plain.test", "A", "chain")
    site.check("good.test", "A", "refused", code=75)
    row = site.check("large.plain.test", "TXT", "records", "indeterminate")
    assert len(row["records"]) == 12, row
    table = site.lookup("plain.test", "mx").stdout
    assert "10 mail.plain.test." in table and "found, indeterminate, from" in table, table
    site.check("not..a.name", "A", "bad_name")


def main(binary):
    with tempfile.TemporaryDirectory(prefix="palomar-dns-") as folder:
        folder = Path(folder)
        # NSD reads its files as whoever it is.
        folder.chmod(0o755)
        zones = Zones(folder / "zones")
        site = Site(binary, folder)
        with Knot(folder / "knot", zones.knot) as knot, Nsd(folder / "nsd", zones.nsd) as nsd:
            unsigned(site, nsd)
            print("nsd: found, cut, aliased, refused")
            site.use(knot.port, more=trusting(zones))
            signed_and_not(site)
            print("knot: signed, large, absent")
            beside_the_dead(site, zones, knot)
            print("a dead server beside a live one, and alone")
            through_unbound(site, zones, knot, nsd, folder)
            print("unbound: secure, insecure, bogus, SERVFAIL")


main(sys.argv[1])
