//! Whatever the bytes, framing and decoding end with a packet or a fault, the same however the bytes were cut, and a packet
//! that was read is read again from what it is written as.
//!
//! Refuses to know what a packet means.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealmq_codec::{Framed, Packet, Version, frame};

const MOST: u32 = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((&first, bytes)) = data.split_first() else { return };
    let version = if first & 1 == 0 { Version::V311 } else { Version::V5 };
    let cut = bytes.len() * usize::from(first >> 1) / 128;
    match frame(bytes, MOST) {
        Ok(Framed::Need(need)) => assert!(need > bytes.len()),
        Ok(Framed::Whole(whole)) => {
            assert!(whole.size <= bytes.len() && whole.size <= MOST as usize);
            // Bytes that have not come yet, or come later, change nothing.
            match frame(&bytes[..cut], MOST) {
                Ok(Framed::Need(need)) => assert!(cut < whole.size && need <= whole.size),
                Ok(Framed::Whole(again)) => assert_eq!((again.size, again.body), (whole.size, whole.body)),
                Err(fault) => panic!("{fault} is forgiven when more bytes come"),
            }
            match Packet::decode(version, whole) {
                Ok(packet) => write_and_read(version, &packet),
                Err(fault) => assert!(!fault.slug().is_empty() && fault.reason_code() as u8 >= 0x80),
            }
        }
        Err(fault) => assert!(fault.reason_code() as u8 >= 0x80),
    }
});

fn write_and_read(version: Version, packet: &Packet<'_>) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut written = Vec::new();
    packet.encode(version, &mut written);
    let Ok(Framed::Whole(whole)) = frame(&written, u32::MAX) else {
        panic!("{packet:?} is not written whole");
    };
    assert_eq!(whole.size, written.len());
    assert_eq!(Packet::decode(version, whole).as_ref(), Ok(packet));
}
