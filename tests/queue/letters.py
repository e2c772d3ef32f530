"""Letters of every kind, for plays whose next hop is a server that we did not write, and whether
they arrived as they were."""

import hashlib

from way_out import letter, name_of

LETTERS = 200


def bodies(dice, count=LETTERS):
    """Letters of every size, with lines that begin with dots and words that are not ASCII."""
    words = ["a line", ".", "..", ".dot", "", "From me", "Grüße", "x" * 900, "-- ", "señor €"]
    for n in range(count):
        lines = dice.choices(words, k=dice.choice((0, 1, 10, 100)))
        if n % 50 == 7:
            lines = dice.choices(words, k=20_000)
        yield n, "".join(f"{line}\r\n" for line in lines)


def send_all(site, prefix, domain, dice, count):
    """To the users u0 to u9 there, over one connection; what was sent, by name."""
    sent = {f"{prefix}{n}": letter(f"{prefix}{n}", body=body) for n, body in bodies(dice, count)}
    with site.submission() as smtp:
        for n, raw in enumerate(sent.values()):
            smtp.sendmail("ana@play.test", [f"u{n % 10}@{domain}"], raw, ["BODY=8BITMIME"])
    return sent


def digests(found, sent):
    """What arrived, by name, cut to what was sent: its own header lines stand before."""
    arrived = {}
    for raw in found:
        name = name_of(raw)
        assert name not in arrived, f"{name} twice"
        arrived[name] = hashlib.sha256(raw[-len(sent[name]):]).hexdigest()
    return arrived


def compare(score, what, found, sent):
    arrived = digests(found, sent)
    wanted = {name: hashlib.sha256(raw).hexdigest() for name, raw in sent.items()}
    differ = [name for name in wanted if arrived.get(name) != wanted[name]]
    score.check(f"{what}: {len(arrived)} of {len(sent)} arrived, all the same",
                not differ and len(arrived) == len(sent), differ[:5])
