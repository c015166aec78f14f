//! The packets of `tests/vectors` against the codec: whole, byte by byte, cut at every length, written back.
//!
//! Refuses to know any packet itself; a new case is a new entry in the data.

use sealmq_codec::{Fault, Framed, Packet, PacketKind, ReasonCode, Version, frame};
use std::collections::HashSet;
use std::path::Path;
use toml::{Table, Value};

/// The limit the vectors are read with.
const MAX_PACKET: u32 = 1 << 20;

struct Vector {
    name: String,
    version: Version,
    bytes: Vec<u8>,
    canonical: Vec<u8>,
    outcome: String,
    reason: Option<ReasonCode>,
}

/// Bytes in hexadecimal; `#` starts a remark that ends with the line.
fn hex(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{byte} is no byte")))
        .collect()
}

fn text<'a>(table: &'a Table, key: &str) -> &'a str {
    table
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {key} in {table:?}"))
}

fn read(table: &Table) -> Vector {
    for key in table.keys() {
        let known = [
            "name",
            "version",
            "hex",
            "canonical",
            "outcome",
            "reason",
            "clause",
            "clauses",
        ];
        assert!(known.contains(&key.as_str()), "unknown key {key}");
    }
    assert!(
        table.contains_key("clause") != table.contains_key("clauses"),
        "{table:?}"
    );
    let version = match text(table, "version") {
        "3.1.1" => Version::V311,
        "5.0" => Version::V5,
        other => panic!("version {other}"),
    };
    let bytes = hex(text(table, "hex"));
    let reason = table.get("reason").and_then(Value::as_integer);
    Vector {
        name: format!("{} ({})", text(table, "name"), version.name()),
        version,
        canonical: table
            .get("canonical")
            .and_then(Value::as_str)
            .map_or(bytes.clone(), hex),
        bytes,
        outcome: text(table, "outcome").to_string(),
        reason: reason.map(|code| ReasonCode::from_byte(u8::try_from(code).unwrap()).unwrap()),
    }
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of vectors") {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let file: Table = std::fs::read_to_string(&path).unwrap().parse().expect("TOML");
            // The table of statements lies beside them.
            let Some(entries) = file.get("vector").and_then(Value::as_array) else {
                assert!(file.contains_key("clause"), "{} holds no vectors", path.display());
                continue;
            };
            all.extend(entries.iter().map(|entry| read(entry.as_table().expect("a table"))));
        }
    }
    all
}

/// Frame and decode, as the broker does.
fn decode(version: Version, bytes: &[u8]) -> Result<Packet<'_>, Fault> {
    match frame(bytes, MAX_PACKET)? {
        Framed::Whole(whole) => Packet::decode(version, whole),
        Framed::Need(_) => panic!("a vector is a whole packet"),
    }
}

#[test]
fn there_are_vectors_for_every_packet_in_both_versions() {
    let all = vectors();
    assert!(all.len() >= 300, "{} vectors", all.len());
    let names: HashSet<&str> = all.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a name is used twice");
    for kind in 1..=15u8 {
        for version in [Version::V311, Version::V5] {
            let is_here = |ok: bool| {
                let of_kind = |v: &&Vector| v.version == version && v.bytes[0] >> 4 == kind;
                all.iter().filter(of_kind).any(|v| (v.outcome == "ok") == ok)
            };
            assert!(
                is_here(false),
                "a malformed packet of type {kind} in {}",
                version.name()
            );
            // AUTH does not exist in 3.1.1
            assert!(
                is_here(true) || (kind, version) == (15, Version::V311),
                "a valid one of type {kind}"
            );
        }
    }
}

#[test]
fn whole_packets_come_out_as_the_vectors_say() {
    for vector in vectors() {
        match decode(vector.version, &vector.bytes) {
            Ok(packet) => {
                assert_eq!(vector.outcome, "ok", "{}: {packet:?}", vector.name);
                assert_eq!(packet.kind() as u8, vector.bytes[0] >> 4, "{}", vector.name);
                if let Packet::Connect(connect) = packet {
                    assert_eq!(connect.version, vector.version, "{}", vector.name);
                }
            }
            Err(fault) => {
                assert_eq!(fault.slug(), vector.outcome, "{}: {fault}", vector.name);
                assert_eq!(Some(fault.reason_code()), vector.reason, "{}: {fault}", vector.name);
                let sentence = fault.to_string();
                assert!(!sentence.ends_with('.') && !sentence.is_empty());
            }
        }
    }
}

#[test]
fn valid_packets_are_written_back() {
    for vector in vectors().iter().filter(|v| v.outcome == "ok") {
        let packet = decode(vector.version, &vector.bytes).expect(&vector.name);
        let mut written = vec![0xEE];
        packet.encode(vector.version, &mut written);
        assert_eq!(written[1..], vector.canonical, "{}", vector.name);
        assert_eq!(written[0], 0xEE, "{}: what stood there before stays", vector.name);
        assert_eq!(
            decode(vector.version, &vector.canonical).as_ref(),
            Ok(&packet),
            "{}",
            vector.name
        );
    }
}

#[test]
fn byte_by_byte_the_frame_waits_for_the_whole() {
    for vector in vectors() {
        for length in 0..vector.bytes.len() {
            match frame(&vector.bytes[..length], MAX_PACKET) {
                Ok(Framed::Need(need)) => {
                    assert!(
                        length < need && need <= vector.bytes.len(),
                        "{} at {length}: {need}",
                        vector.name
                    );
                }
                // What the fixed header gives away needs no more bytes, and stays what it is.
                Err(fault) => {
                    assert_eq!(Err(fault), decode(vector.version, &vector.bytes), "{}", vector.name);
                }
                Ok(Framed::Whole(_)) => panic!("{} is whole at {length}", vector.name),
            }
        }
        // Bytes of the next packet change nothing.
        let longer = [&vector.bytes[..], &[0xC0, 0x00]].concat();
        assert_eq!(
            frame(&longer, MAX_PACKET),
            frame(&vector.bytes, MAX_PACKET),
            "{}",
            vector.name
        );
    }
}

/// The same packet with its body cut short and its length told accordingly: an error, or a shorter valid packet; what is
/// valid reads the same once written.
#[test]
fn cut_at_every_length_nothing_breaks() {
    for vector in vectors() {
        let Ok(Framed::Whole(whole)) = frame(&vector.bytes, MAX_PACKET) else {
            continue;
        };
        for length in 0..whole.body.len() {
            let mut cut = vec![whole.first];
            sealmq_codec::write_varint(length, &mut cut);
            cut.extend_from_slice(&whole.body[..length]);
            let Ok(packet) = decode(vector.version, &cut) else {
                continue;
            };
            // A valid packet stays valid only if it ends in an open list or payload, or may leave its tail out.
            let is_closed = matches!(
                packet.kind(),
                PacketKind::Connect | PacketKind::Connack | PacketKind::Pingreq | PacketKind::Pingresp
            );
            assert!(
                vector.outcome != "ok" || !is_closed,
                "{} cut to {length}: {packet:?}",
                vector.name
            );
            let mut written = Vec::new();
            packet.encode(vector.version, &mut written);
            assert_eq!(
                decode(vector.version, &written),
                Ok(packet),
                "{} cut to {length}",
                vector.name
            );
        }
    }
}
