"""The letters that every real client sends or fetches: what breaks careless servers.

A letter has a 20 MB attachment, UTF-8 headers and body, and a line of exactly 998 octets
(RFC 5321 4.5.3.1.6 without its CRLF). Each is unlike every other, so that a mix-up is seen.
"""

import base64
import hashlib
import random

ATTACHMENT_BYTES = 20 * 1000 * 1000
LONG_LINE_BYTES = 998


def big(client, sender, recipient, attachment_bytes=ATTACHMENT_BYTES):
    """The letter of `client` as bytes with CRLF line ends, and its SHA-256 by part."""
    noise = random.Random(client).randbytes(attachment_bytes)
    encoded = base64.encodebytes(noise).replace(b"\n", b"\r\n")
    long_line = ("x" * 40 + f" {client} ").encode()
    long_line = (long_line * (LONG_LINE_BYTES // len(long_line) + 1))[:LONG_LINE_BYTES]
    long_line = long_line[:-1] + b"|"
    subject = f"Señales de {client}: ångström, 天文台"
    encoded_subject = "=?UTF-8?B?" + base64.b64encode(subject.encode()).decode() + "?="
    boundary = f"=_{client}_palomar"
    head = (
        f"From: =?UTF-8?Q?Ana_Mu=C3=B1oz?= <{sender}>\r\n"
        f"To: <{recipient}>\r\n"
        f"Subject: {encoded_subject}\r\n"
        f"Date: Sat, 21 Nov 2026 12:00:00 +0100\r\n"
        f"Message-ID: <big-{client}@clients.test>\r\n"
        "MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n'
        "\r\n"
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
        f"Observación nº 1 de {client}\r\n"
    ).encode()
    middle = (
        f"\r\n--{boundary}\r\n"
        "Content-Type: application/octet-stream\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="plate.fits"\r\n'
        "\r\n"
    ).encode()
    tail = f"--{boundary}--\r\n".encode()
    whole = head + long_line + middle + encoded + tail
    return whole, digest(noise)


def digest(data):
    """SHA-256 as text."""
    return hashlib.sha256(data).hexdigest()


def judge(raw, client, attachment_digest):
    """Raises AssertionError where `raw`, as some client stored it, is not the letter of `client`."""
    import email
    import email.policy

    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["Message-ID"] == f"<big-{client}@clients.test>", message["Message-ID"]
    assert "ångström, 天文台" in message["Subject"], message["Subject"]
    parts = list(message.iter_parts())
    assert len(parts) == 2, f"{len(parts)} parts"
    assert digest(parts[1].get_payload(decode=True)) == attachment_digest, "attachment differs"
    text = parts[0].get_payload(decode=True).decode()
    assert f"Observación nº 1 de {client}" in text, "text differs"
    longest = max(len(line) for line in text.encode().splitlines())
    assert longest == LONG_LINE_BYTES, f"longest line is {longest}"
