"""Letters of every kind, for plays whose next hop is a server that we did not write, and whether
they arrived as they were; recipients whom that server refuses."""

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


def named(peer, name):
    """Copies there of the letter of that name."""
    return sum(name_of(raw) == name for raw in peer.delivered())


def refusals(score, site, peer, domain):
    """`nobody` is unknown there, and u9 is refused for now while `peer.set_away(True)` lasts: who
    stands beside them in a letter has it once."""
    site.send([f"nobody@{domain}", f"u3@{domain}"], letter("refused"))
    [notice] = site.wait_notices(1)
    one = notice.of(f"nobody@{domain}")
    score.check(f"an unknown user: {one['diagnostic-code']}",
                one["action"] == "failed" and one["status"].startswith("5.")
                and one["diagnostic-code"].startswith("smtp; 550 ") and len(notice.each) == 1, one)
    site.until(lambda: named(peer, "refused"), "the other recipient's copy")
    score.check("the other recipient has his copy", True)

    peer.set_away(True)
    before = site.recipients("deferred")
    site.send([f"u9@{domain}", f"u4@{domain}"], letter("away"))
    site.until(lambda: site.recipients("deferred") >= before + 2, "two deferrals")
    score.check("who is deferred waits, and the other one has it once", named(peer, "away") == 1)
    peer.set_away(False)
    site.until(lambda: named(peer, "away") == 2, "the second copy")
    score.check("and has it when he is back", True)
