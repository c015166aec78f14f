//! Whatever frames come, and however they are cut, the decoder gives the same payload, the same answers and the same fault,
//! within its bounds; and what one side writes the other side reads.
//!
//! Refuses to know what the payload is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealmq_node::ws::{Decoder, Role, WsFault, encode_binary};

const MOST: usize = 1000;

fn mask() -> [u8; 4] {
    [1, 2, 3, 4]
}

/// All that comes out of `bytes`, handed over in pieces of `piece`.
fn read(role: Role, bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, Option<u16>, Option<WsFault>) {
    let mut decoder = Decoder::new(role, MOST);
    let (mut out, mut control, mut closed) = (Vec::new(), Vec::new(), None);
    for chunk in bytes.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let (before, answers) = (out.len(), control.len());
        match decoder.decode(&mut chunk, &mut out, &mut control) {
            Ok(decoded) => {
                assert!(decoded.consumed <= chunk.len());
                assert!(out.len() - before <= chunk.len(), "payload out of nothing");
                closed = closed.or(decoded.closed);
            }
            Err(fault) => {
                assert!(fault.code() >= 1002 && !fault.sentence().is_empty());
                return (out, control, closed, Some(fault));
            }
        }
        // A held frame adds at most what was held.
        assert!(control.len() - answers <= 6 * chunk.len() + 140);
        if closed.is_some() {
            break;
        }
    }
    (out, control, closed, None)
}

fuzz_target!(|data: &[u8]| {
    let [first, bytes @ ..] = data else { return };
    let (role, other) = match first & 1 {
        0 => (Role::Server, Role::Client { mask }),
        _ => (Role::Client { mask }, Role::Server),
    };
    let piece = 1 + usize::from(first >> 1);
    assert_eq!(read(role, bytes, bytes.len().max(1)), read(role, bytes, piece));
    let payload = &bytes[..bytes.len().min(MOST)];
    let mut written = Vec::new();
    encode_binary(other, payload, &mut written);
    assert_eq!(read(role, &written, piece), (payload.to_vec(), Vec::new(), None, None));
});
