"""A private root and what hangs below it, signed with ldns, served by Knot and NSD, and an Unbound
that resolves it all.

    .            knot  signed
    test.        knot  signed
    good.test.   knot  signed
    hashed.test. nsd   signed, NSEC3
    broken.test. nsd   signed, then one address is changed
    late.test.   nsd   signed, and the signatures have expired
    forged.test. nsd   signed with keys that its parent does not know
    plain.test.  nsd   not signed
    lame.test.   -     its server does not know it
"""

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage.servers import SECONDS_MAX, Server, free_ports

SOA = "@ 3600 IN SOA ns.test. host.test. 1 3600 600 86400 60\n@ 3600 IN NS ns.test.\n"

# Some of each kind.
COMMON = """
@ 300 IN MX 20 relay
@ 300 IN MX 10 mail
mail 300 IN A 192.0.2.10
mail 300 IN AAAA 2001:db8::10
relay 300 IN A 192.0.2.11
_25._tcp.mail 300 IN TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
*.wild 300 IN A 192.0.2.12
once 0 IN A 192.0.2.13
"""

# More than fits into one datagram.
LARGE = "".join(f'large 300 IN TXT "{n:03} {"x" * 200}"\n' for n in range(12))

ALIASES = """
www 300 IN CNAME mail
outside 300 IN CNAME mail.plain.test.
nowhere 300 IN CNAME nothing
b 300 IN CNAME c
c 300 IN CNAME b
chain0 300 IN CNAME chain1
""" + "".join(f"chain{n} 300 IN CNAME chain{n + 1}\n" for n in range(1, 9)) + \
    "chain9 300 IN A 192.0.2.14\n"


def tool(name):
    return shutil.which(name) or f"/usr/sbin/{name}"


def sign(folder, zone, text, *options, parent_knows=True):
    """The signed zone file, and the DS for the parent."""
    file = folder / (zone.strip(".") + "zone" if zone == "." else f"{zone}zone")
    file.write_text(f"$ORIGIN {zone}\n{SOA}{text}")

    def key(*kind):
        made = subprocess.run([tool("ldns-keygen"), "-a", "ECDSAP256SHA256", *kind, zone],
                              cwd=folder, capture_output=True, text=True, check=True)
        return made.stdout.strip()

    keys = [key("-k"), key()]
    known = keys[0] if parent_knows else key("-k")
    signed = Path(f"{file}.signed")
    subprocess.run([tool("ldns-signzone"), *options, "-o", zone, "-f", signed, file, *keys],
                   cwd=folder, check=True)
    ds = subprocess.run([tool("ldns-key2ds"), "-n", "-2", folder / f"{known}.key"],
                        cwd=folder, capture_output=True, text=True, check=True).stdout
    return signed, ds, folder / f"{keys[0]}.key"


class Zones:
    """The files of all zones, and the root's key."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        good, good_ds, _ = sign(folder, "good.test.", COMMON + ALIASES + LARGE)
        hashed, hashed_ds, _ = sign(folder, "hashed.test.", COMMON, "-n", "-t", "1", "-s", "c0ffee")
        broken, broken_ds, _ = sign(folder, "broken.test.", COMMON)
        broken.write_text(broken.read_text().replace("192.0.2.10", "192.0.2.66"))
        now = int(time.time())
        late, late_ds, _ = sign(folder, "late.test.", COMMON,
                                "-i", str(now - 90_000), "-e", str(now - 3_600))
        forged, forged_ds, _ = sign(folder, "forged.test.", COMMON, parent_knows=False)
        plain = folder / "plain.test.zone"
        plain.write_text(f"$ORIGIN plain.test.\n{SOA}{COMMON}{ALIASES}{LARGE}")
        below = "ns 3600 IN A 127.0.0.1\n"
        for name, ds in (("good", good_ds), ("hashed", hashed_ds), ("broken", broken_ds),
                         ("late", late_ds), ("forged", forged_ds), ("plain", ""), ("lame", "")):
            below += f"{name} 3600 IN NS ns.test.\n{ds}"
        test, test_ds, _ = sign(folder, "test.", below)
        root, _, self.anchor = sign(
            folder, ".", f"test. 3600 IN NS ns.test.\nns.test. 3600 IN A 127.0.0.1\n{test_ds}")
        self.knot = {".": root, "test.": test, "good.test.": good}
        self.nsd = {"hashed.test.": hashed, "broken.test.": broken, "late.test.": late,
                    "forged.test.": forged, "plain.test.": plain}


def answers(port, name=".", rtype=2):
    """Whether a name server answers there at all."""
    labels = [label for label in name.split(".") if label]
    question = b"".join(bytes([len(x)]) + x.encode() for x in labels) + b"\0"
    packet = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack(">HH", rtype, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.5)
        try:
            asking.connect(("127.0.0.1", port))
            asking.send(packet)
            return asking.recv(4096)[:2] == b"\0\7"
        except OSError:
            return False


class NameServer(Server):
    def __init__(self, folder):
        super().__init__(folder)
        self.port = free_ports(1)[0]

    def serve(self, *command, name="."):
        self.spawn(*command)
        until = time.monotonic() + SECONDS_MAX
        while not answers(self.port, name):
            if time.monotonic() > until or not self.lives(0.02):
                self.stop()
                raise RuntimeError(f"{command[0]} does not answer:\n{self.said()}")
        return self


class Knot(NameServer):
    def __init__(self, folder, zones):
        super().__init__(folder)
        self.zones = zones

    def __enter__(self):
        me = f"    user: root:root\n" if os.getuid() == 0 else ""
        text = (f"server:\n    listen: 127.0.0.1@{self.port}\n    rundir: {self.folder}\n{me}"
                f"database:\n    storage: {self.folder}\n"
                "log:\n  - target: stderr\n    any: info\nzone:\n")
        for zone, file in self.zones.items():
            text += (f'  - domain: "{zone}"\n    file: {file}\n    semantic-checks: off\n'
                     "    zonefile-sync: -1\n")
        config = self.folder / "knot.conf"
        config.write_text(text)
        return self.serve(tool("knotd"), "-c", config)


class Nsd(NameServer):
    def __init__(self, folder, zones):
        super().__init__(folder)
        self.zones = zones

    def __enter__(self):
        text = (f'server:\n  ip-address: 127.0.0.1@{self.port}\n  username: ""\n  chroot: ""\n'
                f'  zonesdir: "{self.folder}"\n  database: ""\n  pidfile: "{self.folder}/pid"\n'
                f'  xfrdfile: "{self.folder}/xfrd"\n  zonelistfile: "{self.folder}/list"\n'
                f'  xfrdir: "{self.folder}"\n  server-count: 1\n  verbosity: 1\n'
                'remote-control:\n  control-enable: no\n')
        for zone, file in self.zones.items():
            text += f'zone:\n  name: "{zone}"\n  zonefile: "{file}"\n'
        config = self.folder / "nsd.conf"
        config.write_text(text)
        return self.serve(tool("nsd"), "-d", "-c", config, name="plain.test")


class Unbound(NameServer):
    """Resolves what `knot` and `nsd` serve; `validates` with the root's key, or does not."""

    def __init__(self, folder, knot, nsd, anchor, validates):
        super().__init__(folder)
        self.knot, self.nsd, self.anchor, self.validates = knot, nsd, anchor, validates

    def __enter__(self):
        modules = "validator iterator" if self.validates else "iterator"
        trust = f'  trust-anchor-file: "{self.anchor}"\n' if self.validates else ""
        text = (f'server:\n  interface: 127.0.0.1\n  port: {self.port}\n  username: ""\n'
                f'  chroot: ""\n  directory: "{self.folder}"\n  pidfile: "{self.folder}/pid"\n'
                f'  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n  verbosity: 1\n'
                f'  module-config: "{modules}"\n{trust}  do-not-query-localhost: no\n'
                f'  local-zone: "test." nodefault\n  do-ip6: no\n  outgoing-port-avoid: 0-32767\n'
                f'  target-fetch-policy: "0 0 0 0 0"\n  qname-minimisation: no\n'
                f'remote-control:\n  control-enable: no\n')
        served = [(zone, self.knot.port) for zone in self.knot.zones]
        served += [(zone, self.nsd.port) for zone in [*self.nsd.zones, "lame.test."]]
        for zone, port in served:
            text += (f'stub-zone:\n  name: "{zone}"\n  stub-addr: 127.0.0.1@{port}\n'
                     "  stub-prime: no\n")
        config = self.folder / "unbound.conf"
        config.write_text(text)
        return self.serve(tool("unbound"), "-d", "-c", config)


class Silent:
    """A port where nobody answers."""

    def __enter__(self):
        self.port = free_ports(1)[0]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_):
        self.socket.close()
