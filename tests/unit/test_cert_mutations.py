"""Certificates, lists and requests with some bytes changed: an answer or a refusal, never an error of ours.

Knows nothing of what is right about an answer, but for one thing: what was signed and then changed is not valid.
"""

import contextlib
import random
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certchains import HOST, LEAF, NOW, Plan, crl, key, make
from sealmq.errors import NotSo
from sealmq.pki import keys, requests
from sealmq.pki.inspect import inspect_files
from sealmq.pki.malformed import MALFORMED
from sealmq.pki.paths import Question, verify

ROUNDS = 1000


@pytest.fixture(scope="module")
def originals():
    constraints = x509.NameConstraints([x509.DNSName("example")], [x509.RFC822Name("x")])
    issuing = Plan("issuing", number=1, path_length=0, more=((constraints, True),))
    names = (x509.DNSName(HOST), x509.UniformResourceIdentifier("spiffe://a/b"), x509.RFC822Name("a@b"))
    made = make(LEAF.but(names=names), issuing, Plan("root", number=2))
    listed = crl(made.certificates[1], made.keys[1], 12345)
    return [one.public_bytes(Encoding.DER) for one in (*made.certificates, listed)]


def changed(dice, der):
    """`der` with one to three bytes replaced; more often by what means something in DER."""
    data = bytearray(der)
    for _ in range(dice.randint(1, 3)):
        data[dice.randrange(len(data))] = dice.choice([dice.randrange(256), data[dice.randrange(len(data))], 0, 0x30])
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_paths_through_changed_certificates(originals, seed):
    dice = random.Random(seed)  # noqa: S311 - the same bytes in every run
    judged = 0
    before = [_signed(x509.load_der_x509_certificate(der)) for der in originals[:2]]
    for _ in range(ROUNDS):
        which = dice.randrange(len(originals))
        ders = [changed(dice, der) if at == which else der for at, der in enumerate(originals)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                leaf, issuing, root = (x509.load_der_x509_certificate(der) for der in ders[:3])
                listed = x509.load_der_x509_crl(ders[3])
            except MALFORMED:
                continue
            judged += 1
            report = verify(leaf, Question(NOW, (root,), host=HOST, intermediates=(issuing,), crls=(listed,)))
        if _signed(leaf) != before[0] or _signed(issuing) != before[1]:
            assert not report.is_valid
        for path in report.paths:
            assert all(step.what for step in path.steps)
            assert all(step.mend and step.fault for step in path.failed)
    assert judged > ROUNDS / 4


def _signed(certificate):
    """What was signed, and the signature; what stands between them says the same in several spellings."""
    return certificate.tbs_certificate_bytes, certificate.signature


@pytest.mark.parametrize("seed", range(4))
def test_changed_files_are_shown(originals, seed, tmp_path):
    dice = random.Random(seed)  # noqa: S311
    path = tmp_path / "file"
    for _ in range(ROUNDS // 2):
        path.write_bytes(changed(dice, dice.choice(originals)))
        with contextlib.suppress(NotSo):  # nothing of it is recognised any more
            assert inspect_files([path], now=NOW)


@pytest.mark.parametrize("seed", range(4))
def test_requests_are_refused_when_what_was_signed_is_changed(seed):
    dice = random.Random(seed)  # noqa: S311
    asked = x509.load_pem_x509_csr(requests.build(key("p256"), subject=x509.Name([]), names=[x509.DNSName(HOST)]))
    der = asked.public_bytes(Encoding.DER)
    for _ in range(ROUNDS):
        data = changed(dice, der)
        with contextlib.suppress(NotSo):
            requests.accept(data)
            taken = requests.load(data)
            assert taken.tbs_certrequest_bytes == asked.tbs_certrequest_bytes
            assert taken.signature == asked.signature


def test_an_extension_that_stands_twice():
    twice = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), b"\x05\x00")
    made = make(LEAF.but(more=((twice, False), (other, False))), Plan("root", number=2))
    der = made.leaf.public_bytes(Encoding.DER)
    same = der.replace(bytes.fromhex("2b0601040186 8d1f02"), bytes.fromhex("2b0601040186 8d1f01"))
    assert same != der
    report = verify(x509.load_der_x509_certificate(same), Question(NOW, (made.root,)))
    assert "malformed" in {step.fault for step in report.best.failed}
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(twice, critical=False).add_extension(other, critical=False)
    asked = builder.sign(key("p256"), keys.digest_for(key("p256"))).public_bytes(Encoding.DER)
    with pytest.raises(NotSo) as caught:
        requests.accept(asked.replace(bytes.fromhex("868d1f02"), bytes.fromhex("868d1f01")))
    assert caught.value.code == "request-invalid"
