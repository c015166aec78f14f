"""Our path validation beside three others, over some hundred chains with faults: agreement, or a difference that stands
in the tables below with its reason.

Knows nothing of how a verdict is reached.
"""

import random
import subprocess
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.x509 import verification

from certchains import ANY, CLIENT, HOST, LEAF, NOW, UNKNOWN, Plan, crl, damaged, make, pem, timedelta
from sealmq.pki.paths import Question, verify
from sealmq.pki.profiles import Usage

DAY = timedelta(days=1)
SEEDS = range(20)
CHAINS_PER_SEED = 30

# What we refuse and they let pass.
STRICTER = {
    "openssl": {
        "ca-as-leaf": "openssl verify asks whether a leaf could be a server, not whether it is a leaf",
        "common-name-only": "without a DNS name it goes back to the common name (RFC 6125; RFC 9525 forbids it)",
        "wrong-key-usage": "keyAgreement and keyEncipherment are enough for handshakes that we do not speak",
        "not-a-ca": "a self-signed root without basicConstraints passes for one of version 1",
        "certificate-revoked": "lists are looked at with -crl_check alone, and then each must be there",
    },
    "gnutls": {
        "ca-as-leaf": "as openssl",
        "common-name-only": "as openssl",
        "wrong-key-usage": "certtool does not look at the key usage of a leaf",
        "not-a-ca": "as openssl",
        "weak-key": "certtool verifies at its profile `low`",
        "certificate-wrong-purpose": "any is every purpose, and an anchor may list what it likes",
        "wrong-host": "names in a certificate for clients are not looked at",
    },
    "pyca": {
        "wrong-key-usage": "only that a leaf may not sign certificates",
        "weak-key": "the key of the leaf is the business of the handshake",
        "wrong-host": "a wildcard right below the last label counts",
        "certificate-wrong-purpose": "a CA that lists any may issue for all",
        "wrong-key-identifier": "identifiers are not compared",
    },
}
# What we let pass and they refuse, by what was done to the chain.
LAXER = {
    "openssl": {},
    "gnutls": {},
    "pyca": {
        "no-usage": "a CA must have a key usage (the Baseline Requirements, not RFC 5280)",
        "edwards-ca": "no Edwards keys for CAs, also by the Baseline Requirements",
        "leaf-common-name": "the subject alternative name must be there, for clients too",
    },
}


def leaf(**changes):
    return lambda plan: plan.but(**changes)


def constrained(*, permitted=None, excluded=None, critical=True):
    return leaf(more=((x509.NameConstraints(permitted, excluded), critical),))


ON_LEAF = {
    "expired": leaf(end=-DAY),
    "future": leaf(begin=DAY),
    "purpose-other": lambda plan: plan.but(purposes=(CLIENT,) if CLIENT not in plan.purposes else LEAF.purposes),
    "purpose-any": leaf(purposes=(ANY,)),
    "no-purpose": leaf(purposes=()),
    "usage-agreement": leaf(usages=("key_encipherment", "key_agreement")),
    "no-usage-of-leaf": leaf(usages=None),
    "ca": leaf(ca=True, usages=("digital_signature", "key_cert_sign")),
    "no-constraints": leaf(ca=None),
    "other-host": leaf(names=(x509.DNSName("other.example"),)),
    "wildcard": leaf(names=(x509.DNSName("*.example"),)),
    "common-name": leaf(common_name=HOST, names=()),
    "nameless-subject": leaf(common_name=None),
    "weak": leaf(key="rsa1024"),
    "rsa": leaf(key="rsa2048"),
    "ed25519": leaf(key="ed25519"),
    "critical": leaf(more=((UNKNOWN, True),)),
    "identifier": leaf(authority=b"x" * 20),
}
ON_CA = {
    "expired": leaf(end=-DAY),
    "future": leaf(begin=DAY),
    "no-constraints": leaf(ca=None),
    "no-ca": leaf(ca=False),
    "cannot-sign": leaf(usages=("digital_signature",)),
    "no-usage": leaf(usages=None),
    "length-0": leaf(path_length=0),
    "length-1": leaf(path_length=1),
    "purpose-client": leaf(purposes=(CLIENT,)),
    "purpose-server": leaf(purposes=LEAF.purposes),
    "purpose-any": leaf(purposes=(ANY,)),
    "critical": leaf(more=((UNKNOWN, True),)),
    "uncritical": leaf(more=((UNKNOWN, False),)),
    "permits-it": constrained(permitted=[x509.DNSName("example")]),
    "permits-others": constrained(permitted=[x509.DNSName("elsewhere.example")]),
    "excludes-it": constrained(excluded=[x509.DNSName(HOST)], critical=False),
    "excludes-others": constrained(excluded=[x509.DNSName("elsewhere.example")]),
    "permits-addresses": constrained(permitted=[x509.IPAddress(ip_network("10.0.0.0/8"))]),
    "weak": leaf(key="rsa1024"),
    "rsa": leaf(key="rsa2048"),
    "p384": leaf(key="p384"),
    "edwards-ca": leaf(key="ed25519"),
    "identifier": leaf(authority=b"x" * 20),
}
ON_CHAIN = ("missing", "other-root", "damaged", "self-signed", "partial", "extra")


def chain(dice):
    """A chain with up to two things done to it: what was done, the leaf, intermediates, anchors, the purpose."""
    depth = dice.randint(1, 3)
    purpose = dice.choice([Usage.SERVER, Usage.SERVER, Usage.CLIENT])
    plans = [LEAF if purpose is Usage.SERVER else LEAF.but(purposes=(CLIENT,), names=(x509.DNSName("me.example"),))]
    plans += [Plan(f"ca {number}", number=number) for number in range(1, depth + 1)]
    done = []
    for _ in range(dice.choice([0, 1, 1, 1, 2, 2])):
        where = dice.choice(["leaf", "leaf", "ca", "ca", "ca", "chain"])
        if where == "leaf":
            what = dice.choice(sorted(ON_LEAF))
            plans[0] = ON_LEAF[what](plans[0])
            done.append(f"leaf-{what}")
        elif where == "ca":
            what, at = dice.choice(sorted(ON_CA)), dice.randint(1, depth)
            plans[at] = ON_CA[what](plans[at])
            done.append(what)
        else:
            done.append(dice.choice(ON_CHAIN))
    made = make(*plans).certificates
    leaf_made, between, anchors = made[0], made[1:-1], [made[-1]]
    if "missing" in done:
        between = []
    if "other-root" in done:
        anchors = [make(plans[-1].but(number=77)).root]
    if "damaged" in done:
        leaf_made = damaged(leaf_made)
    if "self-signed" in done:
        leaf_made = make(plans[0]).root
    if "partial" in done and between:
        between, anchors = between[:-1], [between[-1]]
    if "extra" in done:  # order must not matter, nor certificates of others
        between = [make(Plan("stranger", number=9)).root, *reversed(between)]
    return done, leaf_made, between, anchors, purpose


def by_openssl(folder, purpose, *more):
    side = ["-purpose", "sslserver", "-verify_hostname", HOST] if purpose is Usage.SERVER else ["-purpose", "sslclient"]
    files = ["-CAfile", folder / "anchors.pem", "-untrusted", folder / "between.pem"]
    command = ["openssl", "verify", "-partial_chain", "-auth_level", "2", "-no-CApath", *side, *files, *more]
    done = subprocess.run([*command, folder / "leaf.pem"], capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def by_gnutls(folder, purpose):
    side = ["1.3.6.1.5.5.7.3.1", "--verify-hostname", HOST] if purpose is Usage.SERVER else ["1.3.6.1.5.5.7.3.2"]
    files = ["--load-ca-certificate", folder / "anchors.pem", "--infile", folder / "chain.pem"]
    done = subprocess.run(["certtool", "--verify", *files, "--verify-purpose", *side], capture_output=True, text=True)
    return done.returncode == 0, done.stdout


def by_pyca(leaf_made, between, anchors, purpose):
    policy = verification.PolicyBuilder().store(verification.Store(anchors)).time(NOW)
    verifier = (
        policy.build_server_verifier(x509.DNSName(HOST)) if purpose is Usage.SERVER else policy.build_client_verifier()
    )
    try:
        verifier.verify(leaf_made, between)
    except (verification.VerificationError, ValueError) as error:
        return False, str(error)
    return True, ""


@pytest.mark.parametrize("seed", SEEDS)
def test_every_difference_has_a_reason(seed, tmp_path):
    dice = random.Random(seed)  # noqa: S311 - the same chains in every run
    for number in range(CHAINS_PER_SEED):
        done, made, between, anchors, purpose = chain(dice)
        (tmp_path / "anchors.pem").write_bytes(pem(*anchors))
        (tmp_path / "between.pem").write_bytes(pem(*between) or pem(made))
        (tmp_path / "leaf.pem").write_bytes(pem(made))
        (tmp_path / "chain.pem").write_bytes(pem(made, *between))
        host = HOST if purpose is Usage.SERVER else None
        ours = verify(made, Question(NOW, tuple(anchors), purpose, host, tuple(between)))
        faults = {step.fault for step in ours.best.failed}
        theirs = {
            "openssl": by_openssl(tmp_path, purpose),
            "gnutls": by_gnutls(tmp_path, purpose),
            "pyca": by_pyca(made, between, anchors, purpose),
        }
        for who, (accepts, words) in theirs.items():
            place = f"chain {number} of seed {seed} ({', '.join(done) or 'nothing done'}), {purpose.value}, {who}"
            if accepts and not ours.is_valid:
                assert faults <= set(STRICTER[who]), f"{place} accepts it, we refuse it for {faults}"
            elif ours.is_valid and not accepts:
                assert set(done) & set(LAXER[who]), f"{place} refuses it, we accept it: {words}"


def test_the_chains_are_of_every_kind():
    """Otherwise the test above would prove little: good and bad ones, and most faults at least once."""
    verdicts, faults = [], set()
    for seed in SEEDS:
        dice = random.Random(seed)  # noqa: S311 - the same chains in every run
        for _ in range(CHAINS_PER_SEED):
            _, made, between, anchors, purpose = chain(dice)
            host = HOST if purpose is Usage.SERVER else None
            ours = verify(made, Question(NOW, tuple(anchors), purpose, host, tuple(between)))
            verdicts.append(ours.is_valid)
            faults |= {step.fault for step in ours.best.failed}
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.6
    assert len(faults) >= 16


@pytest.mark.parametrize("listed", [True, False])
def test_revocation_beside_openssl(listed, tmp_path):
    made = make(LEAF, Plan("issuing", number=1), Plan("root", number=2))
    serials = [made.leaf.serial_number] if listed else [12345]
    lists = crl(made.certificates[1], made.keys[1], *serials), crl(made.root, made.keys[2])
    (tmp_path / "anchors.pem").write_bytes(pem(made.root))
    (tmp_path / "between.pem").write_bytes(pem(made.certificates[1]))
    (tmp_path / "leaf.pem").write_bytes(pem(made.leaf))
    (tmp_path / "crl.pem").write_bytes(pem(*lists))
    question = Question(NOW, (made.root,), host=HOST, intermediates=tuple(made.certificates[1:]), crls=lists)
    theirs, words = by_openssl(tmp_path, Usage.SERVER, "-crl_check_all", "-CRLfile", tmp_path / "crl.pem")
    assert verify(made.leaf, question).is_valid is theirs is (not listed), words
