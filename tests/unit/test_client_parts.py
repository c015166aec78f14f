"""The parts of the client that need no network: topics, waiting times, the queue, pins, formats, properties of -D."""

import sqlite3
import stat

import pytest

from sealmq.cli.formats import Format
from sealmq.cli.properties import Given
from sealmq.client.backlog import Backlog, Publish
from sealmq.client.backoff import Backoff
from sealmq.client.identity import Identity
from sealmq.client.message import Message, Properties
from sealmq.errors import ConfigError, Environment, NotSo, UsageError
from sealmq.tls import pins


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("$share/group/a/+", "a/b", True),
        ("a/b/c", "a/b", False),
    ],
)
def test_topic_filters(topic_filter, topic, matches):
    assert Message(topic, b"", 0, False).matches(topic_filter) is matches


CERT, KEY, CRL = (
    f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n" for label in ("CERTIFICATE", "PRIVATE KEY", "X509 CRL")
)
SHUT = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")


@pytest.mark.parametrize(
    ("name", "text", "sentence", "mend", "code"),
    [
        ("certificate", KEY, "client certificate {} has no CERTIFICATE block: it holds PRIVATE KEY", "--cert", "cert"),
        ("key", CERT, "client key {} has no PRIVATE KEY block: it holds CERTIFICATE", "--key", "key"),
        ("key", SHUT, "client key {} has no PRIVATE KEY block: it holds ENCRYPTED PRIVATE KEY", "passphrase", "key"),
        ("certificate", "\x30\x03", "client certificate {} has no CERTIFICATE block: it is not PEM", "-inform", "cert"),
        ("ca", "", "CA file {} has no CERTIFICATE block: it is empty", "CERTIFICATE", "ca"),
        ("ca", KEY, "CA file {} has no CERTIFICATE block: it holds PRIVATE KEY", "CERTIFICATE", "ca"),
        ("crl", CERT, "revocation list {} has no X509 CRL block: it holds CERTIFICATE", "X509 CRL", "crl"),
    ],
)
def test_a_file_that_holds_something_else_is_named(tmp_path, name, text, sentence, mend, code):
    given = {"ca": CERT, "certificate": CERT, "key": KEY, "crl": CRL} | {name: text}
    files = {one: tmp_path / f"{one}.file" for one in given}
    for one, path in files.items():
        path.write_text(given[one])
    with pytest.raises(ConfigError) as caught:
        Identity.read(**files)
    assert caught.value.message == sentence.format(files[name])
    assert mend in caught.value.mend
    assert caught.value.code == {"cert": "certificate-invalid"}.get(code, f"{code}-invalid")


@pytest.mark.parametrize("label", ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"])
def test_certificate_and_key_may_stand_in_one_file(tmp_path, label):
    (tmp_path / "both").write_text(KEY.replace("PRIVATE KEY", label) + CERT)
    both = Identity.read(ca=tmp_path / "both", certificate=tmp_path / "both", key=tmp_path / "both")
    assert both.key == both.certificate == both.ca


def test_full_jitter_stays_under_a_ceiling_that_doubles():
    worst = Backoff(first=1, longest=10, chance=lambda: 1.0)
    assert [worst.delay(n) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    assert Backoff(chance=lambda: 0.0).delay(9) == 0
    assert worst.delay(10_000) == 10


def test_a_server_that_says_when_is_obeyed():
    assert Backoff(first=2, longest=10, chance=lambda: 0.5).delay(3, hint=40) == 41


def publish(payload: bytes, qos: int = 1) -> Publish:
    return Publish("t", payload, qos, False, None, None)


def test_a_queue_is_bounded():
    queue = Backlog(1)
    queue.append(publish(b"1"))
    with pytest.raises(NotSo) as full:
        queue.append(publish(b"2"))
    assert full.value.code == "queue-full"


def test_a_queue_on_disk_outlives_the_process(tmp_path):
    path = tmp_path / "queue"
    first = Backlog(10, path)
    kept = [first.kept(publish(text)) for text in (b"1", b"2", b"3")]
    first.kept(publish(b"qos 0", qos=0))
    first.forget(kept[1])
    first.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Backlog(10, path)
    assert [again.pop().payload for _ in range(len(again))] == [b"1", b"3"]
    with pytest.raises(Environment) as taken:
        Backlog(10, path)
    assert taken.value.code == "queue-unusable"
    again.close()


def test_a_full_queue_leaves_nothing_on_disk(tmp_path):
    path = tmp_path / "queue"
    queue = Backlog(0, path)
    with pytest.raises(NotSo):
        queue.append(queue.kept(publish(b"1")))
    queue.close()
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM publishes").fetchone() == (0,)
    file.close()


def test_a_single_pin_is_refused():
    with pytest.raises(UsageError) as refused:
        Identity(b"CA", pins=("ab" * 32,))
    assert refused.value.code == "pin-backup"
    with pytest.raises(UsageError):
        Identity(b"CA", pins=("ab" * 32, "AB" * 32))  # the same twice is one
    assert Identity(b"CA", pins=("sha256:" + "AB" * 32, "cd" * 32)).pins == ("ab" * 32, "cd" * 32)
    with pytest.raises(UsageError):
        pins.parse("ab" * 31)


def test_a_list_of_pins(tmp_path):
    path = tmp_path / "pins.txt"
    path.write_text(f"# ours\nsha256:{'ab' * 32} root\n\n{'cd' * 32}\n")
    assert pins.read_list(path) == ("ab" * 32, "cd" * 32)


def test_a_folder_of_anchors(tmp_path):
    with pytest.raises(ConfigError, match="holds no certificate"):
        Identity.read(ca=tmp_path)
    (tmp_path / "one.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\n1")
    (tmp_path / "two.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\n2")
    (tmp_path / "key.pem").write_bytes(b"something else")
    assert Identity.read(ca=tmp_path).ca.count(b"BEGIN CERTIFICATE") == 2


def test_what_is_dangerous_shows():
    from sealmq import dangerous

    assert dangerous.unverified().dangers == {"unverified"}
    assert dangerous.plaintext(dangerous.unverified()).dangers == {"plaintext", "unverified"}
    assert Identity().dangers == frozenset()
    with pytest.raises(TypeError):
        Identity(dangers=frozenset({"unverified"}))


MESSAGE = Message(
    "a/b", b"\x00hi", 1, True, {"content_type": "text/x", "user": [["k", "v"]], "correlation_hex": "6869"}
)


@pytest.mark.parametrize(
    ("text", "bytes_out"),
    [
        ("%t %q%r %l", b"a/b 11 3\n"),
        ("%p", b"\x00hi\n"),
        ("%x %X", b"006869 006869\n"),
        (r"%t\t\\%%", b"a/b\t\\%\n"),
        ("%C %D %P %R", b"text/x hi k:v \n"),
        ("100%", b"100%\n"),
        ("%@Y", None),
    ],
)
def test_formats(text, bytes_out):
    written = Format(text).of(MESSAGE)
    assert written == bytes_out if bytes_out is not None else written.strip().isdigit()


def test_a_format_letter_that_is_none():
    with pytest.raises(UsageError, match="%z"):
        Format("%t %z")


def words(*given: str) -> str:
    return "\x1f".join(given)


def test_properties_of_d():
    given = Given(
        [
            words("publish", "content-type", "text/plain"),
            words("publish", "user-property", "a", "1"),
            words("connect", "session-expiry-interval", "60"),
            words("will", "will-delay-interval", "5"),
            words("subscribe", "subscription-identifier", "7"),
        ]
    )
    assert given.publish(user=(("b", "2"),)) == Properties(content_type="text/plain", user=(("a", "1"), ("b", "2")))
    assert given.connect() == {"session_expiry": 60}
    assert given.will() == (None, 5)
    assert given.subscribe() == {"identifier": 7}
    assert Given([]).publish(content_type=None, user=()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        ("publish", "colour", "red"),
        ("puback", "reason-string", "x"),
        ("publish", "topic-alias", "one"),
        ("publish", "user-property", "a"),
        ("publish",),
    ],
)
def test_wrong_properties_of_d(wrong):
    with pytest.raises(UsageError):
        Given([words(*wrong)])
