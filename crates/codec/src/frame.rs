//! Cutting one packet out of a byte stream by its fixed header.
//!
//! Refuses to know what is inside the packet.

use crate::{Fault, Version, varint_len};

/// The largest remaining length four bytes can say [MQTT-1.5.5-1].
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// One whole packet: first byte, body after the fixed header, bytes in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub first: u8,
    pub body: &'a [u8],
    pub size: usize,
}

impl Frame<'_> {
    /// MQTT 5.0 wants the remaining length in as few bytes as it needs [MQTT-1.5.5-1]; 3.1.1 leaves padding to the sender.
    #[inline]
    pub fn check_length(&self, version: Version) -> Result<(), Fault> {
        let minimal = 1 + varint_len(self.body.len()) + self.body.len();
        match version {
            Version::V5 if self.size != minimal => Err(Fault::BadVariableByteInteger),
            _ => Ok(()),
        }
    }
}

/// What [`frame()`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    Whole(Frame<'a>),
    /// The buffer must hold at least this many bytes before another try is worth it.
    Need(usize),
}

/// Look for one whole packet at the start of `bytes`, refusing one larger than `max_packet_size` bytes in all as soon
/// as its length is known.
#[inline]
pub fn frame(bytes: &[u8], max_packet_size: u32) -> Result<Framed<'_>, Fault> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Framed::Need(2));
    };
    let mut remaining = 0u32;
    let mut digits = 0usize;
    for &byte in rest.iter().take(4) {
        remaining |= u32::from(byte & 0x7f) << (7 * digits);
        digits += 1;
        if byte & 0x80 == 0 {
            let header = 1 + digits;
            let size = header + remaining as usize;
            if size > max_packet_size as usize {
                return Err(Fault::PacketTooLarge {
                    size: size as u32,
                    limit: max_packet_size,
                });
            }
            return Ok(match bytes.get(header..size) {
                Some(body) => Framed::Whole(Frame { first, body, size }),
                None => Framed::Need(size),
            });
        }
    }
    if digits == 4 {
        return Err(Fault::BadVariableByteInteger);
    }
    Ok(Framed::Need(2 + digits))
}
