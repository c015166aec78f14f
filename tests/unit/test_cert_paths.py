"""Path validation by itself: each fault by its name, the search for paths, names and lists. Knows nothing of files."""

import subprocess
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509

from certchains import (
    ANY,
    CLIENT,
    HOST,
    LEAF,
    NOW,
    SERVER,
    UNKNOWN,
    Plan,
    crl,
    damaged,
    key,
    make,
    pem,
    sign,
    timedelta,
)
from sealmq.pki.keys import pkcs8_pem
from sealmq.pki.paths import Question, Verdict, build, verify
from sealmq.pki.profiles import Usage

DAY = timedelta(days=1)
ISSUING, ROOT = Plan("issuing", number=1), Plan("root", number=2)


def ask(made, *, host=HOST, purpose=Usage.SERVER, anchors=None, intermediates=None, crls=(), at=NOW):
    between = made.certificates[1:-1] if intermediates is None else intermediates
    return verify(
        made.leaf, Question(at, tuple(anchors or (made.root,)), purpose, host, tuple(between), crls=tuple(crls))
    )


def faults(report):
    return [(step.fault, step.position) for step in report.best.failed]


def limits(*, permitted=None, excluded=None):
    return {"more": ((x509.NameConstraints(permitted, excluded), True),)}


def test_a_good_chain_passes_every_step():
    report = ask(make(LEAF, ISSUING.but(path_length=0), ROOT.but(path_length=1)))
    assert report.is_valid
    assert report.best.anchored
    assert len(report.best.certificates) == 3
    assert {step.verdict for step in report.best.steps} == {Verdict.PASSED, Verdict.SKIPPED}
    assert {step.what for step in report.best.steps if step.verdict is Verdict.SKIPPED} == {
        "no revocation list was given",
        "it is trusted as it is",
    }


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        ((LEAF.but(end=-DAY), ISSUING, ROOT), ("certificate-expired", 0)),
        ((LEAF.but(begin=DAY), ISSUING, ROOT), ("certificate-not-yet-valid", 0)),
        ((LEAF, ISSUING.but(end=-DAY), ROOT), ("certificate-expired", 1)),
        ((LEAF, ISSUING, ROOT.but(end=-DAY)), ("certificate-expired", 2)),
        ((LEAF.but(key="rsa1024"), ISSUING, ROOT), ("weak-key", 0)),
        ((LEAF, ISSUING, ROOT.but(key="rsa1024")), ("weak-key", 2)),
        ((LEAF.but(ca=True), ISSUING, ROOT), ("ca-as-leaf", 0)),
        ((LEAF, ISSUING.but(ca=None), ROOT), ("not-a-ca", 1)),
        ((LEAF, ISSUING.but(ca=False), ROOT), ("not-a-ca", 1)),
        ((LEAF, ISSUING.but(usages=("crl_sign",)), ROOT), ("not-a-ca", 1)),
        ((LEAF, ISSUING, ROOT.but(path_length=0)), ("path-length", 2)),
        ((LEAF.but(usages=("key_agreement",)), ISSUING, ROOT), ("wrong-key-usage", 0)),
        ((LEAF.but(purposes=(CLIENT,)), ISSUING, ROOT), ("certificate-wrong-purpose", 0)),
        ((LEAF.but(purposes=(ANY,)), ISSUING, ROOT), ("certificate-wrong-purpose", 0)),
        ((LEAF, ISSUING.but(purposes=(CLIENT,)), ROOT), ("certificate-wrong-purpose", 1)),
        ((LEAF.but(more=((UNKNOWN, True),)), ISSUING, ROOT), ("unknown-critical-extension", 0)),
        ((LEAF, ISSUING, ROOT.but(more=((UNKNOWN, True),))), ("unknown-critical-extension", 2)),
        ((LEAF.but(authority=b"other"), ISSUING, ROOT), ("wrong-key-identifier", 0)),
        ((LEAF.but(names=(x509.DNSName("other.example"),)), ISSUING, ROOT), ("wrong-host", 0)),
        ((LEAF.but(names=(), common_name=HOST), ISSUING, ROOT), ("common-name-only", 0)),
        ((LEAF.but(names=(), common_name="other.example"), ISSUING, ROOT), ("wrong-host", 0)),
        ((LEAF, ISSUING, ROOT.but(**limits(excluded=[x509.DNSName("example")]))), ("name-constraint", 2)),
    ],
)
def test_one_fault_is_the_one_that_is_found(plans, expected):
    report = ask(make(*plans))
    assert faults(report) == [expected]
    (step,) = report.best.failed
    assert step.what
    assert step.mend
    assert not step.what.endswith(".")


def test_every_fault_is_told_not_only_the_first():
    report = ask(make(LEAF.but(end=-DAY, names=()), ISSUING.but(ca=False), ROOT))
    assert faults(report) == [("certificate-expired", 0), ("wrong-host", 0), ("not-a-ca", 1)]


def test_a_changed_signature_and_a_ca_of_the_same_name_are_told_apart():
    made = make(LEAF, ISSUING, ROOT)
    made.certificates[0] = damaged(made.leaf)
    assert faults(ask(made)) == [("certificate-bad-signature", 0)]
    other = make(ROOT.but(number=8)).root
    assert faults(ask(make(LEAF, ISSUING, ROOT), anchors=[other])) == [("untrusted-root", 1)]


def test_what_is_missing_is_named():
    made = make(LEAF, ISSUING, ROOT)
    report = ask(made, intermediates=())
    assert faults(report) == [("missing-intermediate", 0)]
    assert "CN=issuing" in report.best.failed[0].mend
    stranger = make(Plan("stranger", number=5)).root
    assert faults(ask(made, anchors=[stranger])) == [("missing-intermediate", 1)]
    assert faults(ask(made, anchors=[stranger], intermediates=made.certificates[1:])) == [("untrusted-root", 2)]
    alone = make(LEAF)
    assert faults(ask(alone, anchors=[stranger])) == [("self-signed", 0)]
    assert ask(alone).is_valid  # trusted by itself


def test_the_place_to_fetch_the_issuer_is_told():
    access = x509.AccessDescription(
        x509.oid.AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/i.der")
    )
    made = make(LEAF.but(more=((x509.AuthorityInformationAccess([access]), False),)), ISSUING, ROOT)
    assert "http://ca.example/i.der" in ask(made, intermediates=()).best.failed[0].mend


def test_an_issuing_ca_can_be_an_anchor():
    made = make(LEAF, ISSUING, ROOT)
    report = ask(made, anchors=[made.certificates[1]], intermediates=())
    assert report.is_valid
    assert len(report.best.certificates) == 2


def test_cross_signed_roots_are_alternatives_and_one_good_path_is_enough():
    made = make(LEAF, ISSUING, ROOT)
    old = make(Plan("old root", number=3, end=-DAY))
    bridge = sign(ROOT, made.root.subject, made.keys[2], old.root.subject, old.keys[0])
    both = ask(made, anchors=[old.root, made.root], intermediates=[made.certificates[1], bridge])
    assert both.is_valid
    assert [path.is_valid for path in both.paths] == [True, False]
    assert [step.fault for step in both.paths[1].failed] == ["certificate-expired"]
    old_only = ask(made, anchors=[old.root], intermediates=[made.certificates[1], bridge])
    assert faults(old_only) == [("certificate-expired", 3)]


def test_a_maze_of_cross_signed_cas_costs_a_bounded_number_of_signatures(monkeypatch):
    checked = []
    link = build.Link
    monkeypatch.setattr(build, "Link", lambda *pair: checked.append(pair) or link(*pair))
    plans = [Plan(f"ca {number}", number=number) for number in range(12)]
    names = [make(plan).root.subject for plan in plans]
    maze = [
        sign(one, names[low], key("p256", low), names[high], key("p256", high))
        for low, one in enumerate(plans)
        for high in range(12)
        if low != high
    ]
    leaf = sign(LEAF, make(LEAF).root.subject, key("p256", 20), names[0], key("p256", 0))
    question = Question(NOW, (make(Plan("nowhere", number=30)).root,), intermediates=tuple(maze))
    report = verify(leaf, question)
    assert not report.is_valid
    assert not report.is_complete
    assert len(checked) <= build.MOST_SIGNATURES
    assert all(len(path.certificates) <= build.LONGEST_PATH for path in report.paths)


def test_the_time_is_the_one_asked_about():
    made = make(LEAF, ISSUING, ROOT)
    assert faults(ask(made, at=NOW + 11 * DAY)) == [("certificate-expired", position) for position in range(3)]
    assert faults(ask(made, at=datetime(1970, 1, 1, tzinfo=UTC)))[0] == ("certificate-not-yet-valid", 0)
    assert ask(made, at=made.leaf.not_valid_after_utc).is_valid  # the last second is part of it (section 4.1.2.5)


@pytest.mark.parametrize(
    ("names", "host", "fits"),
    [
        ([x509.DNSName("Broker.Example")], "broker.example", True),
        ([x509.DNSName("*.example.org")], "a.example.org", True),
        ([x509.DNSName("*.example.org")], "a.b.example.org", False),
        ([x509.DNSName("*.example.org")], "example.org", False),
        ([x509.DNSName("*.org")], "example.org", False),
        ([x509.DNSName("a*.example.org")], "ab.example.org", False),
        ([x509.IPAddress(ip_address("192.0.2.7"))], ip_address("192.0.2.7"), True),
        ([x509.IPAddress(ip_address("2001:db8::1"))], ip_address("2001:db8:0::1"), True),
        ([x509.DNSName("192.0.2.7")], ip_address("192.0.2.7"), False),
        ([x509.UniformResourceIdentifier("https://broker.example")], "broker.example", False),
    ],
)
def test_names_and_hosts(names, host, fits):
    made = make(LEAF.but(names=tuple(names)), ISSUING, ROOT)
    report = ask(made, host=host)
    assert report.is_valid is fits
    assert fits or faults(report) == [("wrong-host", 0)]


IN_NET = x509.IPAddress(ip_network("192.0.2.0/24"))
SUBJECT = x509.Name.from_rfc4514_string("CN=leaf,O=Example")


@pytest.mark.parametrize(
    ("name", "constraint", "fits"),
    [
        (x509.DNSName("a.example"), x509.DNSName("example"), True),
        (x509.DNSName("example"), x509.DNSName("example"), True),
        (x509.DNSName("anexample"), x509.DNSName("example"), False),
        (x509.DNSName("example"), x509.DNSName(".example"), False),
        (x509.DNSName("anything.at.all"), x509.DNSName(""), True),
        (x509.IPAddress(ip_address("192.0.2.7")), IN_NET, True),
        (x509.IPAddress(ip_address("192.0.3.7")), IN_NET, False),
        (x509.IPAddress(ip_address("2001:db8::1")), IN_NET, False),
        (x509.UniformResourceIdentifier("spiffe://fleet/device/1"), x509.UniformResourceIdentifier("fleet"), True),
        (x509.UniformResourceIdentifier("spiffe://a.fleet/x"), x509.UniformResourceIdentifier("fleet"), False),
        (x509.UniformResourceIdentifier("spiffe://a.fleet/x"), x509.UniformResourceIdentifier(".fleet"), True),
        (x509.UniformResourceIdentifier("urn:dev:mac:1"), x509.UniformResourceIdentifier("fleet"), False),
        (x509.RFC822Name("me@example"), x509.RFC822Name("example"), True),
        (x509.RFC822Name("me@a.example"), x509.RFC822Name("example"), False),
        (x509.RFC822Name("me@a.example"), x509.RFC822Name(".example"), True),
        (x509.RFC822Name("me@example"), x509.RFC822Name("you@example"), False),
        (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), False),
    ],
)
def test_permitted_and_excluded_names(name, constraint, fits):
    can_be_judged = not isinstance(name, x509.RegisteredID)  # others are refused either way
    for kind, expected in (("permitted", fits), ("excluded", can_be_judged and not fits)):
        made = make(LEAF.but(names=(name,)), ISSUING.but(**limits(**{kind: [constraint]})), ROOT)
        assert ask(made, host=None).is_valid is expected, kind


def test_the_subject_counts_too_and_a_wildcard_may_stand_for_what_is_excluded():
    tree = x509.DirectoryName(x509.Name.from_rfc4514_string("O=example"))
    leaf = LEAF.but(names=(x509.DNSName("*.example.org"),))
    assert faults(ask(make(leaf, ISSUING.but(**limits(permitted=[tree])), ROOT), host=None)) == [("name-constraint", 1)]
    excluded = limits(excluded=[x509.DNSName("secret.example.org")])
    assert faults(ask(make(leaf, ISSUING.but(**excluded), ROOT), host=None)) == [("name-constraint", 1)]


def test_clients_say_who_they_are():
    client = LEAF.but(purposes=(CLIENT,), names=(), common_name=None)
    report = ask(make(client, ISSUING, ROOT), host=None, purpose=Usage.CLIENT)
    assert report.is_valid
    assert [step.verdict for step in report.best.steps if step.check == "name"] == [Verdict.NOTED]
    both = LEAF.but(purposes=(CLIENT, SERVER))
    assert ask(make(both, ISSUING, ROOT), host=None, purpose=Usage.CLIENT).is_valid


def status(report, position=0):
    (step,) = [step for step in report.best.steps if step.check == "revocation" and step.position == position]
    return step.verdict, step.what


def test_revocation_lists():
    made = make(LEAF, ISSUING, ROOT)
    issuing, signer = made.certificates[1], made.keys[1]
    serial = made.leaf.serial_number
    assert faults(ask(made, crls=[crl(issuing, signer, serial)])) == [("certificate-revoked", 0)]
    assert faults(ask(made, crls=[crl(made.root, made.keys[2], issuing.serial_number)])) == [("certificate-revoked", 1)]
    assert status(ask(made, crls=[crl(issuing, signer, 7)]))[0] is Verdict.PASSED
    stale = ask(made, crls=[crl(issuing, signer, due=-DAY)])
    assert stale.is_valid
    assert status(stale)[0] is Verdict.NOTED
    assert faults(ask(made, crls=[crl(issuing, signer, serial, due=-DAY)])) == [("certificate-revoked", 0)]
    assert status(ask(made, crls=[crl(made.root, made.keys[2])]))[0] is Verdict.SKIPPED


def test_lists_that_prove_nothing():
    made = make(LEAF, ISSUING, ROOT)
    issuing, serial = made.certificates[1], made.leaf.serial_number
    forged = ask(made, crls=[crl(issuing, key("p256", 40), serial)])
    assert status(forged) == (Verdict.NOTED, "the list of its issuer cannot be used: another key signed it")
    assert forged.is_valid
    part = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    partly = ask(made, crls=[crl(issuing, made.keys[1], serial, more=((part, True),))])
    assert "only a part" in status(partly)[1]
    mute = make(LEAF, ISSUING.but(usages=("key_cert_sign",)), ROOT)
    assert "cRLSign" in status(ask(mute, crls=[crl(mute.certificates[1], mute.keys[1])]))[1]


def test_sha1_signatures(tmp_path):
    (tmp_path / "ca.key").write_bytes(pkcs8_pem(key("rsa2048", 50)))
    root = make(ROOT.but(key="rsa2048", number=50)).root
    (tmp_path / "ca.pem").write_bytes(pem(root))
    asked = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "k", "-subj", "/CN=old"]
    subprocess.run([*asked, "-out", tmp_path / "csr"], check=True, capture_output=True)
    signed = ["openssl", "x509", "-req", "-in", tmp_path / "csr", "-sha1", "-CA", tmp_path / "ca.pem", "-CAkey"]
    done = subprocess.run([*signed, tmp_path / "ca.key", "-days", "3"], check=True, capture_output=True)
    report = verify(x509.load_pem_x509_certificate(done.stdout), Question(NOW, (root,)))
    assert "weak-signature" in {step.fault for step in report.best.failed}


def test_a_malformed_certificate_is_an_answer_not_an_error():
    made = make(LEAF.but(more=((x509.UnrecognizedExtension(x509.TLSFeature.oid, b"junk"), False),)), ISSUING, ROOT)
    assert faults(ask(made))[0] == ("malformed", 0)
