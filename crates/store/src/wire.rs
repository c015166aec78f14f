//! The bytes of a change: a tag, then its fields; numbers as LEB128, text and bytes with their length.
//!
//! Refuses to know what the fields mean. Reading takes nothing on trust: a cut or bent record is a [`Damaged`].

use crate::batch::Slot;
use crate::change::{Body, Change, Delivery, Entry, Order, Origin, Receiver, SessionId, StoredWill};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The bytes are no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

const DELIVERY: u8 = 0;

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `None` is 0, so that the common case is one byte.
fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    put(out, value.map_or(0, |v| v.saturating_add(1)));
}

fn put_body(out: &mut Vec<u8>, body: &Body<'_>) {
    out.push(body.qos | u8::from(body.retain) << 2);
    put_option(out, body.expires_at);
    put_bytes(out, body.topic.as_bytes());
    put_bytes(out, body.properties);
    put_bytes(out, body.payload);
}

pub(crate) fn put_change(out: &mut Vec<u8>, change: &Change<'_>) {
    match *change {
        Change::Begin {
            session,
            client_id,
            device,
            expiry_s,
        } => {
            out.push(1);
            put(out, session.0);
            put_bytes(out, client_id.as_bytes());
            put(out, u64::from(device.is_some()));
            put_bytes(out, device.unwrap_or_default().as_bytes());
            put(out, u64::from(expiry_s));
        }
        Change::Attach { session, expiry_s } => {
            out.push(2);
            put(out, session.0);
            put(out, u64::from(expiry_s));
        }
        Change::Detach {
            session,
            at,
            expiry_s,
            sent,
        } => {
            out.push(3);
            put(out, session.0);
            put(out, at);
            put(out, u64::from(expiry_s));
            put(out, sent.0);
        }
        Change::End { session } => put_pair(out, 4, session, None),
        Change::Subscribe {
            session,
            filter,
            options,
            identifier,
        } => {
            out.push(5);
            put(out, session.0);
            put_bytes(out, filter.as_bytes());
            out.push(options);
            put(out, u64::from(identifier));
        }
        Change::Unsubscribe { session, filter } => {
            out.push(6);
            put(out, session.0);
            put_bytes(out, filter.as_bytes());
        }
        Change::Owe { session, filter } => {
            out.push(14);
            put(out, session.0);
            put_bytes(out, filter.as_bytes());
        }
        Change::Paid { session, filter } => {
            out.push(15);
            put(out, session.0);
            put_bytes(out, filter.as_bytes());
        }
        Change::Release { session, order } => put_pair(out, 7, session, Some(order.0)),
        Change::Done { session, order } => put_pair(out, 8, session, Some(order.0)),
        Change::Completed { session, packet_id } => put_pair(out, 9, session, Some(packet_id.into())),
        Change::Will {
            session,
            client_id,
            will,
        } => {
            out.push(10);
            put(out, session.0);
            put_bytes(out, client_id.as_bytes());
            put(out, u64::from(will.delay_s));
            put_option(out, will.expiry_s.map(u64::from));
            put_body(out, &will.body);
        }
        Change::WillGone { session } => put_pair(out, 11, session, None),
        Change::Retain { body } => {
            out.push(12);
            put_body(out, &body);
        }
        Change::Unretain { topic } => {
            out.push(13);
            put_bytes(out, topic.as_bytes());
        }
    }
}

fn put_pair(out: &mut Vec<u8>, tag: u8, session: SessionId, second: Option<u64>) {
    out.push(tag);
    put(out, session.0);
    if let Some(value) = second {
        put(out, value);
    }
}

/// Write a delivery; each receiver's slot gets the offset of its "still waiting" byte in `out`.
pub(crate) fn put_delivery(out: &mut Vec<u8>, batch: u32, delivery: &Delivery<'_>, receivers: &mut [Receiver<'_>]) {
    out.push(DELIVERY);
    match delivery.origin {
        Origin::Nothing => out.push(0),
        Origin::Received { session, packet_id } => put_pair(out, 1, session, Some(packet_id.into())),
        Origin::Will { session } => put_pair(out, 2, session, None),
        Origin::Owed { session, filter } => {
            put_pair(out, 3, session, None);
            put_bytes(out, filter.as_bytes());
        }
    }
    put_body(out, &delivery.body);
    put(out, receivers.len() as u64);
    for receiver in receivers {
        receiver.slot = Slot::at(batch, out.len());
        out.push(1);
        put(out, receiver.session.0);
        put(out, receiver.order.0);
        out.push(receiver.qos | u8::from(receiver.retain) << 2);
        put(out, receiver.identifiers.len() as u64);
        for &identifier in receiver.identifiers.iter() {
            put(out, u64::from(identifier));
        }
    }
}

/// Bytes that are read from the front.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (&first, rest) = self.0.split_first().ok_or(Damaged)?;
        self.0 = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(Damaged);
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Damaged> {
        T::try_from(self.number()?).map_err(|_| Damaged)
    }

    fn option(&mut self) -> Result<Option<u64>, Damaged> {
        Ok(self.number()?.checked_sub(1))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.small::<usize>()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Damaged> {
        core::str::from_utf8(self.bytes()?).map_err(|_| Damaged)
    }

    fn session(&mut self) -> Result<SessionId, Damaged> {
        self.number().map(SessionId)
    }

    fn order(&mut self) -> Result<Order, Damaged> {
        self.number().map(Order)
    }

    fn body(&mut self) -> Result<Body<'a>, Damaged> {
        let flags = self.byte()?;
        Ok(Body {
            qos: flags & 3,
            retain: flags & 4 != 0,
            expires_at: self.option()?,
            topic: self.text()?,
            properties: self.bytes()?,
            payload: self.bytes()?,
        })
    }

    pub fn entry(&mut self) -> Result<Entry<'a>, Damaged> {
        let tag = self.byte()?;
        if tag == DELIVERY {
            return self.delivery();
        }
        self.change(tag).map(Entry::Change)
    }

    fn delivery(&mut self) -> Result<Entry<'a>, Damaged> {
        let origin = match self.byte()? {
            0 => Origin::Nothing,
            1 => Origin::Received {
                session: self.session()?,
                packet_id: self.small()?,
            },
            2 => Origin::Will {
                session: self.session()?,
            },
            3 => Origin::Owed {
                session: self.session()?,
                filter: self.text()?,
            },
            _ => return Err(Damaged),
        };
        let body = self.body()?;
        let count = self.number()?;
        let mut receivers = Vec::new();
        for _ in 0..count {
            let is_waiting = self.byte()? == 1;
            let (session, order) = (self.session()?, self.order()?);
            let flags = self.byte()?;
            let mut identifiers = Vec::new();
            for _ in 0..self.number()? {
                identifiers.push(self.small()?);
            }
            if is_waiting {
                receivers.push(Receiver {
                    session,
                    order,
                    qos: flags & 3,
                    retain: flags & 4 != 0,
                    identifiers: Cow::Owned(identifiers),
                    slot: Slot::default(),
                });
            }
        }
        Ok(Entry::Delivery(Delivery { origin, body }, receivers))
    }

    fn change(&mut self, tag: u8) -> Result<Change<'a>, Damaged> {
        Ok(match tag {
            1 => {
                let (session, client_id) = (self.session()?, self.text()?);
                let has_device = self.number()? != 0;
                let device = self.text()?;
                Change::Begin {
                    session,
                    client_id,
                    device: has_device.then_some(device),
                    expiry_s: self.small()?,
                }
            }
            2 => Change::Attach {
                session: self.session()?,
                expiry_s: self.small()?,
            },
            3 => Change::Detach {
                session: self.session()?,
                at: self.number()?,
                expiry_s: self.small()?,
                sent: self.order()?,
            },
            4 => Change::End {
                session: self.session()?,
            },
            5 => Change::Subscribe {
                session: self.session()?,
                filter: self.text()?,
                options: self.byte()?,
                identifier: self.small()?,
            },
            6 => Change::Unsubscribe {
                session: self.session()?,
                filter: self.text()?,
            },
            7 => Change::Release {
                session: self.session()?,
                order: self.order()?,
            },
            8 => Change::Done {
                session: self.session()?,
                order: self.order()?,
            },
            9 => Change::Completed {
                session: self.session()?,
                packet_id: self.small()?,
            },
            10 => {
                let (session, client_id) = (self.session()?, self.text()?);
                let delay_s = self.small()?;
                let expiry_s = match self.option()? {
                    Some(seconds) => Some(u32::try_from(seconds).map_err(|_| Damaged)?),
                    None => None,
                };
                let body = self.body()?;
                let will = StoredWill {
                    body,
                    delay_s,
                    expiry_s,
                };
                Change::Will {
                    session,
                    client_id,
                    will,
                }
            }
            11 => Change::WillGone {
                session: self.session()?,
            },
            12 => Change::Retain { body: self.body()? },
            13 => Change::Unretain { topic: self.text()? },
            14 => Change::Owe {
                session: self.session()?,
                filter: self.text()?,
            },
            15 => Change::Paid {
                session: self.session()?,
                filter: self.text()?,
            },
            _ => return Err(Damaged),
        })
    }
}
