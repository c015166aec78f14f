"""The CA: the profile of every certificate, verified by openssl and GnuTLS too. Knows nothing of devices' records."""

import subprocess
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from tiny_disk import tiny_disk

from sealmq.datafolder import DataFolder
from sealmq.errors import ConfigError, DataFolderError, Environment, UsageError
from sealmq.pki import names, signing
from sealmq.pki.authority import Authority
from sealmq.pki.authority import files as authority_files

CLIENT, SERVER = x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH
NOW = signing.utc_now()


@pytest.fixture
def folder(tmp_path):
    return DataFolder.create_or_open(tmp_path / "data")


@pytest.fixture
def authority(folder):
    return Authority.create(folder, now=NOW)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def has(certificate, kind):
    return any(isinstance(found.value, kind) for found in certificate.extensions)


def lifetime(certificate):
    return certificate.not_valid_after_utc - NOW


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=20)


@pytest.fixture
def openssl(authority, tmp_path):
    """`openssl verify` of a bundle as the other side does it: the root trusted, the chain from the file."""
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem)

    def verify(bundle, purpose, *more):
        chain = tmp_path / "chain.pem"
        chain.write_bytes(bundle.cert_chain_pem)
        arguments = ["-x509_strict", "-purpose", purpose, "-CAfile", root, "-untrusted", chain, *more, chain]
        return run("openssl", "verify", *arguments)

    return verify


@pytest.fixture
def certtool(authority, tmp_path):
    root = tmp_path / "root.pem"
    root.write_bytes(authority.root_pem)

    def verify(bundle, purpose, *more):
        chain = tmp_path / "chain.pem"
        chain.write_bytes(bundle.cert_chain_pem)
        command = ["certtool", "--verify", "--load-ca-certificate", root, "--verify-purpose", purpose, *more]
        return run(*command, "--infile", chain)

    return verify


# --- profiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "days", "path_length", "usage"),
    [("root", 3650, 2, None), ("device_issuer", 365, 0, CLIENT), ("server_issuer", 365, 0, SERVER)],
)
def test_profile_of_the_authorities(authority, role, days, path_length, usage):
    certificate = getattr(authority, role).certificate
    basic, key_usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, path_length)
    assert (key_usage.critical, key_usage.value.key_cert_sign, key_usage.value.crl_sign) == (True, True, True)
    assert not key_usage.value.digital_signature
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert lifetime(certificate) == timedelta(days=days)
    assert NOW - certificate.not_valid_before_utc == timedelta(minutes=5)
    if usage is None:
        assert not has(certificate, x509.ExtendedKeyUsage)
    else:
        assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [usage]


def test_the_issuing_ca_for_devices_signs_no_hosts_and_says_so_without_being_critical(authority):
    limits = extension(authority.device_issuer.certificate, x509.NameConstraints)
    assert not limits.critical  # mbedTLS cannot parse a CA with a critical one
    assert limits.value.permitted_subtrees is None
    assert limits.value.excluded_subtrees == [
        x509.DNSName(""),
        x509.IPAddress(IPv4Network("0.0.0.0/0")),
        x509.IPAddress(IPv6Network("::/0")),
    ]
    for issuer in (authority.root, authority.server_issuer):
        assert not has(issuer.certificate, x509.NameConstraints)


@pytest.mark.parametrize(
    ("profile", "life"),
    [("default", timedelta(days=30)), ("short", timedelta(hours=24)), ("sleepy", timedelta(days=180))],
)
def test_profile_of_a_device(authority, profile, life):
    leaf = authority.issue_device("sensor-1", profile, now=NOW + timedelta(days=2)).certificate
    assert leaf.not_valid_after_utc == NOW + timedelta(days=2) + life
    assert leaf.not_valid_before_utc == NOW + timedelta(days=2) - timedelta(hours=1)
    assert leaf.subject.rfc4514_string() == "CN=sensor-1"
    san = extension(leaf, x509.SubjectAlternativeName)
    assert not san.critical
    assert list(san.value) == [x509.UniformResourceIdentifier(f"spiffe://{authority.fleet}/device/sensor-1")]
    basic, key_usage = extension(leaf, x509.BasicConstraints), extension(leaf, x509.KeyUsage)
    assert (basic.critical, basic.value.ca) == (True, False)
    assert (key_usage.critical, key_usage.value.digital_signature, key_usage.value.key_cert_sign) == (True, True, False)
    assert list(extension(leaf, x509.ExtendedKeyUsage).value) == [CLIENT]
    assert 0 < leaf.serial_number < 2**159
    assert len(leaf.public_bytes(serialization.Encoding.DER)) < 512  # a few hundred bytes on the air


def test_key_identifiers_are_of_the_keyid_form_and_match(authority):
    leaf = authority.issue_device("sensor-1").certificate
    chain = [leaf, authority.device_issuer.certificate, authority.root.certificate]
    for child, parent in zip(chain, [*chain[1:], chain[-1]], strict=True):
        found = extension(child, x509.AuthorityKeyIdentifier).value
        assert found.key_identifier == extension(parent, x509.SubjectKeyIdentifier).value.digest
        assert found.authority_cert_issuer is None
        assert found.authority_cert_serial_number is None


def test_a_leaf_never_begins_before_its_issuer_nor_ends_after_it(authority):
    issuer = authority.device_issuer.certificate
    early = authority.issue_device("sensor-1", now=NOW).certificate
    assert early.not_valid_before_utc == issuer.not_valid_before_utc
    late = authority.issue_device("sensor-1", now=NOW + timedelta(days=360)).certificate
    assert late.not_valid_after_utc == issuer.not_valid_after_utc


def test_an_expired_issuer_issues_nothing(authority):
    with pytest.raises(ConfigError) as caught:
        authority.issue_device("sensor-1", now=NOW + timedelta(days=366))
    assert caught.value.code == "issuer-expired"


def test_every_key_and_serial_is_new(authority):
    first, second = authority.issue_device("sensor-1"), authority.issue_device("sensor-1")
    assert first.key_pem != second.key_pem
    assert first.certificate.serial_number != second.certificate.serial_number


def test_keys_do_not_print(authority):
    bundle = authority.issue_device("sensor-1")
    text = f"{authority!r} {bundle!r}"
    assert "PRIVATE" not in text
    assert "EllipticCurve" not in text


# --- what others make of them --------------------------------------------------------------------------------------


def test_openssl_accepts_devices_as_clients_and_servers_as_servers_only(authority, openssl):
    device, server = authority.issue_device("sensor-1"), authority.issue_server(["localhost", "127.0.0.1"])
    assert openssl(device, "sslclient").returncode == 0
    assert openssl(server, "sslserver", "-verify_hostname", "localhost").returncode == 0
    assert openssl(server, "sslserver", "-verify_ip", "127.0.0.1").returncode == 0
    assert openssl(device, "sslserver").returncode != 0
    assert openssl(server, "sslclient").returncode != 0
    assert "hostname mismatch" in openssl(server, "sslserver", "-verify_hostname", "elsewhere.example").stderr


def test_gnutls_accepts_devices_as_clients_and_servers_as_servers_only(authority, certtool):
    device, server = authority.issue_device("sensor-1"), authority.issue_server(["broker.example"])
    client_auth, server_auth = CLIENT.dotted_string, SERVER.dotted_string
    assert certtool(device, client_auth).returncode == 0
    assert certtool(server, server_auth, "--verify-hostname", "broker.example").returncode == 0
    assert certtool(device, server_auth).returncode != 0
    assert certtool(server, server_auth, "--verify-hostname", "elsewhere.example").returncode != 0


def test_the_devices_ca_cannot_make_a_server_that_anybody_accepts(authority, openssl, certtool):
    """The key of the issuing CA for devices is in wrong hands and signs for a host name, with serverAuth."""
    from sealmq.pki import profiles

    key = signing.new_key()
    leaf = signing.sign_leaf(
        profiles.SERVER,
        issuer=authority.device_issuer,
        public_key=key.public_key(),
        common_name="x",
        names=[x509.DNSName("broker.example")],
        now=NOW,
    )
    forged = signing.Bundle(signing.certificate_pem(leaf, authority.device_issuer.certificate), signing.key_pem(key))
    assert "excluded subtree violation" in openssl(forged, "any").stderr
    assert openssl(forged, "sslserver").returncode != 0
    assert certtool(forged, SERVER.dotted_string).returncode != 0
    verifier = PolicyBuilder().store(Store([authority.root.certificate])).time(NOW)
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("broker.example")).verify(
            leaf, [authority.device_issuer.certificate]
        )


def test_pyca_accepts_a_device_with_and_without_the_issuing_ca_in_its_chain(authority):
    leaf = authority.issue_device("sensor-1", now=NOW).certificate
    trusted = Store(x509.load_pem_x509_certificates(authority.client_ca_pem()))
    verifier = PolicyBuilder().store(trusted).time(NOW).build_client_verifier()
    for sent in ([], [authority.device_issuer.certificate]):
        assert verifier.verify(leaf, sent).subjects


def test_a_device_that_sends_its_leaf_alone_verifies_against_the_client_ca_file(authority, tmp_path):
    (tmp_path / "trusted.pem").write_bytes(authority.client_ca_pem())
    (tmp_path / "leaf.pem").write_bytes(signing.certificate_pem(authority.issue_device("sensor-1").certificate))
    done = run(
        "openssl",
        "verify",
        "-partial_chain",
        "-purpose",
        "sslclient",
        "-CAfile",
        tmp_path / "trusted.pem",
        tmp_path / "leaf.pem",
    )
    assert done.returncode == 0, done.stderr


# --- storage -------------------------------------------------------------------------------------------------------


def test_open_finds_what_create_made(folder, authority):
    found = Authority.open(folder)
    assert found.client_ca_pem() == authority.client_ca_pem()
    assert found.server_ca_pem() == authority.root_pem
    assert found.issue_device("sensor-1").certificate.issuer == authority.device_issuer.certificate.subject
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.ca_dir.iterdir()} == {
        "root.pem": 0o644,
        "root.key": 0o600,
        "devices.pem": 0o644,
        "devices.key": 0o600,
        "servers.pem": 0o644,
        "servers.key": 0o600,
    }
    assert folder.ca_dir.stat().st_mode & 0o777 == 0o700


def test_create_never_replaces_a_ca(folder, authority):
    with pytest.raises(Environment) as caught:
        Authority.create(folder)
    assert caught.value.code == "folder-exists"
    assert Authority.open(folder).root_pem == authority.root_pem


def test_a_ca_that_could_not_be_finished_leaves_nothing_in_the_way(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        folder = DataFolder.create_or_open(disk.path)
        disk.fill(spare=4096)  # room for one of the six files
        with pytest.raises(Environment) as caught:
            Authority.open_or_create(folder)
        assert caught.value.code == "disk-full"
        assert not folder.ca_dir.exists()
        disk.empty()
        assert Authority.open_or_create(folder).root_pem == Authority.open(folder).root_pem


@pytest.mark.parametrize("at", range(6))
def test_a_crash_at_any_file_leaves_no_ca(folder, monkeypatch, at):
    class PowerCut(BaseException):
        pass

    left = at
    writers = {name: getattr(authority_files, name) for name in ("write_private", "write_public")}

    def cut(name):
        def write(path, data):
            nonlocal left
            if left == 0:
                raise PowerCut
            left -= 1
            writers[name](path, data)

        return write

    for name in writers:
        monkeypatch.setattr(authority_files, name, cut(name))
    with pytest.raises(PowerCut):
        Authority.create(folder)
    monkeypatch.undo()
    assert not folder.ca_dir.exists()
    assert Authority.open_or_create(folder)


def test_a_missing_ca_is_named(folder):
    with pytest.raises(DataFolderError) as caught:
        Authority.open(folder)
    assert caught.value.code == "ca-missing"


@pytest.mark.parametrize("name", ["root.pem", "root.key", "devices.pem", "devices.key", "servers.pem", "servers.key"])
@pytest.mark.parametrize("damage", ["gone", "garbage", "of another"])
def test_a_damaged_ca_is_named(folder, authority, tmp_path, name, damage):
    path = folder.ca_dir / name
    if damage == "gone":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"not what it was")
    else:
        other = Authority.create(DataFolder.create_or_open(tmp_path / "other"))
        assert other.root_pem != authority.root_pem
        path.write_bytes((tmp_path / "other" / "ca" / name).read_bytes())
    with pytest.raises(DataFolderError) as caught:
        Authority.open(folder)
    assert caught.value.code == "ca-damaged"
    assert name.split(".")[0] in caught.value.message


@pytest.mark.usefixtures("authority")
def test_an_exposed_ca_key_is_refused(folder):
    (folder.ca_dir / "devices.key").chmod(0o644)
    with pytest.raises(Environment) as caught:
        Authority.open(folder)
    assert caught.value.code == "secret-exposed"


# --- the broker's certificate --------------------------------------------------------------------------------------


def dns_and_addresses(bundle):
    san = extension(bundle.certificate, x509.SubjectAlternativeName).value
    return {*san.get_values_for_type(x509.DNSName), *san.get_values_for_type(x509.IPAddress)}


def test_the_server_certificate_names_this_machine_and_more(authority, folder, monkeypatch):
    monkeypatch.setattr(names.socket, "gethostname", lambda: "Edge-Box")
    monkeypatch.setattr(names, "_interface_addresses", lambda: [IPv4Address("192.0.2.7")])
    bundle = authority.ensure_server_certificate(["broker.example"], now=NOW)
    assert dns_and_addresses(bundle) == {
        "localhost",
        "edge-box",
        "broker.example",
        IPv4Address("127.0.0.1"),
        IPv6Address("::1"),
        IPv4Address("192.0.2.7"),
    }
    assert list(extension(bundle.certificate, x509.ExtendedKeyUsage).value) == [SERVER]
    assert lifetime(bundle.certificate) == timedelta(days=30)
    assert (folder.server_dir / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (folder.server_dir / "cert.pem").read_bytes() == bundle.cert_chain_pem
    assert bundle.cert_chain_pem.count(b"BEGIN CERTIFICATE") == 2


def test_the_server_certificate_is_kept_while_it_serves(authority):
    first = authority.ensure_server_certificate(now=NOW)
    assert authority.ensure_server_certificate(now=NOW + timedelta(days=19)) == first


@pytest.mark.parametrize("day", [21, 29, 31, 300])
def test_the_server_certificate_is_reissued_with_less_than_a_third_left(authority, day):
    first = authority.ensure_server_certificate(now=NOW)
    second = authority.ensure_server_certificate(now=NOW + timedelta(days=day))
    assert second != first
    assert second.not_after > NOW + timedelta(days=day)
    assert authority.ensure_server_certificate(now=NOW + timedelta(days=day)) == second


def test_the_server_certificate_is_reissued_for_a_new_name_only(authority):
    first = authority.ensure_server_certificate(["a.example"], now=NOW)
    assert authority.ensure_server_certificate(now=NOW) == first
    second = authority.ensure_server_certificate(["a.example", "b.example"], now=NOW)
    assert second != first
    assert "b.example" in dns_and_addresses(second)


@pytest.mark.parametrize("damage", ["no key", "other key", "garbage", "exposed key"])
def test_a_damaged_server_certificate_is_replaced(authority, folder, damage):
    first = authority.ensure_server_certificate(now=NOW)
    key = folder.server_dir / "key.pem"
    if damage == "no key":
        key.unlink()
    elif damage == "other key":
        key.write_bytes(authority.issue_server(["localhost"]).key_pem)
    elif damage == "garbage":
        (folder.server_dir / "cert.pem").write_bytes(b"garbage")
    else:
        key.chmod(0o644)
    second = authority.ensure_server_certificate(now=NOW)
    assert second != first
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    assert loaded.public_key() == second.certificate.public_key()


def test_a_server_certificate_of_another_ca_is_replaced(authority, folder, tmp_path):
    other = Authority.create(DataFolder.create_or_open(tmp_path / "other"))
    other.ensure_server_certificate()
    (tmp_path / "other" / "server").rename(folder.server_dir)
    assert authority.ensure_server_certificate().certificate.issuer == authority.server_issuer.certificate.subject


@pytest.mark.parametrize("wrong", [[], ["mqtts://broker.example"], ["broker.example:8883"], ["a b"], ["999.1.1.1"]])
def test_impossible_server_names_are_refused(authority, wrong):
    with pytest.raises(UsageError):
        authority.issue_server(wrong)
