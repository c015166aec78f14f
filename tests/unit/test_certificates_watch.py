"""Certificate files of others: taken as one generation when they are sound, left alone and told about when not."""

import io
import os
from datetime import timedelta

import fake_engine
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import AuthorityInformationAccessOID

from sealmq.broker import certificates, soundness
from sealmq.broker.service import Service
from sealmq.broker.watch import Watch
from sealmq.config.settings import load
from sealmq.errors import ConfigError
from sealmq.pki import profiles, signing
from sealmq.pki.operations import device_add
from sealmq.testing import Fault, ThrowawayCA

NOW = signing.utc_now()


# --- looking at files ----------------------------------------------------------------------------------------------


class Desk:
    """Two files that are one generation: sound when they hold the same."""

    def __init__(self, folder):
        self.paths = [folder / "a", folder / "b"]
        self.put("1", "1")
        self.taken, self.faults = [], []
        self.watch = Watch(lambda: self.paths, self.read, self.taken.append, self.faults.append)

    def put(self, *contents):
        for path, content in zip(self.paths, contents, strict=True):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                fresh = path.with_suffix(".new")
                fresh.write_text(content)
                fresh.rename(path)

    def read(self):
        try:
            first, second = (path.read_text() for path in self.paths)
        except OSError as error:
            raise ConfigError(f"{error.filename} is gone") from None
        if first != second:
            raise ConfigError(f"{first} does not fit {second}")
        return first


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_nothing_new_is_nothing_to_take(desk):
    assert [desk.watch.look() for _ in range(3)] == [False] * 3
    desk.put("1", "1")  # other inodes and times, the same content
    assert not desk.watch.look()
    assert (desk.taken, desk.faults) == ([], [])


def test_both_files_are_taken_together(desk):
    desk.watch.look()
    desk.put("2", "2")
    assert desk.watch.look()
    assert not desk.watch.look()
    assert (desk.taken, desk.faults) == (["2"], [])


def test_a_renewal_caught_half_way_is_not_told_about(desk):
    desk.watch.look()
    desk.put("2", "1")
    assert not desk.watch.look()
    desk.put("2", "2")
    assert desk.watch.look()
    assert (desk.taken, desk.faults) == (["2"], [])


@pytest.mark.parametrize("contents", [("2", "1"), (None, "1")])
def test_a_fault_that_stays_is_told_once_and_ends_when_it_is_mended(desk, contents):
    desk.watch.look()
    desk.put(*contents)
    for _ in range(5):
        desk.watch.look()
    assert len(desk.faults) == 1
    assert desk.watch.fault is desk.faults[0]
    desk.put("3", "3")
    assert desk.watch.look()
    assert (desk.taken, desk.watch.fault) == (["3"], None)


def test_going_back_to_what_is_in_force_ends_a_fault(desk):
    desk.watch.look()
    desk.put("2", "1")
    desk.watch.look()
    desk.watch.look()
    desk.put("1", "1")
    desk.watch.look()
    assert (desk.taken, desk.watch.fault, len(desk.faults)) == ([], None, 1)


def test_a_change_within_the_same_second_and_length_is_seen(desk):
    desk.watch.look()
    before = desk.paths[0].stat()
    desk.put("2", "2")
    for path in desk.paths:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert desk.watch.look()  # the inode gives it away


# --- what is sound -------------------------------------------------------------------------------------------------


@pytest.fixture
def ca():
    return ThrowawayCA()


def identity(issued, setting="tls.certificate", key=None, chain=None, path="cert.pem"):
    return certificates.Identity(setting, chain or issued.cert_pem, key or issued.key_pem, path, path)


def material(ca, server, crls=b"", also=()):
    return certificates.Material(server, tuple(also), ca.client_ca_pem, crls, built_in=False)


def refused(made, **more):
    with pytest.raises(ConfigError) as caught:
        soundness.check(made, now=NOW, **more)
    assert caught.value.mend
    return caught.value.code


def test_a_good_generation(ca):
    soundness.check(material(ca, identity(ca.issue_server())), now=NOW)


def test_every_fault_of_a_certificate_has_a_name(ca):
    one, other = ca.issue_server(), ca.issue_server()
    leaf, issuing = x509.load_pem_x509_certificates(one.cert_pem)
    backwards = signing.certificate_pem(issuing, leaf)
    secret = serialization.load_pem_private_key(one.key_pem, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    assert refused(material(ca, identity(one, key=other.key_pem))) == "key-mismatch"
    assert refused(material(ca, identity(one, key=b"nothing"))) == "key-invalid"
    assert refused(material(ca, identity(one, key=secret))) == "key-invalid"
    assert refused(material(ca, identity(one, chain=b"nothing"))) == "certificate-invalid"
    assert refused(material(ca, identity(ca.issue_server(fault=Fault.EXPIRED)))) == "certificate-expired"
    unrelated = signing.certificate_pem(leaf) + ThrowawayCA().root_pem
    assert refused(material(ca, identity(one, chain=unrelated))) == "certificate-chain"
    assert refused(material(ca, identity(one, chain=backwards))) == "key-mismatch"
    good = identity(one)
    assert refused(material(ca, good, also=[identity(one, "tls.also number 1", key=other.key_pem)])) == "key-mismatch"


def test_the_authority_must_hold_something(ca):
    good = identity(ca.issue_server())
    empty = certificates.Material(good, (), b"nothing", b"", built_in=False)
    assert refused(empty) == "client-ca-invalid"
    old = ThrowawayCA(now=NOW - timedelta(days=4000))
    assert refused(certificates.Material(good, (), old.client_ca_pem, b"", built_in=False)) == "client-ca-invalid"


def test_an_older_certificate_or_one_that_lost_its_chain_is_not_taken(ca):
    newer = identity(ca.issue_server())
    older = identity(ThrowawayCA(now=NOW - timedelta(days=2)).issue_server())
    assert refused(material(ca, older), before=material(ca, newer)) == "certificate-older"
    soundness.check(material(ca, newer), now=NOW, before=material(ca, older))
    alone = identity(ca.issue_server(fault=Fault.MISSING_INTERMEDIATE))
    assert refused(material(ca, alone), before=material(ca, newer)) == "certificate-chain"


def test_a_leaf_that_says_where_its_issuer_is_comes_with_it(ca):
    """Public CAs put caIssuers into every leaf: the leaf alone is half a chain, whatever was there before."""
    key = signing.new_key()
    issuer = ca._servers
    where = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.invalid/issuer.der")
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.AuthorityInformationAccess([where]), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    chain = signing.certificate_pem(leaf)
    alone = certificates.Identity("tls.certificate", chain, signing.key_pem(key), "cert.pem", "key.pem")
    assert refused(material(ca, alone)) == "certificate-chain"
    whole = certificates.Identity(
        "tls.certificate", chain + signing.certificate_pem(issuer.certificate), signing.key_pem(key), "c", "k"
    )
    soundness.check(material(ca, whole), now=NOW)


def crl(ca, *serials, at=NOW, life=timedelta(days=1), signer=None):
    issuer = signer or ca._devices
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(at).next_update(at + life)
    builder = builder.add_extension(x509.CRLNumber(int(at.timestamp())), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_revocation_lists(ca):
    good = identity(ca.issue_server())
    stale = crl(ca, 7, at=NOW - timedelta(days=9))
    soundness.check(material(ca, good, stale), now=NOW)  # an alarm, no refusal
    soundness.check(material(ca, good, b"some words\n" + crl(ca) + crl(ca, signer=ca._root)), now=NOW)
    assert refused(material(ca, good, b"nothing")) == "crl-invalid"
    assert refused(material(ca, good, crl(ca, signer=ThrowawayCA()._devices))) == "crl-invalid"
    assert refused(material(ca, good, crl(ca).replace(b"M", b"N", 1))) == "crl-invalid"
    assert refused(material(ca, good, stale), before=material(ca, good, crl(ca))) == "certificate-older"


# --- a broker with files of others ---------------------------------------------------------------------------------


class Site:
    """A service whose certificate files a test writes, with a stand-in for the data plane."""

    def __init__(self, folder, ca):
        self.folder, self.ca = folder, ca
        self.log = io.StringIO()
        self.write(ca.issue_server(), ca.client_ca_pem)
        (folder / "crl.pem").write_bytes(crl(ca))
        (folder / "further.pem").write_bytes((further := ca.issue_server("further.example")).cert_pem)
        (folder / "further.key").write_bytes(further.key_pem)
        lines = ['certificate = "cert.pem"', 'key = "key.pem"', 'client_ca = "ca.pem"', 'crl = "crl.pem"']
        also = ["[[tls.also]]", 'certificate = "further.pem"', 'key = "further.key"']
        (folder / "sealmq.toml").write_text("\n".join(["[tls]", *lines, *also]))
        self.service = Service(
            folder / "data",
            lambda: load(folder / "none", file=folder / "sealmq.toml", overrides={"listen.https": "off"}, environ={}),
            log_to=self.log,
        )

    def write(self, issued, client_ca_pem):
        for name, data in (("cert.pem", issued.cert_pem), ("key.pem", issued.key_pem), ("ca.pem", client_ca_pem)):
            (self.folder / name).write_bytes(data)

    def tick(self, after=timedelta(0)):
        self.service._upkeep.tick(signing.utc_now() + after)


@pytest.fixture
def site(tmp_path, ca, monkeypatch):
    fake_engine.install(monkeypatch)
    built = Site(tmp_path, ca)
    with built.service:
        yield built


def node():
    return fake_engine.Node.started[-1]


def test_the_data_plane_is_started_with_all_of_it(site):
    tls = node().config["tls"]
    assert [len(tls[name]) for name in ("also", "ticket_keys")] == [1, 1]
    assert "BEGIN X509 CRL" in tls["client_crls_pem"]
    assert "further.example until" in site.log.getvalue()


def test_a_new_generation_reaches_the_data_plane_in_one_reload(site, ca):
    fresh = ca.issue_server()
    site.write(fresh, ca.client_ca_pem)
    site.tick()
    [config] = node().reloaded
    assert config["tls"]["certificate_chain_pem"] == fresh.cert_pem.decode()
    assert config["tls"]["private_key_pem"] == fresh.key_pem.decode()
    assert config["tls"]["ticket_keys"] == node().config["tls"]["ticket_keys"]
    assert "files are taken anew" in site.log.getvalue()


def test_a_generation_that_is_not_sound_stays_out_and_the_log_says_why(site, ca):
    before = site.service.material
    site.write(ca.issue_server(fault=Fault.EXPIRED), ca.client_ca_pem)
    for _ in range(3):
        site.tick()
    site.tick(after=timedelta(hours=2))  # the hourly round does not take it either
    assert node().reloaded == []
    assert site.service.material == before
    assert site.log.getvalue().count("expired on") == 1
    assert "mend: renew it" in site.log.getvalue()
    assert site.service.status()["counts"]["certificate_files_unsound"] == 1
    site.write(ca.issue_server(), ca.client_ca_pem)
    site.tick()
    assert len(node().reloaded) == 1
    assert site.service.status()["counts"]["certificate_files_unsound"] == 0


def test_what_the_data_plane_refuses_stays_out_too(site, ca, monkeypatch):
    before = site.service.material
    monkeypatch.setattr(fake_engine.Node, "fail", ("certificate-invalid", "no", "try another"))
    site.write(ca.issue_server(), ca.client_ca_pem)
    for _ in range(2):
        site.tick()
    assert site.service.material == before
    assert "mend: try another" in site.log.getvalue()


def test_a_reload_by_hand_may_go_back_to_an_older_one(site, ca):
    older = ThrowawayCA(now=NOW - timedelta(days=3)).issue_server()
    site.write(older, ca.client_ca_pem)
    for _ in range(2):
        site.tick()
    assert "is older" in site.log.getvalue()
    site.service.reload()
    assert node().reloaded[-1]["tls"]["certificate_chain_pem"] == older.cert_pem.decode()
    site.tick()
    assert len(node().reloaded) == 1


def test_a_stale_list_is_an_alarm_a_figure_and_no_refusal(site, ca):
    assert site.service.status()["counts"]["crl_seconds_left"] > 0
    site.tick(after=timedelta(days=2))
    site.tick(after=timedelta(days=2, hours=1))
    assert site.log.getvalue().count("is stale since") == 1
    assert "mend: get the present list" in site.log.getvalue()
    site.tick(after=timedelta(days=3, hours=1))
    assert site.log.getvalue().count("is stale since") == 2
    (site.folder / "crl.pem").write_bytes(crl(ca, 42, at=NOW + timedelta(days=3)))
    site.tick()
    assert node().reloaded[-1]["tls"]["client_crls_pem"] == crl_text(site)


def crl_text(site):
    return (site.folder / "crl.pem").read_text()


def test_the_ticket_keys_turn_without_anything_else_changing(site):
    before = node().config["tls"]
    site.tick(after=timedelta(hours=12, minutes=1))
    after = node().reloaded[-1]["tls"]
    assert after["ticket_keys"][1:] == before["ticket_keys"]
    assert after["certificate_chain_pem"] == before["certificate_chain_pem"]


def test_the_bundle_is_published_once_per_version(site):
    assert [(topic, retain) for topic, _, retain in node().published] == [("$ca/bundle", True)]
    assert node().published[0][1].startswith(b"# sealmq CA bundle, version 1\n-----BEGIN CERTIFICATE-----")
    site.service._rotate({"kind": "root", "step": "stage"})
    assert len(node().published) == 1
    site.service._rotate({"kind": "root", "step": "publish"})
    assert node().published[1][1].count(b"BEGIN CERTIFICATE") == 2


def test_an_issuing_ca_gets_its_successor_by_itself(site):
    assert profiles.DEVICE_ISSUER.lifetime == timedelta(days=365)
    site.tick(after=timedelta(days=250))
    assert "issuing CA" in site.log.getvalue()
    assert "Devices 2" in site.log.getvalue()


def test_what_is_wrong_with_one_file_keeps_nothing_else_from_being_renewed(tmp_path, ca, monkeypatch):
    """A further certificate of somebody else is broken; the built-in one and the trust in devices go on."""
    fake_engine.install(monkeypatch)
    further = ca.issue_server("further.example")
    (tmp_path / "c.pem").write_bytes(further.cert_pem)
    (tmp_path / "k.pem").write_bytes(further.key_pem)
    (tmp_path / "sealmq.toml").write_text('[[tls.also]]\ncertificate = "c.pem"\nkey = "k.pem"\n')
    log = io.StringIO()

    def read_settings():
        return load(tmp_path / "none", file=tmp_path / "sealmq.toml", overrides={"listen.https": "off"}, environ={})

    with Service(tmp_path / "data", read_settings, log_to=log) as service:
        (tmp_path / "k.pem").write_bytes(b"nothing")
        for _ in range(2):
            service._upkeep.tick(signing.utc_now())
        assert "holds no private key" in log.getvalue()
        before = service.material
        device_add(service.folder, service.authority, service.registry, id="sensor-1")
        service._rotate({"kind": "devices"})
        assert service.material.client_ca_pem.count(b"BEGIN CERTIFICATE") == 2
        service._rotate({"kind": "servers"})
        assert service.material.server != before.server
        assert service.material.also == before.also
