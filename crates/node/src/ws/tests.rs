use super::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const CLIENT: Role = Role::Client { mask: || KEY };

#[derive(Debug, Default, PartialEq)]
struct Seen {
    out: Vec<u8>,
    control: Vec<u8>,
    closed: Option<u16>,
    fault: Option<WsFault>,
}

fn decode_in(role: Role, max: usize, bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Seen {
    let (mut decoder, mut seen, mut rest) = (Decoder::new(role, max), Seen::default(), bytes.to_vec());
    for cut in cuts {
        let mut tail = rest.split_off(cut.min(rest.len()));
        std::mem::swap(&mut rest, &mut tail);
        let mut part = tail;
        match decoder.decode(&mut part, &mut seen.out, &mut seen.control) {
            Ok(decoded) => {
                assert!(decoded.consumed <= part.len());
                assert!(decoded.consumed == part.len() || decoded.closed.is_some());
                seen.closed = seen.closed.or(decoded.closed);
            }
            Err(fault) => {
                seen.fault = Some(fault);
                assert_eq!(
                    decoder.decode(&mut [0xff; 9], &mut vec![], &mut vec![]),
                    Ok(Decoded {
                        consumed: 9,
                        closed: None
                    })
                );
                break;
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    assert!(rest.is_empty() || seen.fault.is_some());
    seen
}

/// Decoded whole, byte by byte and cut in two at each place: always the same.
fn decode(role: Role, max: usize, bytes: &[u8]) -> Seen {
    let whole = decode_in(role, max, bytes, [bytes.len()].into_iter());
    assert_eq!(decode_in(role, max, bytes, std::iter::repeat(1)), whole, "byte by byte");
    for at in 1..bytes.len().min(600) {
        assert_eq!(
            decode_in(role, max, bytes, [at, bytes.len()].into_iter()),
            whole,
            "cut at {at}"
        );
    }
    whole
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    encode(CLIENT, 0, payload, &mut frame);
    frame[0] = first;
    frame
}

fn fault(role: Role, bytes: &[u8]) -> Option<WsFault> {
    decode(role, 1 << 20, bytes).fault
}

fn got(out: &[u8]) -> Seen {
    Seen {
        out: out.to_vec(),
        ..Seen::default()
    }
}

#[test]
fn the_examples_of_rfc_6455_section_5_7() {
    let hello = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(Role::Server, 99, &hello), got(b"Hello"));
    let fragments = [0x02, 3, 0x48, 0x65, 0x6c, 0x80, 2, 0x6c, 0x6f];
    assert_eq!(decode(CLIENT, 99, &fragments), got(b"Hello"));
    let ping = [0x89, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(
        decode(CLIENT, 99, &ping),
        Seen {
            control: pong.to_vec(),
            ..Seen::default()
        }
    );
    assert_eq!(decode(Role::Server, 99, &pong), Seen::default());
    let mut long = vec![0x82, 0x7e, 1, 0];
    long.extend([7; 256]);
    assert_eq!(decode(CLIENT, 999, &long), got(&[7; 256]));
    let mut longer = vec![0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
    longer.extend([9; 65_536]);
    assert_eq!(decode(CLIENT, 65_536, &longer), got(&[9; 65_536]));
}

#[test]
fn what_one_side_encodes_the_other_decodes() {
    for length in [0, 1, 7, 8, 31, 32, 33, 125, 126, 127, 1_000, 65_535, 65_536, 70_001] {
        let payload: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0] ^ 0x5a).collect();
        for (from, to) in [(CLIENT, Role::Server), (Role::Server, CLIENT)] {
            let mut wire = vec![];
            encode_binary(from, &payload, &mut wire);
            encode_binary(from, b"next", &mut wire);
            assert_eq!(
                decode(to, 1 << 20, &wire).out,
                [&payload[..], b"next"].concat(),
                "{length}"
            );
        }
    }
}

#[test]
fn masking_is_the_same_at_every_phase_and_length() {
    for length in 0..100 {
        for phase in 0..4_u8 {
            let mut data = vec![0x11; length];
            unmask(&mut data, KEY, phase);
            let slow: Vec<u8> = (0..length)
                .map(|at| 0x11 ^ KEY[(at + usize::from(phase)) % 4])
                .collect();
            assert_eq!(data, slow, "{length} {phase}");
        }
    }
}

#[test]
fn packets_span_frames_and_pings_come_between() {
    // [MQTT-6.0.0-2] of both
    let wire = [
        masked(0x02, b"\x10\x0c\0"),
        masked(0x89, b"are you there"),
        masked(0x00, b""),
        masked(0x00, b"\x04MQ"),
        masked(0x8a, b""),
    ];
    let wire = [wire.concat(), masked(0x80, b"TT"), masked(0x82, b"\xc0\0\xc0\0")].concat();
    let seen = decode(Role::Server, 99, &wire);
    assert_eq!(seen.out, b"\x10\x0c\0\x04MQTT\xc0\0\xc0\0");
    assert_eq!(seen.control, [&[0x8a, 13][..], b"are you there"].concat());
    assert_eq!((seen.closed, seen.fault), (None, None));
}

#[test]
fn a_close_is_answered_and_ends_it() {
    let with_reason = [masked(0x88, b"\x03\xe8bye"), masked(0x82, b"late")].concat();
    for cut in [with_reason.len(), 1, 5] {
        let seen = decode_in(Role::Server, 99, &with_reason, std::iter::repeat(cut));
        assert_eq!(
            seen,
            Seen {
                control: vec![0x88, 2, 3, 0xe8],
                closed: Some(1000),
                ..Seen::default()
            }
        );
    }
    assert_eq!(
        decode(Role::Server, 99, &masked(0x88, b"")),
        Seen {
            control: vec![0x88, 0],
            closed: Some(1005),
            ..Seen::default()
        }
    );
    let mut bytes = with_reason.clone();
    let decoded = Decoder::new(Role::Server, 99)
        .decode(&mut bytes, &mut vec![], &mut vec![])
        .unwrap();
    assert_eq!((decoded.consumed, decoded.closed), (11, Some(1000)));
    let mut wire = vec![];
    encode_close(Role::Server, 1003, &mut wire);
    encode_close(CLIENT, 1000, &mut wire);
    assert_eq!(
        wire,
        [&[0x88, 2, 3, 0xeb, 0x88, 0x82][..], &KEY, &[0x34, 0x12]].concat()
    );
}

#[test]
fn each_fault_and_its_close_code() {
    use WsFault::*;
    let cases: Vec<(Vec<u8>, WsFault, u16)> = vec![
        (masked(0xc2, b"x"), ReservedBits, 1002),
        (masked(0x92, b"x"), ReservedBits, 1002),
        (masked(0x83, b"x"), Opcode { opcode: 3 }, 1002),
        (masked(0x8b, b"x"), Opcode { opcode: 11 }, 1002),
        (masked(0x81, b"x"), TextFrame, 1003), // [MQTT-6.0.0-1] of both
        (vec![0x82, 1, b'x'], UnmaskedFrame, 1002),
        (masked(0x09, b"x"), FragmentedControl, 1002),
        (masked(0x89, &[0; 126]), OversizedControl, 1002),
        (masked(0x80, b"x"), LonelyContinuation, 1002),
        (
            [masked(0x82, b"x"), masked(0x00, b"x")].concat(),
            LonelyContinuation,
            1002,
        ),
        (
            [masked(0x02, b"x"), masked(0x82, b"x")].concat(),
            InterruptedMessage,
            1002,
        ),
        (vec![0x82, 0xfe, 0, 125, 1, 2, 3, 4], Length, 1002),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4], Length, 1002),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], Length, 1002),
        (
            vec![0x82, 0xff, 0x7f, 0xff, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
            MessageTooLong { limit: 1 << 20 },
            1009,
        ),
        (masked(0x88, b"\x03"), CloseFrame, 1002),
        (masked(0x88, b"\x03\xed"), CloseFrame, 1002), // 1005
        (masked(0x88, b"\x03\xe8\xff"), CloseReason, 1007),
    ];
    for (bytes, expected, code) in cases {
        assert_eq!(fault(Role::Server, &bytes), Some(expected), "{bytes:02x?}");
        assert_eq!(expected.code(), code);
        assert!(expected.sentence().starts_with("WebSocket ") && !expected.slug().is_empty());
    }
    assert_eq!(fault(CLIENT, &masked(0x82, b"x")), Some(MaskedFrame));
}

#[test]
fn a_message_is_bounded_over_its_fragments() {
    let parts = [masked(0x02, &[0; 60]), masked(0x00, &[0; 40]), masked(0x80, b"")].concat();
    assert_eq!(decode(Role::Server, 100, &parts), got(&[0; 100]));
    assert_eq!(
        decode(Role::Server, 99, &parts).fault,
        Some(WsFault::MessageTooLong { limit: 99 })
    );
    let next = [parts, masked(0x82, &[0; 100])].concat();
    assert_eq!(decode(Role::Server, 100, &next), got(&[0; 200]));
}

#[test]
fn what_came_before_a_fault_stands() {
    let seen = decode(Role::Server, 99, &[masked(0x82, b"ok"), masked(0x81, b"no")].concat());
    assert_eq!((seen.out, seen.fault), (b"ok".to_vec(), Some(WsFault::TextFrame)));
}

#[test]
fn random_frames_in_random_cuts_decode_the_same() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 24).unwrap()
    };
    for round in 0..4_000 {
        let mut wire = vec![];
        for _ in 0..random() % 6 {
            let payload: Vec<u8> = (0..random() % 140).map(|_| random().to_le_bytes()[0]).collect();
            let first = [0x82, 0x02, 0x80, 0x00, 0x89, 0x8a, 0x88, 0x81][random() % 8];
            wire.extend(masked(first, &payload));
        }
        if round % 2 == 0 {
            wire.extend((0..random() % 60).map(|_| random().to_le_bytes()[0]));
        }
        let whole = decode_in(Role::Server, 300, &wire, std::iter::repeat(wire.len().max(1)));
        for _ in 0..5 {
            let cuts: Vec<usize> = (0..=wire.len()).map(|_| 1 + random() % 50).collect();
            assert_eq!(
                decode_in(Role::Server, 300, &wire, cuts.into_iter()),
                whole,
                "{wire:02x?}"
            );
        }
        assert!(whole.control.len() <= wire.len());
    }
}
