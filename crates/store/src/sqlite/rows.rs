//! What SQLite keeps of a number, and what the checksum of a row covers, table by table.
//!
//! Refuses to know when rows are written or read.

use super::checksum::Checksum;
use crate::{Body, Order, SessionId, StoredWill};

/// What SQLite can hold of a number: above 2^63 - 1 it is 2^63 - 1, 292 million years or messages without end.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn ints(value: Option<u64>) -> Option<i64> {
    value.map(int)
}

/// Counterpart of [`int`]; a number below 0 was not written by it, and its checksum tells.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number that fits, or 0: again the checksum tells.
pub(super) fn small<T: TryFrom<i64> + Default>(value: i64) -> T {
    T::try_from(value).unwrap_or_default()
}

/// Topic name, properties and payload.
pub(super) fn size(body: &Body<'_>) -> i64 {
    int((body.topic.len() + body.properties.len() + body.payload.len()) as u64)
}

fn content(sum: Checksum, body: &Body<'_>) -> Checksum {
    sum.option(ints(body.expires_at))
        .bytes(body.topic.as_bytes())
        .bytes(body.properties)
        .bytes(body.payload)
}

pub(super) fn session_sum(session: SessionId, client_id: &str, device: Option<&str>) -> i64 {
    let sum = Checksum::new().number(int(session.0)).bytes(client_id.as_bytes());
    sum.text(device).value()
}

pub(super) fn state_sum(session: SessionId, expiry_s: u32, disconnected_at: Option<u64>, sent: Order) -> i64 {
    let sum = Checksum::new().number(int(session.0)).number(expiry_s.into());
    sum.option(ints(disconnected_at)).number(int(sent.0)).value()
}

pub(super) fn subscription_sum(session: SessionId, filter: &str, options: u8, identifier: u32) -> i64 {
    let sum = Checksum::new().number(int(session.0)).bytes(filter.as_bytes());
    sum.number(options.into()).number(identifier.into()).value()
}

pub(super) fn owed_sum(session: SessionId, filter: &str, reached: &str) -> i64 {
    let sum = Checksum::new().number(int(session.0)).bytes(filter.as_bytes());
    sum.bytes(reached.as_bytes()).value()
}

pub(super) fn received_sum(session: SessionId, packet_id: u16) -> i64 {
    Checksum::new().number(int(session.0)).number(packet_id.into()).value()
}

pub(super) fn will_sum(session: SessionId, client_id: &str, will: &StoredWill<'_>) -> i64 {
    let sum = Checksum::new().number(int(session.0)).bytes(client_id.as_bytes());
    let sum = sum.number(will.delay_s.into()).option(will.expiry_s.map(i64::from));
    let sum = sum.number(will.body.qos.into()).number(will.body.retain.into());
    content(sum, &will.body).value()
}

pub(super) fn retained_sum(body: &Body<'_>) -> i64 {
    content(Checksum::new().number(body.qos.into()), body).value()
}

pub(super) fn body_sum(number: i64, body: &Body<'_>) -> i64 {
    content(Checksum::new().number(number), body).value()
}

/// The fixed part of a row of `queue`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued<'a> {
    pub session: SessionId,
    pub place: Order,
    pub size: i64,
    pub body: Option<i64>,
    pub qos: u8,
    pub retain: bool,
    pub identifiers: Option<&'a str>,
}

impl Queued<'_> {
    /// Of a row that is not released; releasing it turns the lowest bit.
    pub fn checksum(&self, inline: Option<&Body<'_>>) -> i64 {
        let sum = Checksum::new()
            .number(int(self.session.0))
            .number(int(self.place.0))
            .number(self.size);
        let sum = sum.option(self.body).number(self.qos.into()).number(self.retain.into());
        let sum = sum.text(self.identifiers);
        inline.map_or(sum, |body| content(sum, body)).value()
    }
}
