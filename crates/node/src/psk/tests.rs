use super::*;
use crate::client::TlsVersions;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Name};

fn keys(entries: &[(&str, &str)]) -> Result<PreSharedKeys, TlsFault> {
    let entries: Vec<PskConfig> = entries
        .iter()
        .map(|&(device, key)| PskConfig {
            device: device.to_owned(),
            identity: String::new(),
            key: key.to_owned(),
        })
        .collect();
    PreSharedKeys::new(&entries, &Arc::new(Decoys::new()?), &Arc::default())
}

/// The end of both sides: the client's fault or its facts, then the server's.
type Met = (Result<(), PskFault>, Result<(), PskFault>);

/// Let both sides talk until neither has anything to say.
fn meet(client: &mut PskChannel, server: &mut PskChannel) -> Met {
    let (mut to_server, mut to_client, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ours, mut theirs) = (Ok(()), Ok(()));
    if let Err(fault) = client.decrypt(&[], &mut plain, &mut to_server) {
        ours = Err(fault);
    }
    while !to_server.is_empty() || !to_client.is_empty() {
        let bytes = std::mem::take(&mut to_server);
        if theirs.is_ok() {
            theirs = server.decrypt(&bytes, &mut plain, &mut to_client).map(drop);
        }
        let bytes = std::mem::take(&mut to_client);
        if ours.is_ok() {
            ours = client.decrypt(&bytes, &mut plain, &mut to_server).map(drop);
        }
    }
    (ours, theirs)
}

fn offer(versions: TlsVersions) -> PskOffer<'static> {
    PskOffer {
        server_name: "broker.example",
        versions,
        suites: None,
        alpn: &["mqtt"],
        logging: KeyLogging::Off,
    }
}

fn identity(line: &str) -> Result<PskIdentity, serde_json::Error> {
    let (identity, key) = line.split_once(':').unwrap();
    serde_json::from_str(&serde_json::json!({"identity": identity, "key": key}).to_string())
}

fn client(line: &str, versions: TlsVersions) -> PskChannel {
    identity(line).unwrap().connect(&offer(versions)).unwrap()
}

fn call(keys: &PreSharedKeys, line: &str) -> (PskChannel, PskChannel, Met) {
    let mut client = client(line, TlsVersions::Both);
    let offered = ClientHello {
        psk_identities: 1,
        ..ClientHello::default()
    };
    let mut server = keys.accept(&offered, KeyLogging::Off).unwrap();
    let met = meet(&mut client, &mut server);
    (client, server, met)
}

fn key(digit: &str) -> String {
    digit.repeat(64)
}

#[test]
fn both_sides_prove_the_key_and_speak() {
    let keys = keys(&[("a", &key("1")), ("b", &key("2"))]).unwrap();
    let (mut client, mut server, met) = call(&keys, &format!("b:{}", key("2")));
    assert_eq!(met, (Ok(()), Ok(())));
    assert_eq!((server.device().map(AsRef::as_ref), client.device()), (Some("b"), None));
    assert_eq!(
        (server.version(), server.cipher(), server.group()),
        ("TLS 1.3", "TLS_AES_128_GCM_SHA256", "secp256r1")
    );
    let (mut sealed, mut plain, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    client.encrypt(&[7; 40_000], 512, &mut sealed).unwrap();
    assert_eq!(server.decrypt(&sealed, &mut plain, &mut answer), Ok(None));
    assert_eq!((plain, answer), (vec![7; 40_000], vec![]));
    let mut goodbye = Vec::new();
    client.close(&mut goodbye);
    assert_eq!(
        server.decrypt(&goodbye, &mut Vec::new(), &mut Vec::new()),
        Ok(Some(crate::link::Ended::Cleanly))
    );
}

#[test]
fn a_wrong_key_and_an_unknown_identity_differ_in_the_record_alone() {
    let keys = keys(&[("a", &key("1"))]).unwrap();
    for (line, claimant) in [
        (format!("a:{}", key("2")), Claimant::Known("a".into())),
        (format!("b:{}", key("1")), Claimant::Unknown),
    ] {
        let (_, server, (ours, theirs)) = call(&keys, &line);
        assert_eq!(ours, Err(PskFault::Alert(47)), "{line}");
        let claim = Claim {
            identity: line.get(..1).unwrap().to_owned(),
            claimant,
        };
        assert_eq!(theirs, Err(PskFault::DifferentKeys(claim)));
        assert_eq!(server.device(), None);
    }
}

#[test]
fn the_key_of_nobody_is_always_the_same() {
    let (decoys, others) = (Decoys::new().unwrap(), Decoys::new().unwrap());
    assert_eq!(decoys.key(b"x").as_ref(), decoys.key(b"x").as_ref());
    assert_ne!(decoys.key(b"x").as_ref(), decoys.key(b"y").as_ref());
    assert_ne!(decoys.key(b"x").as_ref(), others.key(b"x").as_ref());
}

#[test]
fn a_key_of_another_shape_is_an_error_that_does_not_show_it() {
    for bad in [
        "",
        "11",
        &"1".repeat(30),
        &"1".repeat(33),
        &"g".repeat(64),
        &"1".repeat(130),
    ] {
        let fault = keys(&[("a", bad)]).err().unwrap();
        assert_eq!(fault.code, "psk-invalid");
        assert!(
            bad.is_empty() || !fault.what.contains(bad) || bad == "11",
            "{}",
            fault.what
        );
    }
    for bad in ["", "a/b", "a\0", "user"] {
        assert_eq!(keys(&[(bad, &key("1"))]).err().unwrap().code, "psk-invalid");
    }
    let twice = keys(&[("a", &key("1")), ("a", &key("2"))]).err().unwrap();
    assert!(twice.what.ends_with("stands there twice"));
    assert!(!format!("{:?}", identity(&format!("a:{}", key("1")))).contains("11"));
    for bad in ["a:", "a:11", &format!("a:{}g", key("1"))] {
        assert!(!identity(bad).unwrap_err().to_string().contains("11"), "{bad:?}");
    }
    for bad in ["", "a\0b", &"a".repeat(129)] {
        let made = identity(&format!("{bad}:{}", key("1"))).unwrap();
        assert_eq!(
            made.connect(&offer(TlsVersions::Both)).err().unwrap().code,
            "psk-invalid"
        );
    }
}

/// A server of the library that is not ours, with nothing but what `set_up` gives it.
fn stranger(set_up: impl FnOnce(&mut SslContextBuilder)) -> PskChannel {
    let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
    set_up(&mut builder);
    let mut ssl = Ssl::new(&builder.build()).unwrap();
    ssl.set_accept_state();
    PskChannel::new(ssl).unwrap()
}

#[test]
fn a_server_that_shows_a_certificate_is_refused() {
    let key_pair =
        PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap());
    let key_pair = key_pair.unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "broker.example").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key_pair).unwrap();
    certificate
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.sign(&key_pair, MessageDigest::sha256()).unwrap();
    let certificate = certificate.build();
    let mut server = stranger(|builder| {
        builder.set_certificate(&certificate).unwrap();
        builder.set_private_key(&key_pair).unwrap();
    });
    let (ours, _) = meet(&mut client(&format!("a:{}", key("1")), TlsVersions::Both), &mut server);
    assert_eq!(ours, Err(PskFault::Certificate));
}

#[test]
fn a_server_with_another_key_gets_nowhere_and_hears_nothing() {
    for (versions, told) in [(TlsVersions::Tls12, [20, 51]), (TlsVersions::Tls13, [47, 47])] {
        let mut server = stranger(|builder| {
            builder.set_cipher_list(policy::TLS12).unwrap();
            builder.set_ciphersuites(policy::TLS13).unwrap();
            builder.set_psk_server_callback(|_, _, key| {
                key[..32].fill(7);
                Ok(32)
            });
        });
        let mut client = client(&format!("a:{}", key("1")), versions);
        let (ours, _) = meet(&mut client, &mut server);
        let Err(PskFault::Alert(number)) = ours else {
            panic!("{ours:?}")
        };
        assert!(told.contains(&number), "{number}");
        assert!(client.is_handshaking());
    }
}

#[test]
fn each_version_by_itself() {
    let keys = keys(&[("a", &key("1"))]).unwrap();
    for (versions, version) in [(TlsVersions::Tls12, "TLS 1.2"), (TlsVersions::Tls13, "TLS 1.3")] {
        let mut client = client(&format!("a:{}", key("1")), versions);
        let offered = ClientHello {
            psk_identities: usize::from(versions == TlsVersions::Tls13),
            ..ClientHello::default()
        };
        let mut server = keys.accept(&offered, KeyLogging::Off).unwrap();
        assert_eq!(meet(&mut client, &mut server), (Ok(()), Ok(())));
        assert_eq!((client.version(), client.alpn().as_deref()), (version, Some("mqtt")));
    }
}

#[test]
fn a_device_has_two_keys_while_one_is_replaced() {
    let entry = |identity: &str, digit: &str| PskConfig {
        device: "a".into(),
        identity: identity.into(),
        key: key(digit),
    };
    let decoys = Arc::new(Decoys::new().unwrap());
    let both = [entry("", "1"), entry("a~2", "2")];
    let keys = PreSharedKeys::new(&both, &decoys, &Arc::default()).unwrap();
    assert!(keys.knows("a") && !keys.knows("a~2"));
    for (line, identity) in [(format!("a:{}", key("1")), "a"), (format!("a~2:{}", key("2")), "a~2")] {
        let (_, server, met) = call(&keys, &line);
        assert_eq!(met, (Ok(()), Ok(())));
        assert_eq!(
            (server.device().map(AsRef::as_ref), server.identity()),
            (Some("a"), Some(identity))
        );
    }
    let (_, _, (ours, _)) = call(&keys, &format!("a~2:{}", key("1")));
    assert_eq!(ours, Err(PskFault::Alert(47)));
    for bad in [entry("a\0", "1"), entry(&"a".repeat(129), "1"), entry("a", "3")] {
        let fault = PreSharedKeys::new(&[entry("", "1"), bad], &decoys, &Arc::default())
            .err()
            .unwrap();
        assert_eq!(fault.code, "psk-invalid");
    }
}
