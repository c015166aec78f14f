"""Certificate requests and keys: what is accepted, what is refused and how that is said."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sealmq.errors import ConfigError, NotSo, UsageError
from sealmq.pki import keys, requests
from sealmq.pki.der import OCTETS, SEQUENCE, children, element, wrap
from sealmq.pki.keyder import with_exact_scalar
from sealmq.pki.keys import KeyType
from sealmq.pki.requestder import without_null_parameters

SUBJECT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sensor-1")])
DER = serialization.Encoding.DER


def request(key=None, *extensions):
    """A request of any shape, DER."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(SUBJECT)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key, keys.digest_for(key)).public_bytes(DER)


def with_null(der):
    """The same request as tpm2-openssl 1.1 writes it: NULL parameters behind ecdsa-with-SHA256."""
    oid = bytes.fromhex("06082a8648ce3d040302")
    at = der.rindex(bytes([0x30, len(oid)]) + oid)
    body = der[4:at] + bytes([0x30, len(oid) + 2]) + oid + b"\x05\x00" + der[at + 2 + len(oid) :]
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def refused(data):
    with pytest.raises(NotSo) as caught:
        requests.accept(data)
    assert caught.value.message.startswith("certificate request ")
    assert caught.value.mend
    return caught.value.code


@pytest.mark.parametrize("kind", [KeyType.P256, KeyType.P384, KeyType.ED25519, KeyType.RSA])
def test_what_is_made_is_accepted(kind):
    key = keys.generate(kind, bits=2048 if kind is KeyType.RSA else None)
    names = [x509.DNSName("broker.example")]
    accepted = requests.accept(requests.build(key, subject=SUBJECT, names=names))
    assert accepted.public_key == key.public_key()
    assert accepted.subject == SUBJECT
    assert list(accepted.names) == names


def test_null_parameters_are_left_out_and_the_proof_still_holds():
    # long enough for a length in two bytes
    names = (x509.SubjectAlternativeName([x509.DNSName(f"n{number}.example") for number in range(30)]), False)
    good = request(None, names)
    bad = with_null(good)
    with pytest.raises(ValueError, match="parsing"):
        list(x509.load_der_x509_csr(bad).extensions)
    assert without_null_parameters(bad) == good
    assert len(requests.accept(bad).names) == 30


def test_without_null_parameters_leaves_everything_else_alone():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for der in (request(), request(key), b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x02\x01\x01"):
        assert without_null_parameters(der) == der
    whole = with_null(request())
    for end in range(len(whole)):  # cut short anywhere, nothing raises
        assert without_null_parameters(whole[:end]) == whole[:end]


def test_a_request_changed_in_any_place_that_is_signed_is_refused():
    good = request(None, (x509.SubjectAlternativeName([x509.DNSName("broker.example")]), False))
    signed = x509.load_der_x509_csr(good).tbs_certrequest_bytes
    begin = good.index(signed)
    for place in range(begin, begin + len(signed)):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        assert refused(changed) in {"request-invalid", "request-signature", "request-key"}


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505 - that is the point
        rsa.generate_private_key(public_exponent=3, key_size=2048),
        ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_a_weak_key_is_refused(key):
    assert refused(request(key)) == "request-key"


def test_a_weak_signature_is_refused(tmp_path):
    made = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key.pem", "-sha1"]
    done = subprocess.run([*made, "-subj", "/CN=sensor-1"], check=True, capture_output=True)
    with pytest.raises(NotSo, match="SHA1"):
        requests.accept(done.stdout)


def test_a_critical_extension_that_is_not_understood_is_refused():
    foreign = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    assert refused(request(None, (foreign, True))) == "request-extension"
    requests.accept(request(None, (foreign, False)))


def test_who_wants_to_be_a_ca_is_refused():
    assert refused(request(None, (x509.BasicConstraints(ca=True, path_length=None), False))) == "request-wants-ca"
    requests.accept(request(None, (x509.BasicConstraints(ca=False, path_length=None), True)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing of it",
        b"-----BEGIN CERTIFICATE REQUEST-----\n!!!!\n-----END CERTIFICATE REQUEST-----",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        b"\0" * (requests.LARGEST + 1),
    ],
)
def test_what_is_no_request(data):
    assert refused(data) == "request-invalid"


def test_keys_with_and_without_a_passphrase():
    key, path = keys.generate(), Path("key.pem")
    plain, locked = keys.pkcs8_pem(key), keys.pkcs8_pem(key, passphrase=b"secret words")
    assert plain.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert locked.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    for data, passphrase in ((plain, None), (plain, b"needless"), (locked, b"secret words")):
        assert keys.load(data, path=path, passphrase=passphrase).public_key() == key.public_key()
    for data, passphrase, code in (
        (locked, None, "key-encrypted"),
        (locked, b"wrong", "key-passphrase"),
        (b"x", None, "key-invalid"),
    ):
        with pytest.raises(ConfigError) as caught:
            keys.load(data, path=path, passphrase=passphrase)
        assert caught.value.code == code
        assert "secret words" not in caught.value.message


def test_sizes_of_keys():
    assert keys.generate(KeyType.RSA, bits=2048).key_size == 2048
    for kind, bits in ((KeyType.P256, 256), (KeyType.RSA, 1024), (KeyType.RSA, 2049), (KeyType.RSA, 16384)):
        with pytest.raises(UsageError):
            keys.generate(kind, bits=bits)


def test_keys_that_cannot_sign(tmp_path):
    path = tmp_path / "x25519.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-out", path], check=True)
    with pytest.raises(ConfigError) as caught:
        keys.load(path.read_bytes(), path=path)
    assert caught.value.code == "key-type"


def test_what_counts_as_weak():
    assert keys.weakness(ed25519.Ed25519PrivateKey.generate().public_key()) == ""
    assert "secp521r1" in keys.weakness(ec.generate_private_key(ec.SECP521R1()).public_key())
    assert "kind" in keys.weakness(object())


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, DER])
def test_ec_keys_with_a_scalar_of_another_length(curve, form, encoding):
    for number in (2**200 + 1, 2 ** (curve.key_size - 1) + 7):  # one begins with zeros, the other with a high bit
        key = ec.derive_private_key(number, curve)
        der = key.private_bytes(DER, form, serialization.NoEncryption())
        exact = number.to_bytes(curve.key_size // 8, "big")
        for written in (b"\0" + exact, exact.lstrip(b"\0")):
            odd = rescaled(der, exact, written)
            if encoding is serialization.Encoding.PEM:
                label = b"PRIVATE KEY" if form is serialization.PrivateFormat.PKCS8 else b"EC PRIVATE KEY"
                odd = b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, base64.encodebytes(odd), label)
            assert keys.load(odd, path=Path("key.pem")).public_key() == key.public_key()


def rescaled(der, exact, written):
    """The key with another spelling of its scalar, every length around it adapted."""
    whole = element(der, 0)
    parts = [der[one.start : one.end] for one in children(der, whole)]
    if parts[1] == wrap(OCTETS, exact):
        parts[1] = wrap(OCTETS, written)
    else:
        inner = element(parts[2], 0)
        parts[2] = wrap(OCTETS, rescaled(parts[2][inner.begin : inner.end], exact, written))
    return wrap(SEQUENCE, b"".join(parts))


def test_with_exact_scalar_leaves_everything_else_alone():
    for key in (keys.generate(), keys.generate(KeyType.P384), keys.generate(KeyType.ED25519)):
        der = key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        assert with_exact_scalar(der) == der
        for end in range(len(der)):
            assert with_exact_scalar(der[:end]) == der[:end]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"hello\n", "it is neither PEM nor DER"),
        (b"-----BEGIN CERTIFICATE-----\n", "the PEM text holds no CERTIFICATE REQUEST"),
    ],
)
def test_what_is_no_request_at_all_is_named(data, why):
    with pytest.raises(NotSo) as caught:
        requests.load(data)
    assert caught.value.message == f"certificate request cannot be read: {why}"
