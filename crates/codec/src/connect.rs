//! CONNECT and CONNACK (MQTT 5.0 sections 3.1 and 3.2).
//!
//! Refuses to know who may connect.

use crate::property::PropertySet;
use crate::wire::{Reader, write_binary, write_string};
use crate::{Fault, PacketKind, Properties, QoS, Version, topic};
use alloc::vec::Vec;

/// A will as CONNECT carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties<'a>,
    pub topic: &'a str,
    pub payload: &'a [u8],
}

/// CONNECT, either version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// Clean session in 3.1.1, clean start in 5.0.
    pub clean_start: bool,
    /// Seconds; 0 turns keep-alive off.
    pub keep_alive: u16,
    pub properties: Properties<'a>,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL_QOS: u8 = 0x18;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

impl<'a> Connect<'a> {
    /// Decode the body of a CONNECT; the version comes from its protocol level. The payload has its order [MQTT-3.1.3-1],
    /// [MQTT-3.1.3-3], and what the flags announce is there, and nothing else [MQTT-3.1.2-9], [MQTT-3.1.2-16],
    /// [MQTT-3.1.2-17], [MQTT-3.1.2-18], [MQTT-3.1.2-19].
    pub fn decode(body: &'a [u8]) -> Result<Connect<'a>, Fault> {
        let mut reader = Reader::new(body);
        // [MQTT-3.1.2-1]; the older name MQIsdp is a version we do not speak, not garbage
        match reader.binary()? {
            b"MQTT" => {}
            b"MQIsdp" => return Err(Fault::UnsupportedProtocolLevel(reader.u8()?)),
            _ => return Err(Fault::BadProtocolName),
        }
        let version = match reader.u8()? {
            4 => Version::V311,
            5 => Version::V5,
            level => return Err(Fault::UnsupportedProtocolLevel(level)),
        };
        let flags = reader.u8()?;
        // [MQTT-3.1.2-3]
        if flags & RESERVED != 0 {
            return Err(Fault::ConnectReservedFlag);
        }
        // [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13]
        let will_qos = QoS::from_bits((flags & WILL_QOS) >> 3).ok_or(Fault::BadWillFlags)?;
        if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
            return Err(Fault::BadWillFlags);
        }
        // [MQTT-3.1.2-22] of 3.1.1; MQTT 5.0 allows it
        if version == Version::V311 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
            return Err(Fault::PasswordWithoutUserName);
        }
        let keep_alive = reader.u16()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::read(&mut reader, PropertySet::Packet(PacketKind::Connect))?,
        };
        let client_id = reader.string()?;
        let will = if flags & WILL == 0 {
            None
        } else {
            let properties = match version {
                Version::V311 => Properties::EMPTY,
                Version::V5 => Properties::read(&mut reader, PropertySet::Will)?,
            };
            let topic = reader.string()?;
            if !topic::is_valid_name(topic) {
                return Err(Fault::BadTopicName);
            }
            let payload = reader.binary()?;
            Some(Will {
                qos: will_qos,
                retain: flags & WILL_RETAIN != 0,
                properties,
                topic,
                payload,
            })
        };
        let username = if flags & USERNAME == 0 {
            None
        } else {
            Some(reader.string()?)
        };
        let password = if flags & PASSWORD == 0 {
            None
        } else {
            Some(reader.binary()?)
        };
        reader.end()?;
        Ok(Connect {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive,
            properties,
            client_id,
            will,
            username,
            password,
        })
    }

    pub(crate) fn write_body(&self, out: &mut Vec<u8>) {
        write_string("MQTT", out);
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | ((will.qos as u8) << 3);
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USERNAME;
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        out.push(match self.version {
            Version::V311 => 4,
            Version::V5 => 5,
        });
        out.push(flags);
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            self.properties.write(out);
        }
        write_string(self.client_id, out);
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                will.properties.write(out);
            }
            write_string(will.topic, out);
            write_binary(will.payload, out);
        }
        if let Some(username) = self.username {
            write_string(username, out);
        }
        if let Some(password) = self.password {
            write_binary(password, out);
        }
    }
}

/// CONNACK; `code` is a reason code in 5.0 and a return code in 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    pub session_present: bool,
    pub code: u8,
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    pub(crate) fn decode(version: Version, body: &'a [u8]) -> Result<Connack<'a>, Fault> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        // [MQTT-3.2.2-1]
        if flags & 0xfe != 0 {
            return Err(Fault::BadConnackFlags);
        }
        let code = reader.u8()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::read(&mut reader, PropertySet::Packet(PacketKind::Connack))?,
        };
        reader.end()?;
        Ok(Connack {
            session_present: flags == 1,
            code,
            properties,
        })
    }

    pub(crate) fn write_body(&self, version: Version, out: &mut Vec<u8>) {
        out.push(u8::from(self.session_present));
        out.push(self.code);
        if version == Version::V5 {
            self.properties.write(out);
        }
    }
}
