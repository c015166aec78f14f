"""Who gets a certificate for a key of its own, and who does not. Knows nothing of HTTP."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from sealmq.datafolder import DataFolder
from sealmq.errors import ConfigError, NotSo, UsageError
from sealmq.pki import enrolment, profiles, requests, signing
from sealmq.pki.authority import Authority
from sealmq.pki.enrolment import by_certificate, by_factory_certificate, by_token
from sealmq.pki.fingerprints import certificate_sha256, spki_sha256
from sealmq.pki.names import device_uri
from sealmq.pki.operations import device_add, device_approve, device_deny, device_pending, device_revoke, device_token
from sealmq.pki.registry import Approval, CertificateStatus, Registry
from sealmq.pki.tokens import EnrolmentUri, new_token, token_hash

NOW = signing.utc_now()
DAY = timedelta(days=1)


@pytest.fixture
def three(tmp_path):
    folder = DataFolder.create_or_open(tmp_path / "data")
    with Registry.open(folder) as registry:
        yield folder, Authority.create(folder, now=NOW - timedelta(hours=2)), registry


def request(*names, common_name=None, key=None):
    subject = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    return requests.build(key or signing.new_key(), subject=x509.Name(subject), names=list(names))


def refused(code):
    """The next block is refused with that code; the sentence is one line, its subject first, without a full stop."""

    class Refused:
        def __enter__(self):
            self.raises = pytest.raises(NotSo)
            self.caught = self.raises.__enter__()
            return self

        def __exit__(self, *error):
            result = self.raises.__exit__(*error)
            found = self.caught.value
            assert found.code == code, found.message
            assert found.mend
            assert "\n" not in found.message
            assert not found.message.endswith(".")
            return result

    return Refused()


# --- by token -------------------------------------------------------------------------------------------------------


def test_a_token_gives_one_certificate_with_the_registrys_names(three):
    folder, authority, registry = three
    made = device_token(*three, id="sensor-1", new=True, profile="short", groups=["roof"], now=NOW)
    assert registry.device("sensor-1").status == "pending"
    assert made["pin"] == spki_sha256(authority.root.certificate)
    key = signing.new_key()
    issued = by_token(authority, registry, token=made["token"], request=request(key=key), now=NOW)
    assert issued.certificate.public_key() == key.public_key()
    assert issued.certificate.subject.rfc4514_string() == "CN=sensor-1"
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(device_uri(folder.fleet, "sensor-1"))]
    assert issued.certificate.not_valid_after_utc == NOW + timedelta(hours=24)
    device = registry.device("sensor-1")
    assert (device.status, device.groups, len(device.certificates)) == ("active", ("roof",), 1)
    assert len(x509.load_pem_x509_certificates(issued.chain_pem)) == 2


def test_a_token_is_good_once_and_for_a_day(three):
    _, authority, registry = three
    token = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    with refused("token-expired"):
        by_token(authority, registry, token=token, request=request(), now=NOW + DAY)
    by_token(authority, registry, token=token, request=request(), now=NOW + DAY - timedelta(seconds=1))
    with refused("token-used"):
        by_token(authority, registry, token=token, request=request(), now=NOW)
    assert len(registry.device("sensor-1").certificates) == 1


def test_only_the_hash_of_a_token_is_kept(three):
    folder, _, registry = three
    token = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    assert len(bytes.fromhex(token)) == 16
    registry.close()
    stored = b"".join(path.read_bytes() for path in folder.path.glob("registry.sqlite3*"))
    assert token_hash(token).encode() in stored
    assert token.encode() not in stored


def test_a_token_of_another_device_and_one_that_never_was(three):
    _, authority, registry = three
    token = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    device_token(*three, id="sensor-2", new=True, now=NOW)
    with refused("token-other-device"):
        by_token(authority, registry, token=token, device_id="sensor-2", request=request(), now=NOW)
    with refused("token-unknown"):
        by_token(authority, registry, token=new_token(), request=request(), now=NOW)
    by_token(authority, registry, token=token, device_id="sensor-1", request=request(), now=NOW)


def test_a_second_token_voids_the_first(three):
    _, authority, registry = three
    first = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    second = device_token(*three, id="sensor-1", now=NOW)["token"]
    with refused("token-unknown"):
        by_token(authority, registry, token=first, request=request(), now=NOW)
    by_token(authority, registry, token=second, request=request(), now=NOW)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: b"not a request", "request-invalid"),
        (lambda: request(common_name="sensor-2"), "request-names"),
        (lambda: request(x509.DNSName("broker.example")), "request-names"),
        (lambda: request(x509.UniformResourceIdentifier("spiffe://other/device/sensor-1")), "request-names"),
        (lambda: request(key=rsa.generate_private_key(65537, 1024)), "request-key"),  # noqa: S505
        (lambda: altered(request()), "request-signature"),
    ],
    ids=["no-request", "other-id", "host-name", "other-fleet", "weak-key", "not-signed-by-its-key"],
)
def test_a_bad_request_is_refused_and_leaves_the_token_unused(three, made, code):
    _, authority, registry = three
    token = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    with refused(code):
        by_token(authority, registry, token=token, request=made(), now=NOW)
    assert registry.device("sensor-1").certificates == ()
    by_token(authority, registry, token=token, request=request(common_name="sensor-1"), now=NOW)


def altered(pem):
    """The same request with the last bit of its signature the other way round."""
    der = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return bytes(der)


def test_a_revoked_device_cannot_use_its_token(three):
    _, authority, registry = three
    token = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    device_revoke(*three, id="sensor-1", now=NOW)
    with refused("token-unknown"):
        by_token(authority, registry, token=token, request=request(), now=NOW)
    with refused("device-revoked"):
        device_token(*three, id="sensor-1", now=NOW)


def test_a_clock_at_1970_is_named_and_spends_nothing(three):
    _, authority, registry = three
    token = device_token(*three, id="sensor-1", new=True, now=NOW)["token"]
    then = datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(ConfigError) as caught:
        by_token(authority, registry, token=token, request=request(), now=then)
    assert caught.value.code == "clock-wrong"
    with pytest.raises(ConfigError):
        device_add(*three, id="sensor-2", now=then)
    assert [device.id for device in registry.devices()] == ["sensor-1"]
    by_token(authority, registry, token=token, request=request(), now=NOW)


# --- by the certificate that is there ---------------------------------------------------------------------------------


def enrolled(three, device_id="sensor-1"):
    _, authority, registry = three
    token = device_token(*three, id=device_id, new=True, now=NOW)["token"]
    issued = by_token(authority, registry, token=token, request=request(), now=NOW)
    return certificate_sha256(issued.certificate)


@pytest.mark.parametrize("after", [timedelta(days=20), timedelta(days=31), timedelta(days=119)])
def test_an_expired_certificate_renews_within_the_grace(three, after):
    _, authority, registry = three
    issued = by_certificate(authority, registry, sha256=enrolled(three), request=request(), now=NOW + after)
    assert issued.device_id == "sensor-1"
    assert len(registry.device("sensor-1").certificates) == 2


def test_past_the_grace_it_takes_a_token(three):
    _, authority, registry = three
    sha256 = enrolled(three)
    with refused("certificate-expired"):
        by_certificate(authority, registry, sha256=sha256, request=request(), now=NOW + timedelta(days=120))
    with refused("certificate-expired"):
        by_certificate(
            authority, registry, sha256=sha256, request=request(), now=NOW + timedelta(days=32), grace=timedelta(days=1)
        )


def test_revoked_and_unknown_certificates_renew_nothing(three):
    _, authority, registry = three
    sha256 = enrolled(three)
    with refused("certificate-unknown"):
        by_certificate(authority, registry, sha256="00" * 32, request=request(), now=NOW)
    device_revoke(*three, id="sensor-1", now=NOW)
    with refused("device-revoked"):
        by_certificate(authority, registry, sha256=sha256, request=request(), now=NOW)
    assert len(registry.device("sensor-1").certificates) == 1


def test_a_revived_id_does_not_revive_its_old_certificate(three):
    from sealmq.pki.operations import device_retire

    _, authority, registry = three
    sha256 = enrolled(three)
    device_retire(*three, id="sensor-1", now=NOW)
    device_token(*three, id="sensor-1", new=True, reuse_retired=True, now=NOW)
    with refused("certificate-revoked"):
        by_certificate(authority, registry, sha256=sha256, request=request(), now=NOW)


def test_a_superseded_certificate_renews_until_it_expires_and_not_in_the_grace(three):
    _, authority, registry = three
    first = enrolled(three)
    later = NOW + timedelta(days=20)
    second = by_certificate(authority, registry, sha256=first, request=request(), now=later)
    registry.certificates_seen({certificate_sha256(second.certificate): later})
    assert registry.certificate(first).status == CertificateStatus.SUPERSEDED
    by_certificate(authority, registry, sha256=first, request=request(), now=later)
    with refused("certificate-superseded"):
        by_certificate(authority, registry, sha256=first, request=request(), now=NOW + timedelta(days=31))


# --- by the certificate of a factory ----------------------------------------------------------------------------------


@pytest.fixture
def factory():
    return signing.sign_ca(
        dataclasses.replace(profiles.ROOT, label="Factory"), fleet="factory", number=1, now=NOW - DAY
    )


def from_factory(factory, common_name="sensor-9", *, now=NOW - DAY):
    return signing.sign_leaf(
        profiles.DEVICE_PROFILES["default"],
        issuer=factory,
        public_key=signing.new_key().public_key(),
        common_name=common_name,
        names=[],
        now=now,
    )


def ask(three, factory, certificate, *, now=NOW):
    _, authority, registry = three
    return by_factory_certificate(
        authority,
        registry,
        certificate=certificate,
        factories=[factory.certificate],
        request=request(),
        peer="192.0.2.7:1000",
        now=now,
    )


def test_a_factory_device_waits_until_it_is_approved_and_gets_one_certificate(three, factory):
    _, _, registry = three
    certificate = from_factory(factory)
    for _ in range(2):
        assert isinstance(ask(three, factory, certificate), Approval)
    (waiting,) = device_pending(*three)["pending"]
    assert (waiting["id"], waiting["subject"], waiting["peer"]) == ("sensor-9", "CN=sensor-9", "192.0.2.7:1000")
    assert waiting["known"] is None
    device_approve(*three, id="sensor-9", profile="sleepy", groups=["roof"], now=NOW)
    issued = ask(three, factory, certificate)
    assert issued.device_id == "sensor-9"
    assert registry.device("sensor-9").profile == "sleepy"
    assert registry.device("sensor-9").groups == ("roof",)
    assert isinstance(ask(three, factory, certificate), Approval)  # the next one needs another approval


def test_a_denied_device_stays_out_until_it_is_approved(three, factory):
    certificate = from_factory(factory)
    ask(three, factory, certificate)
    device_deny(*three, id="sensor-9", now=NOW)
    with refused("approval-denied"):
        ask(three, factory, certificate)
    device_approve(*three, id="sensor-9", now=NOW)
    assert ask(three, factory, certificate).device_id == "sensor-9"


def test_two_factory_devices_of_one_name_do_not_share_an_approval(three, factory):
    first, second = from_factory(factory), from_factory(factory)
    ask(three, factory, first)
    asked = ask(three, factory, second)
    assert asked.device_id == f"factory-{certificate_sha256(second)[:16]}"
    device_approve(*three, id="sensor-9", now=NOW)
    assert isinstance(ask(three, factory, second), Approval)


def test_a_name_that_is_no_device_id_gets_one(three, factory):
    certificate = from_factory(factory, "Ümläut / evil.example")
    assert ask(three, factory, certificate).device_id == f"factory-{certificate_sha256(certificate)[:16]}"


def test_certificates_of_no_factory_and_expired_ones(three, factory):
    other = signing.sign_ca(profiles.ROOT, fleet="factory", number=1, now=NOW - DAY)
    with refused("certificate-unknown"):
        ask(three, factory, from_factory(other))
    with refused("certificate-expired"):
        ask(three, factory, from_factory(factory), now=NOW + timedelta(days=60))
    assert device_pending(*three)["pending"] == []


def test_the_queue_is_bounded(three, factory, monkeypatch):
    monkeypatch.setattr(enrolment, "QUEUE", 1)
    ask(three, factory, from_factory(factory))
    with refused("approval-queue-full"):
        ask(three, factory, from_factory(factory, "sensor-10"))


def test_approving_a_revoked_device_or_nobody(three, factory):
    device_add(*three, id="sensor-9", now=NOW)
    device_revoke(*three, id="sensor-9", now=NOW)
    ask(three, factory, from_factory(factory))
    assert device_pending(*three)["pending"][0]["known"] == "revoked"
    with refused("device-revoked"):
        device_approve(*three, id="sensor-9", now=NOW)
    with refused("approval-unknown"):
        device_approve(*three, id="nobody", now=NOW)


# --- the URI ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["broker.example", "192.0.2.7", "2001:db8::7"])
def test_a_uri_comes_back_as_it_went(host):
    uri = EnrolmentUri(host, 8443, "sensor-1", new_token(), "ab" * 32)
    assert EnrolmentUri.parse(f"  {uri}\n") == uri
    assert uri.token not in repr(uri)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://h:1/?id=a&token=00112233445566778899aabbccddeeff&pin=sha256:" + "ab" * 32,
        "sealmq-enrol://h/?id=a&token=00112233445566778899aabbccddeeff&pin=sha256:" + "ab" * 32,
        "sealmq-enrol://h:1/?id=a&token=short&pin=sha256:" + "ab" * 32,
        "sealmq-enrol://h:1/?id=a&token=00112233445566778899aabbccddeeff",
        "sealmq-enrol://h:1/?id=a&token=00112233445566778899aabbccddeeff&pin=md5:00",
        "sealmq-enrol://h:99999/?id=a&token=00112233445566778899aabbccddeeff&pin=sha256:" + "ab" * 32,
        "sealmq-enrol://h:1/?id=a.b&token=00112233445566778899aabbccddeeff&pin=sha256:" + "ab" * 32,
    ],
)
def test_half_a_uri_is_refused_without_repeating_the_token(text):
    with pytest.raises(UsageError) as caught:
        EnrolmentUri.parse(text)
    assert "00112233" not in caught.value.message
