use super::tests::*;
use super::*;

#[test]
fn other_protocols_are_told_apart_at_once() {
    use FirstBytes::*;
    let cases: [(&[u8], usize, FirstBytes); 14] = [
        (b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04abcd", 2, PlaintextMqtt),
        (b"\x10\x12\0\x06MQIsdp\x03\x02\0\x3c\0\x04abcd", 2, PlaintextMqtt),
        (b"\x10\x90\x02\0\x04MQTT\x05", 2, PlaintextMqtt),
        (b"GET /mqtt HTTP/1.1\r\n", 4, PlaintextHttp),
        (b"POST / HTTP/1.1\r\n", 5, PlaintextHttp),
        (b"OPTIONS * HTTP/1.1\r\n", 8, PlaintextHttp),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 4, PlaintextHttp),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 4, Ssh),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 6, ProxyProtocol),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 12, ProxyProtocol),
        (b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10", 5, SslV2Hello),
        (b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10", 5, SslV2Hello),
        (
            b"\x03\0\0\x13\x0e",
            1,
            Other {
                bytes: [3, 0, 0, 0x13, 0x0e, 0, 0, 0],
                len: 5,
            },
        ),
        (
            b"HELO broker",
            3,
            Other {
                bytes: *b"HELO bro",
                len: 8,
            },
        ),
    ];
    for (bytes, decided, expected) in cases {
        assert_eq!(look(bytes), Sniff::NotTls(expected), "{bytes:02x?}");
        for end in 0..bytes.len() {
            let early = look(&bytes[..end]);
            assert_eq!(
                early == Sniff::NeedMore,
                end < decided,
                "{bytes:02x?} at {end}: {early:?}"
            );
        }
    }
    for odd in [
        b"\x10\x02\0\x04".as_slice(),
        b"\x10\x20\xff\xff",
        b"\x10\xff\xff\xff\xff\x01",
        b"\x80\x80\x02",
        b"\x16\xfe\xfd",
    ] {
        assert!(matches!(look(odd), Sniff::NotTls(Other { .. })), "{odd:02x?}");
    }
    let other = Other {
        bytes: [1, 2, 0xff, 0, 0, 0, 0, 0],
        len: 3,
    };
    assert_eq!(
        other.sentence(),
        "peer does not speak TLS, its first bytes are 01 02 ff"
    );
}

#[test]
fn each_fault_has_its_name() {
    use HelloFault::*;
    let with = |id, data: &[u8]| records(&message(0x0303, &[0x1301], &[(id, data.to_vec())]), 16_384);
    let twice = records(
        &message(
            0x0303,
            &[0x1301],
            &[(10, sized(2, &ids(&[29]))), (10, sized(2, &ids(&[29])))],
        ),
        999,
    );
    let cases: Vec<(Vec<u8>, HelloFault)> = vec![
        (vec![0x15, 3, 3, 0, 2, 2, 40], UnexpectedRecord { content_type: 0x15 }),
        (vec![0x17, 3], UnexpectedRecord { content_type: 0x17 }),
        (vec![0x16, 3, 1, 0, 1, 1, 0x15], UnexpectedRecord { content_type: 0x15 }),
        (vec![0x16, 3, 1, 0, 0], EmptyRecord),
        (vec![0x16, 3, 1, 0x40, 1], RecordTooLong { length: 16_385 }),
        (vec![0x16, 3, 1, 0, 9, 2], NotClientHello { handshake_type: 2 }),
        (vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x40, 0], TooLong { limit: 16_384 }),
        (vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0], Field { name: "ClientHello" }),
        (twice, DuplicateExtension { id: 10 }),
        (
            with(1, &[5]),
            Field {
                name: "max_fragment_length",
            },
        ),
        (
            with(1, &[0]),
            Field {
                name: "max_fragment_length",
            },
        ),
        (
            with(28, &[1, 2, 3]),
            Field {
                name: "record_size_limit",
            },
        ),
        (
            with(10, &[0, 3, 0, 29, 0]),
            Field {
                name: "supported_groups",
            },
        ),
        (
            with(10, &[0, 0]),
            Field {
                name: "supported_groups",
            },
        ),
        (with(16, &[0, 3, 9, b'a', b'b']), Field { name: "ALPN" }),
        (with(0, &[0, 4, 0, 0, 9, b'a']), Field { name: "server_name" }),
        (with(43, &[2, 3, 4, 9]), Field { name: "extension" }),
        (with(41, &[0, 7, 0, 1, 9, 0, 0, 0, 0]), Field { name: "extension" }),
    ];
    for (bytes, fault) in cases {
        assert_eq!(look(&bytes), Sniff::Malformed(fault), "{bytes:02x?}");
        assert!(fault.alert() > 0 && !fault.sentence().ends_with('.') && !fault.mend().is_empty());
    }
}

#[test]
fn a_length_that_lies_by_one_is_a_fault_and_no_changed_byte_panics() {
    let bytes = unhex(OPENSSL_13);
    let cipher_length = 44 + 32 + 1;
    let extensions_length = cipher_length + 1 + 8 + 2 + 1;
    let first_extension = extensions_length + 4;
    for at in [8, 43, cipher_length, extensions_length, first_extension] {
        for lie in [bytes[at] - 1, bytes[at] + 1] {
            let mut lying = bytes.clone();
            lying[at] = lie;
            let more = at == 8 && lie > bytes[at]; // the message could go on in another record
            let seen = look(&lying);
            assert!(matches!(seen, Sniff::Malformed(_)) != more, "byte {at}: {seen:?}");
        }
    }
    for capture in CAPTURES {
        let bytes = unhex(capture);
        for at in 0..bytes.len() {
            for value in [
                0,
                1,
                bytes[at].wrapping_add(1),
                bytes[at].wrapping_sub(1),
                0x7f,
                0x80,
                0xff,
            ] {
                let mut changed = bytes.clone();
                changed[at] = value;
                assert!(!matches!(look(&changed), Sniff::NotTls(_)) || at < 2);
            }
        }
    }
}

#[test]
fn work_is_bounded_by_the_limit() {
    let endless: Vec<u8> = [vec![22, 3, 1, 0, 1, 1], [22, 3, 1, 0, 1, 0].repeat(9_999)].concat();
    assert!(
        matches!(look(&endless), Sniff::Malformed(HelloFault::Field { .. })),
        "length 0 ends it"
    );
    let long = message(0x0303, &[0x1301], &[(21, vec![0; 9_000])]);
    let trickle = records(&long, 1);
    assert_eq!(look(&trickle[..600]), Sniff::NeedMore);
    assert_eq!(
        look(&trickle[..16_384]),
        Sniff::Malformed(HelloFault::TooLong { limit: 16_384 })
    );
    let limits = HelloLimits { total: 100 };
    let bytes = unhex(OPENSSL_13);
    assert_eq!(
        sniff(&bytes, limits),
        Sniff::Malformed(HelloFault::TooLong { limit: 100 })
    );
    assert_eq!(
        sniff(&bytes[..9], limits),
        Sniff::Malformed(HelloFault::TooLong { limit: 100 })
    );
    assert!(matches!(
        sniff(&bytes, HelloLimits { total: bytes.len() }),
        Sniff::Hello(_)
    ));
    assert!(matches!(
        sniff(&bytes, HelloLimits { total: bytes.len() - 1 }),
        Sniff::Malformed(_)
    ));
}

#[test]
fn random_bytes_never_panic_and_a_decision_stands() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let openings: [&[u8]; 6] = [
        b"",
        b"\x16\x03\x01",
        b"\x16\x03\x01\0\x40\x01\0\0",
        b"\x10",
        b"\x80",
        b"P",
    ];
    for round in 0..20_000 {
        let noise = (0..random.next() % 90).map(|_| (random.next() & 0xff) as u8);
        let bytes: Vec<u8> = openings[round % openings.len()].iter().copied().chain(noise).collect();
        let mut before = Sniff::NeedMore;
        for end in 0..=bytes.len() {
            let now = look(&bytes[..end]);
            if before != Sniff::NeedMore {
                assert_eq!(
                    std::mem::discriminant(&before),
                    std::mem::discriminant(&now),
                    "{bytes:02x?} at {end}"
                );
            }
            before = now;
        }
    }
}

#[test]
fn names_from_the_wire_are_fit_to_print() {
    let name = b"a\r\nb\x1b[2J";
    let entry = sized(2, &[vec![0], sized(2, name)].concat());
    let seen = modern(&[(0, entry), (16, sized(2, &sized(1, b"m\nq")))]);
    assert_eq!(seen.server_name.as_deref(), Some("a\\r\\nb\\x1b[2J"));
    assert_eq!(seen.alpn_text(), ["m\\nq"]);
    let too_many = Verdict::NoCommonCipher { offered: vec![1; 300] };
    assert!(too_many.sentence().ends_with("and 296 more"));
}
