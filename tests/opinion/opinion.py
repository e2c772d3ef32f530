#!/usr/bin/env python3
"""Asks Dovecot for a second opinion on the structure of several hundred messages.

    tests/opinion/opinion.py [--palomar BINARY] [--only LETTER] [--show]

Every letter (`letters.py`) is appended to both servers; then BODYSTRUCTURE, BODY, ENVELOPE,
RFC822.SIZE and every section of every part are compared as values, not as text. Where the two
differ, `verdicts.toml` says who is right by which RFC. A difference that is not listed there
fails, and so does a listed one that no longer occurs. Ends with `N passed, M failed`.
"""

import argparse
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import imap
from letters import letters
from stage.servers import Dovecot, Palomar

WHOLE = ["RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY"]
ENVELOPE = "date subject from sender reply-to to cc bcc in-reply-to message-id".split()
FIELDS = "HEADER.FIELDS (Subject FROM x-absent Received)"
FIELDS_NOT = "HEADER.FIELDS.NOT (Subject Content-Type)"
WIDTH = 110
PASSWORD = "an-open-secret"
ABSENT = "no such item"


def lower(value):
    return value.lower() if isinstance(value, bytes) else value


def params(value):
    """Names compare in any case (RFC 2045 5.1), and the order of parameters says nothing."""
    if value is None:
        return None
    pairs = list(zip(value[::2], value[1::2], strict=True))
    return sorted((name.lower(), text) for name, text in pairs)


def flatten_envelope(value, at, found):
    if not isinstance(value, list) or len(value) != len(ENVELOPE):
        raise imap.Grammar(f"envelope: {value!r:.80}")
    for name, part in zip(ENVELOPE, value):
        found[f"{at}{name}"] = part


def flatten_extension(value, at, found, names):
    """Extension data may end early; what is missing is NIL (RFC 9051 7.5.2, BODYSTRUCTURE)."""
    for n, name in enumerate(names):
        part = value[n] if n < len(value) else None
        if name == "disposition" and part is not None:
            part = [lower(part[0]), params(part[1])]
        elif name == "language" and isinstance(part, bytes):
            part = [part]
        elif name == "params":
            part = params(part)
        found[f"{at}{name}"] = part
    if len(value) > len(names):
        found[f"{at}further"] = value[len(names) :]


def flatten_structure(value, at, extended, found, paths, in_message=True):
    """BODYSTRUCTURE as path and field -> value. `paths` gets every part number."""
    label = f"{at or 'top'} "
    if isinstance(value[0], list):
        parts = [part for part in value if isinstance(part, list)]
        subtype = next(n for n, part in enumerate(value) if not isinstance(part, list))
        parts = value[:subtype]
        found[f"{label}type"] = b"multipart"
        found[f"{label}subtype"] = lower(value[subtype])
        found[f"{label}parts"] = len(parts)
        if extended:
            names = ("params", "disposition", "language", "location")
            flatten_extension(value[subtype + 1 :], label, found, names)
        if at and not in_message:
            paths.append(at)
        for n, part in enumerate(parts, 1):
            inner = f"{at}.{n}" if at else str(n)
            flatten_structure(part, inner, extended, found, paths, False)
        return
    # RFC 9051 6.4.5.1: a message that is no multipart has its body as part 1.
    number = (f"{at}.1" if at else "1") if in_message else at
    paths.append(number)
    kind, subtype = lower(value[0]), lower(value[1])
    names = ("type", "subtype", "params", "id", "description", "encoding", "octets")
    for name, part in zip(names, value):
        found[label + name] = params(part) if name == "params" else part
    found[f"{label}type"], found[f"{label}subtype"] = kind, subtype
    found[f"{label}encoding"] = lower(value[5])
    rest = value[7:]
    if (
        kind == b"message"
        and subtype in (b"rfc822", b"global")
        and rest
        and isinstance(rest[0], list)
    ):
        flatten_envelope(rest[0], f"{label}envelope ", found)
        flatten_structure(rest[1], number, extended, found, paths)
        found[f"{label}lines"] = rest[2]
        rest = rest[3:]
    elif kind == b"text":
        found[f"{label}lines"] = rest[0]
        rest = rest[1:]
    if extended:
        names = ("md5", "disposition", "language", "location")
        flatten_extension(rest, label, found, names)
    elif rest:
        found[f"{label}further"] = rest


def sections(paths):
    """What to fetch beside the whole: every section of every part, and parts that are not there."""
    wanted = ["", "HEADER", "TEXT", FIELDS, FIELDS_NOT]
    for path in paths[:60]:
        wanted += [path, f"{path}.MIME", f"{path}.HEADER", f"{path}.TEXT", f"{path}.{FIELDS}"]
    wanted += ["99", f"{paths[-1]}.99"]
    names = [f"BODY[{name}]" for name in wanted]
    cut = ["BODY[]", "BODY[TEXT]", "BODY[HEADER]"] + [f"BODY[{path}]" for path in paths[:5]]
    names += [f"{name}<0.10>" for name in cut] + ["BODY[]<7.100>", "BODY[TEXT]<1000000.10>"]
    return list(dict.fromkeys(names))


def ask(client, number, paths_of_other=()):
    """All that one server says of one message: item -> value."""
    fetched = client.fetch(number, WHOLE)
    found = {"RFC822.SIZE": fetched["RFC822.SIZE"]}
    paths = []
    flatten_envelope(fetched["ENVELOPE"], "ENVELOPE ", found)
    for name in ("BODYSTRUCTURE", "BODY"):
        flat = {}
        flatten_structure(fetched[name], "", name == "BODYSTRUCTURE", flat, paths)
        found |= {f"{name} {key}": value for key, value in flat.items()}
    return found, list(dict.fromkeys(paths))


def ask_sections(client, number, names):
    peek = [name.replace("BODY[", "BODY.PEEK[") for name in names]
    fetched = client.fetch(number, peek)
    found = {}
    for name in names:
        # The answer names where the cut begins, not how long it is (RFC 9051 7.5.2).
        label = name.rsplit(".", 1)[0] + ">" if name.endswith(">") else name
        key = next((k for k in fetched if k.replace('"', "") == label.upper()), None)
        found[name] = fetched[key] if key else "not answered"
        # A section that is not there: NIL and an empty string say the same.
        if found[name] == b"":
            found[name] = None
    return found


def differences(judges, number):
    """item -> (Dovecot's value, Palomar's value), where they differ."""
    (theirs, their_paths), (ours, our_paths) = (ask(judge, number) for judge in judges)
    names = sections(list(dict.fromkeys(their_paths + our_paths)))
    theirs |= ask_sections(judges[0], number, names)
    ours |= ask_sections(judges[1], number, names)
    found = {}
    for item in theirs | ours:
        pair = theirs.get(item, ABSENT), ours.get(item, ABSENT)
        if pair[0] != pair[1]:
            found[item] = pair
    return {item: pair for item, pair in found.items() if not follows(item, pair, found)}


def follows(item, pair, found):
    """True where a difference says no more than another one that is reported."""
    if item.endswith(">"):
        return item.rsplit("<", 1)[0] in found
    if item.startswith("BODY "):
        return found.get(item.replace("BODY ", "BODYSTRUCTURE ", 1)) == pair
    head, _, field = item.rpartition(" ")
    return ABSENT in pair and field != "type" and f"{head.removesuffix(' envelope')} type" in found


class Verdict:
    """One entry of verdicts.toml: in these letters these items differ, and who is right."""

    def __init__(self, entry):
        self.letters, self.items = entry["letters"], entry["items"]
        self.used = set()
        if (
            entry["right"] not in ("palomar", "dovecot", "both")
            or not entry["by"]
            or not entry["why"]
        ):
            raise ValueError(f"a verdict names who is right, by what and why: {entry}")

    def covers(self, name, item):
        fits = [p for p in self.items if item == p or p.endswith("*") and item.startswith(p[:-1])]
        if name not in self.letters or not fits:
            return False
        self.used |= {(name, pattern) for pattern in fits}
        return True

    def stale(self, seen):
        wanted = [(name, item) for name in self.letters for item in self.items if name in seen]
        return [pair for pair in wanted if pair not in self.used]


def put_in(client, name, data):
    try:
        client.command("APPEND INBOX", data)
        return True
    except imap.No as refusal:
        return str(refusal)


def short(value):
    text = repr(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}... ({len(text)})"


def judge(judges, wanted, verdicts, show):
    passed = failed = known = numbers = 0
    for name, data in wanted.items():
        taken = [put_in(client, name, data) for client in judges]
        if taken[0] is not True or taken[1] is not True:
            found = {"APPEND": tuple(taken)} if taken[0] != taken[1] else {}
            # Numbers must stay equal: whoever took it gives it back.
            for client, took in zip(judges, taken):
                if took is True:
                    client.command("STORE * +FLAGS.SILENT (\\Deleted)")
                    client.command("EXPUNGE")
        else:
            numbers += 1
            try:
                found = differences(judges, numbers)
            except (imap.Grammar, imap.No, ValueError, KeyError, TypeError, IndexError) as error:
                found = {"GRAMMAR": (None, f"{type(error).__name__}: {error}")}
        listed = {item for item in found if any(v.covers(name, item) for v in verdicts)}
        known += len(listed)
        new = {item: pair for item, pair in found.items() if item not in listed}
        for item, (theirs, ours) in (found if show else new).items():
            print(f"{'    ' if item in listed else 'NEW '}{name}: {item}")
            print(f"      dovecot {short(theirs)}\n      palomar {short(ours)}")
        passed, failed = (passed, failed + 1) if new else (passed + 1, failed)
    for verdict in verdicts:
        for name, item in verdict.stale(wanted):
            print(f"OLD {name}: {item}: listed in verdicts.toml, but the two agree")
            failed += 1
    print(f"{len(wanted)} letters, {known} listed differences")
    print(f"{passed} passed, {failed} failed")
    return failed == 0


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--palomar", default=str(HERE.parents[1] / "target/release/palomar"))
    options.add_argument("--only", action="append", help="one letter by name; may be repeated")
    options.add_argument("--show", action="store_true", help="show listed differences too")
    given = options.parse_args()
    wanted = {n: d for n, d in letters().items() if not given.only or n in given.only}
    verdicts = [Verdict(v) for v in tomllib.loads((HERE / "verdicts.toml").read_text())["verdict"]]
    unknown = {name for v in verdicts for name in v.letters} - set(letters())
    if unknown:
        sys.exit(f"verdicts.toml names letters that there are not: {sorted(unknown)}")
    with tempfile.TemporaryDirectory(prefix="palomar-opinion-") as folder:
        Path(folder).chmod(0o755)
        with (
            Dovecot(Path(folder, "dovecot"), PASSWORD) as dovecot,
            Palomar(Path(folder, "palomar"), given.palomar, [("imap", "")]) as palomar,
        ):
            palomar.user("judge", PASSWORD)
            judges = []
            for server in (dovecot, palomar):
                client = imap.Client(server.port, "judge", PASSWORD)
                client.command("SELECT INBOX")
                judges.append(client)
            right = judge(judges, wanted, verdicts, given.show)
            for client in judges:
                client.close()
    sys.exit(not right)


if __name__ == "__main__":
    main()
