//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (MQTT 5.0 sections 3.8 to 3.11).
//!
//! Refuses to know whether a subscription is allowed. A filter that is well-formed UTF-8 but no valid filter is the
//! broker's to answer filter by filter, so it is not a fault here.

use crate::property::PropertySet;
use crate::wire::{Reader, write_string};
use crate::{Fault, PacketKind, Properties, QoS, Version};
use alloc::vec::Vec;

/// What to do with retained messages at subscribe time (section 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    SendAlways = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

/// The options byte of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// What a 3.1.1 subscription means in terms of 5.0.
    pub fn plain(qos: QoS) -> SubscribeOptions {
        SubscribeOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        }
    }

    /// From the byte of a SUBSCRIBE packet (section 3.8.3.1).
    pub fn from_byte(version: Version, byte: u8) -> Result<SubscribeOptions, Fault> {
        let qos = QoS::from_bits(byte & 0b11);
        match version {
            // [MQTT-3.8.3-4] of 3.1.1
            Version::V311 if byte & 0xfc != 0 => Err(Fault::BadSubscriptionOptions),
            Version::V311 => Ok(SubscribeOptions::plain(qos.ok_or(Fault::BadSubscriptionOptions)?)),
            // [MQTT-3.8.3-5]
            Version::V5 if byte & 0xc0 != 0 => Err(Fault::BadSubscriptionOptions),
            Version::V5 => Ok(SubscribeOptions {
                qos: qos.ok_or(Fault::BadSubscriptionValue)?,
                no_local: byte & 0x04 != 0,
                retain_as_published: byte & 0x08 != 0,
                retain_handling: match byte >> 4 {
                    0 => RetainHandling::SendAlways,
                    1 => RetainHandling::SendIfNew,
                    2 => RetainHandling::DoNotSend,
                    _ => return Err(Fault::BadSubscriptionValue),
                },
            }),
        }
    }

    /// The byte of a 5.0 SUBSCRIBE packet.
    pub fn to_byte(self) -> u8 {
        self.qos as u8
            | (u8::from(self.no_local) << 2)
            | (u8::from(self.retain_as_published) << 3)
            | ((self.retain_handling as u8) << 4)
    }
}

/// One entry of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    pub filter: &'a str,
    pub options: SubscribeOptions,
}

/// The validated filter list of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters<'a> {
    raw: &'a [u8],
    version: Version,
}

impl<'a> Filters<'a> {
    /// The entries in wire order; the answer needs one reason code for each, in this order [MQTT-3.9.3-1].
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + use<'a> {
        let mut reader = Reader::new(self.raw);
        let version = self.version;
        core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let filter = reader.string().ok()?;
            let options = SubscribeOptions::from_byte(version, reader.u8().ok()?).ok()?;
            Some(Subscription { filter, options })
        })
    }
}

/// Filters being put together for a SUBSCRIBE of our own.
#[derive(Clone, Debug, Default)]
pub struct FilterBuf {
    raw: Vec<u8>,
}

impl FilterBuf {
    pub fn new() -> FilterBuf {
        FilterBuf::default()
    }

    /// In 3.1.1 only the QoS of `options` reaches the wire.
    pub fn push(&mut self, version: Version, filter: &str, options: SubscribeOptions) -> &mut FilterBuf {
        write_string(filter, &mut self.raw);
        self.raw.push(match version {
            Version::V311 => options.qos as u8,
            Version::V5 => options.to_byte(),
        });
        self
    }

    pub fn as_filters(&self, version: Version) -> Filters<'_> {
        Filters {
            raw: &self.raw,
            version,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn decode(version: Version, body: &'a [u8]) -> Result<Subscribe<'a>, Fault> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = read_properties(version, &mut reader, PacketKind::Subscribe)?;
        let raw = reader.rest();
        // [MQTT-3.8.3-2]
        if raw.is_empty() {
            return Err(Fault::NoFilters);
        }
        while !reader.is_empty() {
            let filter = reader.string()?;
            let options = SubscribeOptions::from_byte(version, reader.u8()?)?;
            // [MQTT-3.8.3-4]
            if options.no_local && filter.starts_with("$share/") {
                return Err(Fault::NoLocalOnShared);
            }
        }
        Ok(Subscribe {
            packet_id,
            properties,
            filters: Filters { raw, version },
        })
    }

    pub(crate) fn write_body(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            self.properties.write(out);
        }
        out.extend_from_slice(self.filters.raw);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    raw: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// The filters in wire order.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.raw);
        core::iter::from_fn(move || if reader.is_empty() { None } else { reader.string().ok() })
    }

    /// An UNSUBSCRIBE of our own; `raw` is filters written with [`crate::write_string`].
    pub fn new(packet_id: u16, properties: Properties<'a>, raw: &'a [u8]) -> Unsubscribe<'a> {
        Unsubscribe {
            packet_id,
            properties,
            raw,
        }
    }

    pub(crate) fn decode(version: Version, body: &'a [u8]) -> Result<Unsubscribe<'a>, Fault> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = read_properties(version, &mut reader, PacketKind::Unsubscribe)?;
        let raw = reader.rest();
        // [MQTT-3.10.3-2]
        if raw.is_empty() {
            return Err(Fault::NoFilters);
        }
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(Unsubscribe {
            packet_id,
            properties,
            raw,
        })
    }

    pub(crate) fn write_body(&self, version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            self.properties.write(out);
        }
        out.extend_from_slice(self.raw);
    }
}

/// SUBACK and UNSUBACK: one code per filter; UNSUBACK of 3.1.1 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubackCodes<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub codes: &'a [u8],
}

impl<'a> SubackCodes<'a> {
    pub(crate) fn decode(version: Version, kind: PacketKind, body: &'a [u8]) -> Result<SubackCodes<'a>, Fault> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = read_properties(version, &mut reader, kind)?;
        let codes = reader.rest();
        if version == Version::V311 && kind == PacketKind::Unsuback {
            reader.end()?;
        } else if codes.is_empty() {
            return Err(Fault::Truncated);
        }
        // [MQTT-3.9.3-2], [MQTT-3.11.3-2]
        if let Some(&unknown) = codes.iter().find(|code| !is_answer(version, kind, **code)) {
            return Err(Fault::BadReasonCode(unknown));
        }
        Ok(SubackCodes {
            packet_id,
            properties,
            codes,
        })
    }

    pub(crate) fn write_body(&self, version: Version, kind: PacketKind, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if version == Version::V5 {
            self.properties.write(out);
        }
        if version == Version::V5 || kind == PacketKind::Suback {
            out.extend_from_slice(self.codes);
        }
    }
}

/// Whether SUBACK or UNSUBACK may carry `code` (tables 3-8 and 3-9; section 3.9.3 of 3.1.1).
fn is_answer(version: Version, kind: PacketKind, code: u8) -> bool {
    match (kind, version) {
        (PacketKind::Suback, Version::V311) => matches!(code, 0..=2 | 0x80),
        (PacketKind::Suback, Version::V5) => {
            matches!(
                code,
                0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
            )
        }
        _ => matches!(code, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
    }
}

fn read_properties<'a>(version: Version, reader: &mut Reader<'a>, kind: PacketKind) -> Result<Properties<'a>, Fault> {
    match version {
        Version::V311 => Ok(Properties::EMPTY),
        Version::V5 => Properties::read(reader, PropertySet::Packet(kind)),
    }
}
