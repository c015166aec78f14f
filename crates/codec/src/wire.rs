//! Fields on the wire: integers, strings, binary data. Refuses to know packets.

use crate::{Fault, QoS};
use alloc::vec::Vec;

/// A cursor over the body of a packet; every read is bounded by what is there.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(Fault::Truncated),
        }
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Fault> {
        match self.rest.split_first() {
            Some((&byte, tail)) => {
                self.rest = tail;
                Ok(byte)
            }
            None => Err(Fault::Truncated),
        }
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Fault> {
        match self.rest.split_first_chunk::<2>() {
            Some((bytes, tail)) => {
                self.rest = tail;
                Ok(u16::from_be_bytes(*bytes))
            }
            None => Err(Fault::Truncated),
        }
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Fault> {
        match self.rest.split_first_chunk::<4>() {
            Some((bytes, tail)) => {
                self.rest = tail;
                Ok(u32::from_be_bytes(*bytes))
            }
            None => Err(Fault::Truncated),
        }
    }

    /// A variable byte integer, at most four bytes and no longer than its value needs [MQTT-1.5.5-1].
    #[inline]
    pub fn varint(&mut self) -> Result<u32, Fault> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(Fault::BadVariableByteInteger);
                }
                return Ok(value);
            }
        }
        Err(Fault::BadVariableByteInteger)
    }

    pub fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// Text of a packet, as it stands there [MQTT-1.5.4-3], [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12],
    /// [MQTT-3.3.2-1], [MQTT-3.3.2-13], [MQTT-3.3.2-19], [MQTT-3.8.3-1], [MQTT-3.10.3-1], [MQTT-4.7.3-2]; its length takes
    /// two bytes [MQTT-4.7.3-3].
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, Fault> {
        let bytes = self.binary()?;
        // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
        let text = core::str::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
        if bytes.contains(&0) {
            return Err(Fault::NulInString);
        }
        Ok(text)
    }

    /// A packet identifier, never zero [MQTT-2.2.1-3].
    pub fn packet_id(&mut self) -> Result<u16, Fault> {
        match self.u16()? {
            0 => Err(Fault::ZeroPacketIdentifier),
            id => Ok(id),
        }
    }

    pub fn end(&self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Fault::TrailingBytes)
        }
    }
}

/// Bytes a variable byte integer takes on the wire.
#[inline]
pub fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Append a variable byte integer. Values above 268,435,455 cannot occur: packets are bounded before they are built.
#[inline]
pub fn write_varint(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Append a string with its two-byte length; what exceeds 65,535 bytes is cut at a character boundary.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = text.as_bytes().get(..end).unwrap_or_default();
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Append binary data with its two-byte length; what exceeds 65,535 bytes is cut.
pub(crate) fn write_binary(data: &[u8], out: &mut Vec<u8>) {
    let data = data.get(..usize::from(u16::MAX)).unwrap_or(data);
    out.extend_from_slice(&(data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// Append the fixed header, topic name and packet identifier of a PUBLISH; `after` is the number of bytes that follow
/// (properties with their length, payload). The broker's fan-out uses this directly, so that a body encoded once can
/// follow many headers.
#[inline]
pub fn write_publish_header(
    dup: bool,
    qos: QoS,
    retain: bool,
    topic: &str,
    packet_id: u16,
    after: usize,
    out: &mut Vec<u8>,
) {
    let id_len = if qos == QoS::AtMostOnce { 0 } else { 2 };
    out.push(0x30 | (u8::from(dup) << 3) | ((qos as u8) << 1) | u8::from(retain));
    write_varint(2 + topic.len() + id_len + after, out);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    if qos != QoS::AtMostOnce {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
}
