use super::*;

// Captured on loopback from OpenSSL 3.0 s_client, GnuTLS 3.7 gnutls-cli, curl 7.88 and Python 3.11.
pub(super) const OPENSSL_13: &str = "16030100fb010000f703033cce20f52b66bf7d1fe84319453e5f431138d8388e5473ad3b89fca9521adb77209d83fe63668b64d31ae47e1822ec54184adb0633f0744f95a373d73f54db01c8000813021303130100ff010000a600000010000e00000b62726f6b65722e74657374000b000403000102000a00160014001d0017001e001900180100010101020103010400230000001000070005046d7174740016000000170000000d001e001c040305030603080708080809080a080b080408050806040105010601002b0003020304002d00020101003300260024001d00209201d8ba7b02d099a5194cc2d224182261b4d49672f9dc34de4d462d4e75a96c";
pub(super) const OPENSSL_12: &str = "16030100bc010000b80303df2fad96d367c576c430a3712d1b63ced01957ea88f9882fcba850110730c06c000038c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000570001000101000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602";
pub(super) const OPENSSL_11: &str = "16030100630100005f0302fae501673b58cc310e49b4795d0b119e773c11ddc45e0597140bb444b880c79c000012c00ac0140039c009c01300330035002f00ff01000024000b000403000102000a000c000a001d0017001e00190018002300000016000000170000";
pub(super) const OPENSSL_PSK: &str = "16030101130100010f030325dcc5030beb1c7f2fcf811e2d50ad6122554845daaa94ff06059563a81f16a9200ee22bc58ceca951d9d46b138a11b4d36cfe5efbc1549ac9a0afcf5b13573a7a000813021303130100ff010000be000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016000000170000000d001e001c040305030603080708080809080a080b080408050806040105010601002b0003020304002d00020101003300260024001d002087689eba1cc63180fae0f39d7a42446b18601daafc84368a7009cca62d96695c00290033000e000873656e736f722d390000000000212072c7fdbd120d9de61c45ffaa0047f8426145878ae6a1bd5263284b0568f779d2";
pub(super) const OPENSSL_PSK12: &str = "16030100e1010000dd03030ca7936d04433c037f5d6b4bb575df230423496dfdb7a50b41e7bc17d624958f00006200ad00abccaeccadccacc0abc0a7c06fc06d00a9ccabc0a9c0a5c06b00ac00aac0aac0a6c06ec06c00a8c0a8c0a4c06ac038c03600b700b300950091c09bc099c09700af008dc095c037c03500b600b200940090c09ac098c09600ae008cc09400ff01000052000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602";
pub(super) const GNUTLS: &str = "16030101800100017c0303cec89d861261c8913403c509fc36c775127c2ab3825f2d50028fb0ea0f90c5ae20f4f4d882020c982f6bc49a29cd168ba0f5e4fa4b77cd6c35650a9470f2961720003a1302130313011304c02ccca9c0adc00ac02bc0acc009c030cca8c014c02fc013009dc09d0035009cc09c002f009fccaac09f0039009ec09e0033010000f9000500050100000000000a00160014001700180019001d001e01000101010201030104000b00020100000d00220020040108090804040308070501080a0805050308080601080b0806060302010203001000070005046d7174740016000000170000002300000033006b00690017004104d073cf718540adaf4e7e8901614514ea41b9f595d648ecbd20e381379a55e849790befd1af4c630314ac3f9a2ff7c7d7cb13ff40682fae453defa125dd490ba1001d00204c8e3ec33eab2e525f180e52d46508178f8c684e881386d6dee241899aa1b812002b0009080304030303020301ff01000100002d0003020100001c000202010001000101";
pub(super) const CURL: &str = "1603010200010001fc0303619452f170b61fce5e9c3a6be86068126ccfdb9344d541f0f1aca13e2eb4ca8a20eaaed9783690a7e77a7ac3d32f11587b3962decdc12f505ddf96f5b99f8cbcc4003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff0100017500000010000e00000b62726f6b65722e74657374000b000403000102000a00160014001d0017001e00190018010001010102010301040010000e000c02683208687474702f312e31001600000017000000310000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009080304030303020301002d00020101003300260024001d00207ca72190822ca4d141cab311146c631b48b092dcd47e922f2787f9c9c49d9b01001500b200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
pub(super) const PYTHON: &str = "1603010200010001fc03030e7d3ee7b49182985da5f06532356097391f24904fa336f8dd83dd380e8a288620f4d16de97af3b105c14fafa70009b008cf09d124b5f922e7aef56cd3eb6019d80024130213031301c02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100018f00000010000e00000b62726f6b65722e74657374000b000403000102000a00160014001d0017001e001900180100010101020103010400230000001000070005046d7174740016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b00050403040303002d00020101003300260024001d00200438db9ece7721bebfde9ca81e4a39b7a59fb171c48e9a2273de0ac12a1f6229001500d70000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
pub(super) const CAPTURES: [&str; 8] = [
    OPENSSL_13,
    OPENSSL_12,
    OPENSSL_11,
    OPENSSL_PSK,
    OPENSSL_PSK12,
    GNUTLS,
    CURL,
    PYTHON,
];

pub(super) const POLICY: Policy<'static> = Policy {
    tls13_suites: &[0x1302, 0x1301, 0x1303],
    tls12_suites: &[0xc02c, 0xc02b, 0xcca9],
    groups: &[0x11ec, 29, 23],
    signature_algorithms: &[0x0403],
    alpn: &[b"mqtt"],
};

pub(super) fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub(super) fn look(bytes: &[u8]) -> Sniff {
    sniff(bytes, HelloLimits::default())
}

pub(super) fn hello(bytes: &[u8]) -> ClientHello {
    match look(bytes) {
        Sniff::Hello(hello) => *hello,
        other => panic!("no ClientHello: {other:?}"),
    }
}

pub(super) fn ids(ids: &[u16]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_be_bytes()).collect()
}

pub(super) fn sized(width: usize, body: &[u8]) -> Vec<u8> {
    [&body.len().to_be_bytes()[8 - width..], body].concat()
}

/// A ClientHello message with these extensions.
pub(super) fn message(version: u16, suites: &[u16], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(id, data)| [ids(&[*id]), sized(2, data)].concat())
        .collect();
    let body = [
        ids(&[version]),
        vec![7; 32],
        vec![0],
        sized(2, &ids(suites)),
        vec![1, 0],
        sized(2, &extensions),
    ]
    .concat();
    [vec![1], sized(3, &body)].concat()
}

/// The message in handshake records of at most `cut` bytes.
pub(super) fn records(message: &[u8], cut: usize) -> Vec<u8> {
    message
        .chunks(cut)
        .flat_map(|part| [vec![22, 3, 1], sized(2, part)].concat())
        .collect()
}

pub(super) fn modern(extensions: &[(u16, Vec<u8>)]) -> ClientHello {
    let base = [
        (43, sized(1, &ids(&[0x2a2a, 0x0304, 0x0303]))),
        (10, sized(2, &ids(&[0x4a4a, 29]))),
        (13, sized(2, &ids(&[0x0403]))),
    ];
    let all: Vec<_> = base
        .into_iter()
        .filter(|(id, _)| extensions.iter().all(|e| e.0 != *id))
        .chain(extensions.iter().cloned())
        .collect();
    hello(&records(
        &message(0x0303, &[0x0a0a, 0x1301, 0xc02b, 0x00ff], &all),
        16_384,
    ))
}

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap()
    }
}

#[test]
fn every_truncation_needs_more_and_what_follows_is_left_alone() {
    for capture in CAPTURES {
        let bytes = unhex(capture);
        let whole = hello(&bytes);
        assert_eq!((whole.wire_bytes, whole.records), (bytes.len(), 1));
        for end in 0..bytes.len() {
            assert_eq!(look(&bytes[..end]), Sniff::NeedMore, "{end} of {}", bytes.len());
        }
        assert_eq!(hello(&[bytes.as_slice(), &[0x17; 40_000]].concat()), whole);
    }
}

#[test]
fn fragments_are_put_together_whatever_their_size() {
    for capture in CAPTURES {
        let bytes = unhex(capture);
        let whole = hello(&bytes);
        for cut in [1, 2, 3, 4, 5, 50, 100] {
            let split = records(&bytes[5..], cut);
            let count = (bytes.len() - 5).div_ceil(cut);
            for end in 0..split.len() {
                assert_eq!(look(&split[..end]), Sniff::NeedMore);
            }
            assert_eq!(
                hello(&split),
                ClientHello {
                    records: count,
                    wire_bytes: split.len(),
                    ..whole.clone()
                }
            );
        }
    }
}

#[test]
fn captures_say_what_the_clients_were_told_to_offer() {
    let seen = hello(&unhex(OPENSSL_13));
    assert_eq!(
        (seen.legacy_version, seen.highest_version()),
        (0x0303, Some(TlsVersion::Tls13))
    );
    assert_eq!(seen.server_name.as_deref(), Some("broker.test"));
    assert_eq!(
        (seen.alpn_text(), seen.key_share_groups.clone()),
        (vec!["mqtt".to_string()], vec![29])
    );
    assert_eq!(seen.cipher_suites, [0x1302, 0x1303, 0x1301, 0x00ff]);
    assert_eq!(
        (seen.groups.first(), seen.session_id_len, seen.session_ticket_len),
        (Some(&29), 32, Some(0))
    );
    assert!(seen.signature_algorithms.contains(&0x0403));

    let seen = hello(&unhex(OPENSSL_12));
    assert_eq!(
        (seen.versions.clone(), seen.max_fragment_length),
        (vec![0x0303], Some(512))
    );
    assert_eq!(
        (seen.server_name.clone(), seen.psk_identities, seen.alpn.len()),
        (None, 0, 0)
    );

    let seen = hello(&unhex(OPENSSL_11));
    assert_eq!(
        (seen.versions.clone(), seen.highest_version()),
        (vec![0x0302], Some(TlsVersion::Tls11))
    );

    assert_eq!(hello(&unhex(OPENSSL_PSK)).psk_identities, 1);
    assert!(
        named(&hello(&unhex(OPENSSL_PSK12)).cipher_suites, cipher_name)
            .iter()
            .any(|n| n == "TLS_PSK_WITH_AES_128_GCM_SHA256")
    );
    assert_eq!(hello(&unhex(PYTHON)).server_name.as_deref(), Some("broker.test"));
    assert_eq!(hello(&unhex(CURL)).alpn_text(), ["h2", "http/1.1"]);
    assert_eq!(hello(&unhex(GNUTLS)).record_size_limit, Some(513));
}

#[test]
fn every_number_in_the_captures_has_a_name() {
    for capture in CAPTURES {
        let seen = hello(&unhex(capture));
        let unnamed = [
            named(&seen.cipher_suites, cipher_name),
            named(&seen.groups, group_name),
            named(&seen.signature_algorithms, sigalg_name),
            named(&seen.versions, version_name),
        ];
        assert!(
            unnamed.iter().flatten().all(|name| !name.starts_with("0x")),
            "{unnamed:?}"
        );
    }
    assert!((0..=u16::MAX).filter_map(cipher_name).count() >= 60);
    assert_eq!(named(&[0x0a0a], cipher_name), ["0x0a0a"]);
}

#[test]
fn verdicts_follow_the_policy() {
    assert_eq!(hello(&unhex(OPENSSL_13)).judge(&POLICY), Verdict::Acceptable);
    assert_eq!(hello(&unhex(OPENSSL_12)).judge(&POLICY), Verdict::Acceptable);
    assert_eq!(hello(&unhex(PYTHON)).judge(&POLICY), Verdict::Acceptable);
    assert_eq!(hello(&unhex(GNUTLS)).judge(&POLICY), Verdict::Acceptable);
    let old = hello(&unhex(OPENSSL_11)).judge(&POLICY);
    assert_eq!(old, Verdict::VersionTooOld { offered: vec![0x0302] });
    assert_eq!((old.slug(), old.alert()), ("tls-version-too-old", Some(70)));
    assert_eq!(
        old.sentence(),
        "client offers TLS 1.1 at most, which this listener does not accept"
    );
    let psk = hello(&unhex(OPENSSL_PSK12)).judge(&POLICY);
    assert!(
        matches!(&psk, Verdict::NoCommonCipher { offered } if !offered.contains(&0x00ff)),
        "{psk:?}"
    );
    assert!(
        psk.sentence()
            .starts_with("client offers no cipher suite of this listener, only TLS_")
    );
    let alpn = hello(&unhex(CURL)).judge(&POLICY);
    assert_eq!(
        alpn,
        Verdict::NoCommonAlpn {
            offered: vec!["h2".into(), "http/1.1".into()]
        }
    );
    assert_eq!(alpn.alert(), Some(120));
}

#[test]
fn grease_never_counts_as_common_ground() {
    let greasy = Policy {
        tls13_suites: &[0x0a0a],
        groups: &[0x4a4a],
        ..POLICY
    };
    assert_eq!(modern(&[]).judge(&POLICY), Verdict::Acceptable);
    assert_eq!(
        modern(&[]).judge(&greasy),
        Verdict::NoCommonCipher {
            offered: vec![0x1301, 0xc02b]
        }
    );
    let groups = Policy {
        groups: &[0x4a4a, 24],
        ..POLICY
    };
    assert_eq!(modern(&[]).judge(&groups), Verdict::NoCommonGroup { offered: vec![29] });
    let signatures = Policy {
        signature_algorithms: &[0x0807],
        ..POLICY
    };
    assert_eq!(
        modern(&[]).judge(&signatures),
        Verdict::NoCommonSignature { offered: vec![0x0403] }
    );
    assert_eq!(
        modern(&[(43, sized(1, &ids(&[0x1a1a])))]).judge(&POLICY),
        Verdict::VersionTooOld { offered: vec![] }
    );
    assert_eq!((0..=u16::MAX).filter(|id| is_grease(*id)).count(), 16);
}

#[test]
fn the_version_decides_which_suites_and_groups_count() {
    let only13 = Policy {
        tls12_suites: &[],
        ..POLICY
    };
    let only12 = Policy {
        tls13_suites: &[],
        ..POLICY
    };
    assert_eq!(modern(&[]).judge(&only12), Verdict::Acceptable);
    assert!(matches!(
        hello(&unhex(OPENSSL_12)).judge(&only13),
        Verdict::VersionTooOld { .. }
    ));
    // TLS 1.3 is chosen, so the TLS 1.2 suite in common does not help
    let mismatch = Policy {
        tls13_suites: &[0x1303],
        ..POLICY
    };
    assert!(matches!(modern(&[]).judge(&mismatch), Verdict::NoCommonCipher { .. }));
    let bare12 = hello(&records(
        &message(0x0303, &[0xc02b], &[(13, sized(2, &ids(&[0x0403])))]),
        99,
    ));
    assert_eq!(bare12.judge(&POLICY), Verdict::Acceptable);
    let groups12 = [(10, sized(2, &ids(&[25]))), (13, sized(2, &ids(&[0x0403])))];
    let ecdhe = hello(&records(&message(0x0303, &[0xc02b], &groups12), 99));
    assert_eq!(ecdhe.judge(&POLICY), Verdict::NoCommonGroup { offered: vec![25] });
    // legacy_version does not bring TLS 1.3 (RFC 8446 section 4.2.1)
    assert_eq!(hello(&records(&message(0x0304, &[0x1301], &[]), 99)).versions, [0x0303]);
}

#[test]
fn a_hello_without_extensions_is_read() {
    let bytes =
        unhex("160300002d0100002903000000000000000000000000000000000000000000000000000000000000000000000002000501");
    let bytes = [bytes.as_slice(), &[0]].concat();
    let seen = hello(&bytes);
    assert_eq!(
        (seen.versions, seen.cipher_suites, seen.extensions.len()),
        (vec![0x0300], vec![5], 0)
    );
}

#[test]
fn a_limit_on_records_is_read_as_its_extension_means_it() {
    let hello = |versions: &[u16], fragment: Option<u16>, size: Option<u16>| ClientHello {
        versions: versions.to_vec(),
        max_fragment_length: fragment,
        record_size_limit: size,
        ..ClientHello::default()
    };
    for (asked, data, handshake) in [
        (hello(&[0x0303], None, None), None, None),
        // RFC 6066: a limit that no certificate fits in is kept for data alone
        (hello(&[0x0303], Some(512), None), Some(512), Some(2048)),
        (hello(&[0x0303], Some(4096), None), Some(4096), Some(4096)),
        // RFC 8449: in TLS 1.3 the content type counts; it goes before the other
        (hello(&[0x0303], None, Some(512)), Some(512), Some(512)),
        (hello(&[0x0304, 0x0303], Some(4096), Some(513)), Some(512), Some(512)),
        (hello(&[0x0304], None, Some(0)), Some(0), Some(0)),
    ] {
        assert_eq!(
            (asked.record_limit(), asked.handshake_record_limit()),
            (data, handshake)
        );
    }
}
