"""Messages whose structure two servers may see differently. The same bytes at every run.

`letters()` gives name -> bytes. Lines end in CRLF unless the point of a letter is that they do not.
"""

import base64
import quopri
import random
from pathlib import Path

SEEDS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus" / "mime"
HEAD = (
    "From: Ana Example <ana@example.org>\n"
    "To: =?utf-8?Q?Jos=C3=A9?= <jose@example.com>\n"
    "Date: Sat, 21 Nov 2026 12:00:00 +0100\n"
    "Message-ID: <letter@example.org>\n"
)


def crlf(text):
    """CRLF line ends; a `str` is Latin-1, so that \\xff is one byte."""
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def letter(rest, subject="a letter"):
    """A message with the usual header; `rest` begins with further header lines."""
    return crlf(f"{HEAD}Subject: {subject}\nMIME-Version: 1.0\n{rest}")


def leaf(kind="text/plain", body="some text\n", more=""):
    return f"Content-Type: {kind}\n{more}\n{body}"


def multi(subtype, boundary, parts, preamble="", epilogue="", params="", end=True):
    """A multipart entity: its header lines, a blank line, its parts."""
    text = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{params}\n\n{preamble}'
    for part in parts:
        text += f"--{boundary}\n{part}\n"
    return text + (f"--{boundary}--\n{epilogue}" if end else "")


def message(rest="Content-Type: text/plain\n\ninner text\n", subject="inner", more=""):
    """A message/rfc822 entity around a message."""
    return (
        f"Content-Type: message/rfc822\n{more}\nFrom: inner@example.net\nSubject: {subject}\n"
        f"Message-ID: <inner@example.net>\n{rest}"
    )


def nested(depth, boundary="level{}"):
    part = leaf()
    for level in range(depth):
        part = multi("mixed", boundary.format(level), [part, leaf("text/html", f"<p>{level}\n")])
    return part


def trees():
    """Multiparts in multiparts, and messages in every position."""
    yield "plain", letter("\nHello.\n")
    yield "html", letter(leaf("text/html; charset=utf-8", "<p>hello</p>\n"))
    for depth in range(1, 11):
        yield f"nested-{depth}", letter(nested(depth))
    yield "nested-one-boundary", letter(nested(3, "same"))
    yield "nested-prefix-out", letter(multi("mixed", "outer", [nested(1, "outerin{}"), leaf()]))
    yield "nested-prefix-in", letter(multi("mixed", "outerin0", [nested(1, "outer"), leaf()]))
    for count in (1, 2, 9, 10, 40):
        parts = [leaf(body=f"part {n}\n") for n in range(count)]
        yield f"parts-{count}", letter(multi("mixed", "b", parts))
    yield "alternative", letter(
        multi("alternative", "alt", [leaf(), leaf("text/html", "<b>some text</b>\n")])
    )
    related = multi(
        "related",
        "rel",
        [
            leaf("text/html", '<img src="cid:logo">\n', "Content-ID: <root@example.org>\n"),
            leaf(
                "image/png",
                base64.encodebytes(bytes(range(256))).decode(),
                "Content-ID: <logo>\nContent-Transfer-Encoding: base64\n"
                "Content-Disposition: inline; filename=logo.png\nContent-Location: logo.png\n",
            ),
        ],
        params='; type="text/html"; start="<root@example.org>"',
    )
    yield "related", letter(related)
    yield "alternative-related-mixed", letter(
        multi(
            "mixed", "m", [multi("alternative", "a", [leaf(), related]), leaf("text/csv", "1,2\n")]
        )
    )
    yield "signed", letter(
        multi(
            "signed",
            "sig",
            [leaf(), leaf("application/pgp-signature; name=signature.asc", "-----BEGIN\n")],
            params='; micalg=pgp-sha256; protocol="application/pgp-signature"',
        )
    )
    yield "encrypted", letter(
        multi(
            "encrypted",
            "enc",
            [leaf("application/pgp-encrypted", "Version: 1\n"), leaf("application/octet-stream")],
            params='; protocol="application/pgp-encrypted"',
        )
    )
    yield "report", letter(
        multi(
            "report",
            "rep",
            [
                leaf(body="It could not be delivered.\n"),
                leaf(
                    "message/delivery-status",
                    "Reporting-MTA: dns; mx.example.org\n\nFinal-Recipient: rfc822; a@b\n"
                    "Action: failed\nStatus: 5.1.1\n",
                ),
                leaf("text/rfc822-headers", "From: a@b\nSubject: lost\n"),
            ],
            params="; report-type=delivery-status",
        )
    )
    yield "report-message", letter(
        multi("report", "rep", [leaf(), leaf("message/disposition-notification"), message()])
    )
    yield "partial", letter(leaf('message/partial; id="x@y"; number=1; total=2'))
    yield "external-body", letter(
        leaf(
            "message/external-body; access-type=local-file; name=/etc/motd", "Content-Type: a/b\n\n"
        )
    )
    yield "calendar", letter(
        multi(
            "alternative",
            "cal",
            [leaf(), leaf('text/calendar; method=REQUEST; charset="UTF-8"', "BEGIN:VCALENDAR\n")],
        )
    )
    yield "form-data", letter(
        multi("form-data", "f", [leaf(more='Content-Disposition: form-data; name="a b"\n')])
    )
    yield "message-only", letter(message())
    yield "message-global", letter(message().replace("rfc822", "global"))
    yield "message-first", letter(multi("mixed", "b", [message(), leaf()]))
    yield "message-last", letter(multi("mixed", "b", [leaf(), message()]))
    yield "message-middle", letter(multi("mixed", "b", [leaf(), message(), leaf()]))
    yield "message-of-multipart", letter(
        multi("mixed", "b", [message(multi("mixed", "in", [leaf(), leaf("text/html")])), leaf()])
    )
    yield "message-in-message", letter(message(message(message(), "second"), "first"))
    yield "message-in-message-multi", letter(
        message(multi("mixed", "x", [message(multi("mixed", "y", [leaf(), message()])), leaf()]))
    )
    yield "message-without-body", letter("Content-Type: message/rfc822\n\nSubject: only a header\n")
    yield "message-empty", letter("Content-Type: message/rfc822\n\n")
    yield "message-without-header", letter("Content-Type: message/rfc822\n\n\nonly a body\n")
    yield "message-base64", letter(
        leaf(
            "message/rfc822",
            base64.encodebytes(crlf("Subject: hidden\n\ntext\n")).decode(),
            "Content-Transfer-Encoding: base64\n",
        )
    )
    digest = [f"\nFrom: a{n}@example.org\nSubject: number {n}\n\ntext {n}\n" for n in range(3)]
    yield "digest", letter(multi("digest", "d", digest))
    yield "digest-typed", letter(
        multi(
            "digest",
            "d",
            [leaf("text/plain"), digest[1], message(), "Content-ID: <c>\n" + digest[2]],
        )
    )
    yield "digest-in-mixed", letter(multi("mixed", "m", [leaf(), multi("digest", "d", digest)]))
    yield "preamble-epilogue", letter(
        multi("mixed", "b", [leaf(), leaf()], "This is MIME.\n\n", "\nThe end.\n--b\nnot a part\n")
    )
    yield "inner-epilogue", letter(
        multi("mixed", "o", [multi("mixed", "i", [leaf()], "pre\n", "epi\n\nlogue\n"), leaf()])
    )


def boundaries():
    """Delimiters that are odd, missing or where they should not be."""
    odd = {
        "quote": "it's",
        "equals": "----=_Part_1_2.3=",
        "slash": "a/b:c?d",
        "plus": "a+b,c(d)",
        "dashes": "------",
        "inner-blank": "two words",
        "long": "x" * 70,
        "too-long": "y" * 150,
        "digits": "0",
        "trailing-dashes": "end--",
    }
    for name, boundary in odd.items():
        yield f"boundary-{name}", letter(multi("mixed", boundary, [leaf(), leaf("text/html")]))
    plain = letter(multi("mixed", "b", [leaf(), leaf("text/html", "<p>\n")]))
    yield "boundary-unquoted", plain.replace(b'"b"', b"b")
    yield "boundary-missing", plain.replace(b'; boundary="b"', b"")
    yield "boundary-empty", plain.replace(b'"b"', b'""')
    yield "boundary-escaped", plain.replace(b'"b"', b'"\\b"')
    yield "boundary-other-case", letter(
        multi("mixed", "Abc", [leaf(), leaf()]).replace("--Abc\n", "--aBC\n", 1)
    )
    yield "boundary-comment", plain.replace(b'"b"', b'"b" (a comment)')
    yield "boundary-twice", plain.replace(b'"b"', b'"b"; boundary="c"')
    yield "boundary-2231", plain.replace(b'boundary="b"', b"boundary*=us-ascii'en'b")
    yield "boundary-pieces", plain.replace(b'boundary="b"', b'boundary*0="b"')
    yield "boundary-folded", plain.replace(b'; boundary="b"', b';\r\n\tboundary="b"')
    yield "boundary-blanks-behind", plain.replace(b"--b\r\n", b"--b \t\r\n")
    yield "boundary-text-behind", plain.replace(b"--b\r\n", b"--bX\r\n", 1)
    yield "boundary-indented", plain.replace(b"\r\n--b\r\n", b"\r\n --b\r\n", 1)
    yield "no-terminator", letter(multi("mixed", "b", [leaf(), leaf()], end=False))
    yield "no-terminator-inside", letter(
        multi("mixed", "o", [multi("mixed", "i", [leaf(), leaf()], end=False), leaf()])
    )
    yield "no-terminator-cut", letter(
        multi("mixed", "b", [leaf(), "Content-Type: text/ht"], end=False)
    )
    yield "terminator-first", letter(
        'Content-Type: multipart/mixed; boundary="b"\n\n--b--\nafter\n'
    )
    yield "terminator-twice", letter(multi("mixed", "b", [leaf()], epilogue="--b--\n--b\n\nx\n"))
    yield "terminator-only-outer", letter(
        multi("mixed", "o", [multi("mixed", "i", [leaf()], end=False)])
    )
    yield "terminator-no-newline", letter(multi("mixed", "b", [leaf()])).removesuffix(b"\r\n")
    yield "no-parts", letter('Content-Type: multipart/mixed; boundary="b"\n\nno part here\n')
    yield "no-parts-no-body", letter('Content-Type: multipart/mixed; boundary="b"\n\n')
    yield "no-parts-no-blank", letter('Content-Type: multipart/mixed; boundary="b"\n')
    yield "part-empty", letter(multi("mixed", "b", ["", "\n", "\n\n", leaf(body="")]))
    yield "part-header-only", letter(multi("mixed", "b", ["Content-Type: text/html", leaf()]))
    yield "part-no-blank", letter(multi("mixed", "b", ["no header, no blank line", leaf()]))
    yield "part-adjacent", crlf(
        HEAD + 'Content-Type: multipart/mixed; boundary="b"\n\n--b\n--b\n--b\n\nx\n--b--\n'
    )
    yield "part-blank-line-kept", letter(multi("mixed", "b", [leaf(body="x\n\n\n"), leaf()]))
    yield "delimiter-in-header", letter(
        'Content-Type: multipart/mixed; boundary="b"\nX-Last: header\n--b\n\npart\n--b--\n'
    )
    yield "outer-delimiter-in-inner-header", letter(
        multi("mixed", "o", ['Content-Type: multipart/mixed; boundary="i"', leaf()])
    )
    yield "outer-delimiter-in-message", letter(
        multi("mixed", "o", ["Content-Type: message/rfc822\n\nSubject: cut", leaf()])
    )


def content_fields():
    """What Content-* fields can say."""
    kinds = {
        "bare-type": "text",
        "no-type": "/plain",
        "upper": "TEXT/HTML; CHARSET=UTF-8",
        "blanks": "text / plain ; charset = utf-8",
        "comment": "text/plain (a (nested) comment); charset=(c)utf-8",
        "quoted-pair": 'text/plain; name="a\\"b\\\\c"',
        "no-semicolon": "text/plain charset=utf-8",
        "empty-param": "text/plain; ; charset=utf-8;",
        "no-value": "text/plain; charset=; name",
        "charset-twice": "text/plain; charset=utf-8; charset=latin1",
        "unquoted-value": "application/pdf; name=my file.pdf",
        "open-quote": 'application/pdf; name="my file.pdf',
        "eight-bit": 'application/pdf; name="n\xe4me.pdf"',
        "encoded-word": 'application/pdf; name="=?utf-8?Q?n=C3=A4me?="',
        "2231": "application/pdf; name*=utf-8'de'n%C3%A4me.pdf",
        "2231-pieces": "application/pdf; name*0*=utf-8''n%C3%A4; name*1=me; name*2*=%2epdf",
        "2231-plain-pieces": 'application/pdf; name*0="one "; name*1="two"',
        "2231-order": 'application/pdf; name*1="two"; name*0="one "',
        "2231-gap": 'application/pdf; name*0="one "; name*2="two"',
        "2231-both": "application/pdf; name=old; name*=utf-8''new",
        "value-tspecials": "application/x; a=b/c; d=e?f",
        "long-value": "application/x; name=" + "n" * 900,
        "many": "application/x" + "".join(f"; p{n}={n}" for n in range(40)),
        "folded": 'application/pdf;\n\tname="a\n b"',
        "nothing": "",
        "unknown-multipart": "multipart/strange; boundary=zz",
        "semicolon-only": ";",
        "three-parts": "text/plain/extra",
        "token-odd": "x-My.type/vnd.a+b; x=1",
    }
    for name, kind in kinds.items():
        yield f"type-{name}", letter(leaf(kind))
    encodings = {
        "upper": "BASE64",
        "quoted": '"quoted-printable"',
        "comment": "(c) 8bit (d)",
        "unknown": "x-uuencode",
        "two-words": "7bit please",
        "empty": "",
        "semicolon": "base64;",
    }
    for name, encoding in encodings.items():
        yield f"encoding-{name}", letter(leaf(more=f"Content-Transfer-Encoding: {encoding}\n"))
    dispositions = {
        "plain": "attachment",
        "name": 'attachment; filename="a b.txt"; size=12',
        "dates": 'inline; creation-date="Sat, 21 Nov 2026 12:00:00 +0100"',
        "pieces": "attachment; filename*0*=utf-8''a%20; filename*1=b.txt",
        "comment": "(what) attachment (x); filename=(y)z.txt",
        "quoted": '"attachment"; filename=z',
        "empty": "",
        "eight-bit": 'attachment; filename="\xfcber.txt"',
    }
    for name, disposition in dispositions.items():
        yield f"disposition-{name}", letter(leaf(more=f"Content-Disposition: {disposition}\n"))
    languages = {
        "one": "en",
        "two": "en, de-AT",
        "comment": "en (English)",
        "quoted": '"en", fr',
        "empty": "",
    }
    for name, language in languages.items():
        yield f"language-{name}", letter(leaf(more=f"Content-Language: {language}\n"))
    fields = {
        "id": "Content-ID: <id@example.org>\n",
        "id-bare": "Content-ID: bare id \n",
        "id-comment": "Content-ID: (c) <id@example.org> (d)\n",
        "md5": "Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\n",
        "md5-comment": "Content-MD5: (c) Q2hlY2sgSW50ZWdyaXR5IQ== \n",
        "location": "Content-Location: http://example.org/\n a b\n",
        "description": "Content-Description: a  long\n\tdescription\n",
        "description-encoded": "Content-Description: =?utf-8?B?w6TDtg==?=\n",
        "description-eight-bit": "Content-Description: \xe4\xf6\xfc\n",
        "description-empty": "Content-Description:\n",
        "all": "Content-ID: <a@b>\nContent-Description: d\nContent-MD5: m==\nContent-Language: en\n"
        "Content-Location: l\nContent-Disposition: inline\nContent-Transfer-Encoding: 8bit\n",
        "twice": "Content-ID: <one@b>\nContent-ID: <two@b>\nContent-Description: d1\n"
        "Content-Description: d2\n",
        "lower": "content-id: <low@b>\nCONTENT-DESCRIPTION: high\n",
        "blank-before-colon": "Content-ID : <a@b>\nContent-Description\t: d\n",
    }
    for name, more in fields.items():
        yield f"content-{name}", letter(leaf(more=more))
        yield f"content-{name}-multipart", letter(
            more + multi("mixed", "b", [leaf(more=more), message(more=more)])
        )
    yield "type-twice", letter("Content-Type: text/html\nContent-Type: text/plain\n\nx\n")


def envelopes():
    """Header fields that ENVELOPE shows."""
    addresses = {
        "bare": "joe@example.org",
        "angle": "<joe@example.org>",
        "phrase": "Joe Q. Public <john.q.public@example.com>",
        "quoted": '"Public, Joe \\"JQ\\"" <joe@example.org>',
        "comment": "joe@example.org (Joe (the) Public)",
        "comment-inside": "Joe (nick) Public <joe(x)@(y)example.org>",
        "list": "a@b.example, C <c@d.example>, <e@f.example>",
        "empty-elements": "a@b.example, , ,c@d.example,",
        "group": "Friends: a@b.example, C <c@d.example>;",
        "group-empty": "undisclosed-recipients:;",
        "group-mixed": "x@y.example, G: a@b.example;, z@y.example",
        "group-quoted": '"The: group": a@b.example;',
        "group-open": "G: a@b.example, c@d.example",
        "group-two": "A: a@b.example; B: c@d.example;",
        "route": "<@one.example,@two.example:joe@three.example>",
        "no-domain": "joe",
        "no-domain-angle": "Joe <joe>",
        "empty-angle": "<>",
        "empty-angle-phrase": "Mailer <>",
        "no-local": "@example.org",
        "two-ats": "joe@home@example.org",
        "quoted-local": '"joe doe"@example.org',
        "quoted-local-at": '"joe@home"@example.org',
        "literal": "joe@[192.0.2.1]",
        "literal6": "joe@[IPv6:2001:db8::1]",
        "dots": "joe..doe.@example.org",
        "blanks": "joe @ example . org",
        "obs-local": "joe . doe@example.org",
        "open-angle": "Joe <joe@example.org",
        "open-quote": '"Joe <joe@example.org>',
        "open-comment": "joe@example.org (Joe",
        "encoded-word": "=?iso-8859-1?Q?J=F6e?= <joe@example.org>",
        "encoded-words": "=?utf-8?Q?J=C3=B6?= =?utf-8?Q?e?= P <joe@example.org>",
        "eight-bit": "J\xf6e <j\xf6e@example.org>",
        "utf8": "J\xc3\xb6e <j\xc3\xb6e@ex\xc3\xa4mple.org>",
        "folded": "Joe\n Public\n\t<joe@example.org>,\n a@b.example",
        "dot-phrase": "J. Q. P <a@b.example>",
        "semicolons": "a@b.example; c@d.example",
        "empty": "",
        "only-comment": "(nobody)",
        "only-phrase": "Nobody At All",
        "junk-behind": "<a@b.example> trailing words, c@d.example",
        "colon-mess": "a:b:c@d.example;;",
        "backslash": 'a\\b@c.example, "\\" <d@e.example>',
        "name-empty-quotes": '"" <a@b.example>',
        "many": ", ".join(f"u{n}@example.org" for n in range(300)),
    }
    for name, value in addresses.items():
        yield f"address-{name}", crlf(
            f"From: f@example.org\nTo: {value}\nSubject: x\nMessage-ID: <m@x>\n\ntext\n"
        )
    for name in ("bare", "group", "empty", "quoted", "open-angle"):
        value = addresses[name]
        yield f"senders-{name}", crlf(
            f"From: {value}\nSender: {value}\nReply-To: {value}\nCc: {value}\nBcc: {value}\n\ntext\n"
        )
    heads = {
        "nothing": "X-Other: y\n",
        "from-only": "From: a@b.example\n",
        "sender-empty": "From: a@b.example\nSender:\nReply-To:\n",
        "sender-differs": "From: a@b.example, c@d.example\nSender: s@b.example\nReply-To: r@b.example\n",
        "from-twice": "From: a@b.example\nFrom: c@d.example\nTo: t1@x.example\nTo: t2@x.example\n",
        "subject-twice": "Subject: one\nSubject: two\n",
        "subject-empty": "Subject:\n",
        "subject-blank": "Subject:   \n",
        "subject-folded": "Subject: one\n two\n\tthree\n  \n",
        "subject-inner-blanks": "Subject:  one   two \t \n",
        "subject-encoded": "Subject: =?utf-8?B?w6TDtsO8?= =?utf-8?Q?_x?=\n",
        "subject-eight-bit": "Subject: \xe4\xf6\xfc\n",
        "subject-quotes": 'Subject: "quoted" \\ back\\slash\n',
        "subject-long": f"Subject: {'long ' * 3000}\n",
        "subject-folded-often": "Subject: s" + "\n s" * 400 + "\n",
        "date-comment": "Date: Sat, 21 Nov 2026 12:00:00 +0100 (CET)\n",
        "date-odd": "Date:  some day \n soon\n",
        "ids": "Message-ID: <a@b> (c)\nIn-Reply-To: <c@d> <e@f>\nReferences: <c@d>\n <e@f>\n",
        "ids-bare": "Message-ID: no angle\nIn-Reply-To: your message of Monday\n",
        "ids-folded": "Message-ID:\n <folded@example.org>\nIn-Reply-To:\n\t<x@y>\n",
        "names-odd": "fRoM: a@b.example\nSUBJECT : spaced\nto\t: t@x.example\n",
        "no-colon": "From: a@b.example\nthis line has no colon\nSubject: after\n",
        "colon-first": "From: a@b.example\n: empty name\nSubject: after\n",
        "blank-name": "From: a@b.example\nTwo Words: x\nSubject: after\n",
        "eight-bit-name": "From: a@b.example\nX-\xe4: x\nSubject: after\n",
        "fold-first": " folded first line\nSubject: after\n",
        "mbox": "From ana Sat Nov 21 12:00:00 2026\nSubject: after\n",
        "blank-fold": "Subject: one\n \nX-A: b\n",
        "many-fields": "".join(f"X-Field-{n}: value {n}\n" for n in range(800)) + "Subject: last\n",
        "long-field": f"X-Long: {'y' * 20000}\nSubject: after\n",
        "received": "Received: from a by b;\n\tSat, 21 Nov 2026 12:00:00 +0000\n" * 30
        + "Subject: s\n",
        "comment-in-subject": "Subject: (not a comment) x\n",
        "list-fields": "List-Id: A list <l.example.org>\nSubject: s\nKeywords: a, b\n",
    }
    for name, head in heads.items():
        yield f"header-{name}", crlf(head + "\ntext\n")


def line_ends():
    """Bytes rather than grammar."""
    nested_letter = letter(nested(2))
    yield "bare-lf", nested_letter.replace(b"\r\n", b"\n")
    yield "mixed-line-ends", nested_letter.replace(b"\r\n", b"\n", 9)
    yield "bare-lf-message", letter(message()).replace(b"\r\n", b"\n")
    yield "bare-lf-attachment", letter(
        leaf("application/octet-stream", base64.encodebytes(bytes(300)).decode())
    ).replace(b"\r\n", b"\n")
    yield "bare-cr-in-body", letter(leaf(body="one\rtwo\n")).replace(b"one", b"one\r", 1)
    yield "no-final-newline", letter("\nHello.").removesuffix(b"\r\n")
    yield "no-final-newline-multipart", nested_letter.removesuffix(b"\r\n")
    yield "header-only", crlf(HEAD)
    yield "header-only-no-newline", crlf(HEAD).removesuffix(b"\r\n")
    yield "header-and-blank", crlf(HEAD + "\n")
    yield "no-blank-line", crlf(HEAD + "not a header line\nmore text\n")
    yield "no-header", crlf("\nonly text\n")
    yield "one-byte", b"x"
    yield "one-line-end", b"\r\n"
    yield "one-lf", b"\n"
    yield "blank-with-space", crlf("Subject: s\n \ntext\n")
    yield "eight-bit-body", letter(leaf("text/plain; charset=latin1", "\xe4\xf6\xfc\xff\n" * 20))
    yield "long-lines", letter(leaf(body=("z" * 5000 + "\n") * 5))
    yield "998", letter(leaf(body="y" * 998 + "\n"))
    yield "dots", letter(leaf(body=".\n..\n.x\n"))
    yield "control-bytes", letter(leaf(body="".join(map(chr, range(1, 32))) + "\x7f\n"))
    yield "trailing-blank-lines", letter(leaf(body="x\n\n\n\n"))
    dice = random.Random(7)
    blob = dice.randbytes(60_000)
    yield "base64", letter(
        multi(
            "mixed",
            "b",
            [
                leaf(),
                leaf(
                    "application/zip; name=blob.zip",
                    base64.encodebytes(blob).decode(),
                    "Content-Transfer-Encoding: base64\n"
                    "Content-Disposition: attachment; filename=blob.zip\n",
                ),
            ],
        )
    )
    text = "Pl\xe4tze = 100 %\n" * 40
    yield "quoted-printable", letter(
        leaf(
            "text/plain; charset=iso-8859-1",
            quopri.encodestring(text.encode("latin-1")).decode(),
            "Content-Transfer-Encoding: quoted-printable\n",
        )
    )
    yield "uuencode", letter("\nbegin 644 a.txt\n#:&$*\n`\nend\n")
    yield "yenc", letter("\n=ybegin line=128 size=3 name=a\nabc\n=yend size=3\n")


def generated(count=40):
    """Trees by dice: any mixture of the above."""
    dice = random.Random(2026)

    def entity(depth):
        choice = dice.randrange(10)
        if depth == 0 or choice < 4:
            kind = dice.choice(
                ["text/plain", "text/html; charset=utf-8", "image/gif; name=x.gif", "a/b"]
            )
            body = "".join(
                dice.choice(["word ", "--", "\n", "- ", "\n\n"]) for _ in range(dice.randrange(12))
            )
            more = dice.choice(["", "Content-ID: <i@x>\n", "Content-Disposition: attachment\n"])
            return leaf(kind, body, more)
        if choice < 6:
            return message(entity(depth - 1))
        parts = [entity(depth - 1) for _ in range(dice.randrange(1, 5))]
        subtype = dice.choice(["mixed", "alternative", "related", "digest"])
        boundary = dice.choice(["b", "bb", "b-", "x", f"n{depth}"]) + str(dice.randrange(3))
        return multi(
            subtype, boundary, parts, dice.choice(["", "pre\n"]), end=dice.randrange(8) > 0
        )

    for n in range(count):
        yield f"dice-{n}", letter(entity(dice.randrange(2, 7)))


def seeds():
    """What the fuzzer starts from. NUL may not be appended (RFC 3501 9, literal)."""
    for path in sorted(SEEDS.glob("*.eml")):
        data = path.read_bytes()
        if data and b"\0" not in data:
            yield f"seed-{path.stem}", data


def letters():
    found = {}
    for source in (trees, boundaries, content_fields, envelopes, line_ends, generated, seeds):
        for name, data in source():
            assert name not in found, name
            found[name] = data
    return found


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:]:
        sys.stdout.buffer.write(letters()[name])
    if not sys.argv[1:]:
        print(len(letters()))
