//! A change as the rows it writes and takes away.
//!
//! Refuses to know transactions: whoever calls has begun one, and undoes the ledger when it fails.

use super::ledger::Ledger;
use super::rows::{
    Queued, body_sum, int, ints, owed_sum, received_sum, retained_sum, session_sum, size, state_sum, subscription_sum,
    will_sum,
};
use crate::{Body, Change, Delivery, Entry, Order, Origin, Receiver, SessionId, StoredWill};
use rusqlite::{Connection, Error, Statement, params};

/// The largest message for one session that stands in its row of `queue`; small rows keep the scan at start short.
const INLINE: i64 = 256;
/// Rows of `queue` taken away in one transaction when a session is over.
const SLICE: i64 = 1000;

type Done = Result<(), Error>;

pub(super) struct Statements<'c> {
    begin_session: Statement<'c>,
    update_session: Statement<'c>,
    attach_session: Statement<'c>,
    end_session: Statement<'c>,
    mark_ended: Statement<'c>,
    subscribe: Statement<'c>,
    unsubscribe: Statement<'c>,
    owe: Statement<'c>,
    reach: Statement<'c>,
    pay: Statement<'c>,
    add_message: Statement<'c>,
    add_body: Statement<'c>,
    release: Statement<'c>,
    take_message: Statement<'c>,
    take_body: Statement<'c>,
    receive: Statement<'c>,
    complete: Statement<'c>,
    put_will: Statement<'c>,
    take_will: Statement<'c>,
    replace_retained: Statement<'c>,
    add_retained: Statement<'c>,
    take_retained: Statement<'c>,
    take_slice: Statement<'c>,
    next_session: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub fn prepare(conn: &'c Connection) -> Result<Statements<'c>, Error> {
        Ok(Statements {
            begin_session: conn.prepare(
                "INSERT INTO sessions (session, client_id, device, checksum, expiry_s, disconnected_at, sent, state_checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, NULL, 0, ?6)",
            )?,
            update_session: conn.prepare(
                "UPDATE sessions SET expiry_s = ?2, disconnected_at = ?3, sent = ?4, state_checksum = ?5 WHERE session = ?1",
            )?,
            attach_session: conn.prepare(
                "UPDATE sessions SET expiry_s = ?2, disconnected_at = NULL, sent = 0, state_checksum = ?3 WHERE session = ?1",
            )?,
            end_session: conn.prepare("DELETE FROM sessions WHERE session = ?1")?,
            mark_ended: conn.prepare("INSERT OR IGNORE INTO ended (session) VALUES (?1)")?,
            subscribe: conn.prepare(
                "INSERT OR REPLACE INTO subscriptions (session, filter, options, identifier, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            unsubscribe: conn.prepare("DELETE FROM subscriptions WHERE session = ?1 AND filter = ?2")?,
            owe: conn.prepare("INSERT OR REPLACE INTO owed (session, filter, reached, checksum) VALUES (?1, ?2, '', ?3)")?,
            reach: conn.prepare("UPDATE owed SET reached = ?3, checksum = ?4 WHERE session = ?1 AND filter = ?2")?,
            pay: conn.prepare("DELETE FROM owed WHERE session = ?1 AND filter = ?2")?,
            add_message: conn.prepare(
                "INSERT INTO queue (session, place, size, body, qos, retain, released, identifiers, checksum,
                                    expires_at, topic, properties, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            add_body: conn.prepare(
                "INSERT INTO bodies (body, expires_at, topic, properties, payload, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            release: conn.prepare(
                "UPDATE queue SET released = 1,
                     checksum = CASE released WHEN 1 THEN checksum ELSE (checksum | 1) - (checksum & 1) END
                 WHERE session = ?1 AND place = ?2",
            )?,
            take_message: conn.prepare("DELETE FROM queue WHERE session = ?1 AND place = ?2 RETURNING size, body")?,
            take_body: conn.prepare("DELETE FROM bodies WHERE body = ?1")?,
            receive: conn.prepare("INSERT OR REPLACE INTO received (session, packet_id, checksum) VALUES (?1, ?2, ?3)")?,
            complete: conn.prepare("DELETE FROM received WHERE session = ?1 AND packet_id = ?2")?,
            put_will: conn.prepare(
                "INSERT OR REPLACE INTO wills (session, client_id, delay_s, expiry_s, qos, retain,
                                               expires_at, topic, properties, payload, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            take_will: conn.prepare("DELETE FROM wills WHERE session = ?1")?,
            replace_retained: conn.prepare(
                "UPDATE retained SET qos = ?2, expires_at = ?3, properties = ?4, payload = ?5, checksum = ?6 WHERE topic = ?1",
            )?,
            add_retained: conn.prepare(
                "INSERT INTO retained (topic, qos, expires_at, properties, payload, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            take_retained: conn.prepare("DELETE FROM retained WHERE topic = ?1")?,
            take_slice: conn.prepare(
                "DELETE FROM queue WHERE session = ?1 AND place <= coalesce(
                     (SELECT place FROM queue WHERE session = ?1 ORDER BY place LIMIT 1 OFFSET ?2), 9223372036854775807)
                 RETURNING size, body",
            )?,
            next_session: conn.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES ('next_session', ?1)")?,
        })
    }

    pub fn apply(&mut self, ledger: &mut Ledger, entry: &Entry<'_>) -> Done {
        match entry {
            Entry::Change(change) => self.change(ledger, change),
            Entry::Delivery(delivery, receivers) => self.delivery(ledger, delivery, receivers),
        }
    }

    /// PUBACK or PUBCOMP came. A message that is not there was done before.
    pub fn done(&mut self, ledger: &mut Ledger, session: SessionId, order: Order) -> Done {
        let mut rows = self.take_message.query(params![int(session.0), int(order.0)])?;
        let gone = match rows.next()? {
            Some(row) => Some((row.get(0)?, row.get::<_, Option<i64>>(1)?)),
            None => None,
        };
        drop(rows);
        match gone {
            Some((size, body)) => self.gone(ledger, size, body),
            None => Ok(()),
        }
    }

    /// Take away a part of what hung on a session that is over; `true` when nothing is left.
    pub fn slice(&mut self, conn: &Connection, ledger: &mut Ledger, session: SessionId) -> Result<bool, Error> {
        let mut gone = Vec::new();
        let mut rows = self.take_slice.query(params![int(session.0), SLICE - 1])?;
        while let Some(row) = rows.next()? {
            gone.push((row.get(0)?, row.get::<_, Option<i64>>(1)?));
        }
        drop(rows);
        for &(size, body) in &gone {
            self.gone(ledger, size, body)?;
        }
        if gone.len() as i64 >= SLICE {
            return Ok(false);
        }
        for sql in [
            "DELETE FROM owed WHERE session = ?1",
            "DELETE FROM subscriptions WHERE session = ?1",
            "DELETE FROM received WHERE session = ?1",
            "DELETE FROM ended WHERE session = ?1",
        ] {
            conn.execute(sql, params![int(session.0)])?;
        }
        Ok(true)
    }

    /// What the ledger knows and the file does not.
    pub fn keep(&mut self, ledger: &Ledger) -> Done {
        if let Some(next) = ledger.unkept_next_session() {
            self.next_session.execute(params![next])?;
        }
        Ok(())
    }

    fn change(&mut self, ledger: &mut Ledger, change: &Change<'_>) -> Done {
        match *change {
            Change::Begin {
                session,
                client_id,
                device,
                expiry_s,
            } => {
                ledger.saw(session);
                ledger.counts.sessions += 1;
                self.begin_session.execute(params![
                    int(session.0),
                    client_id,
                    device,
                    session_sum(session, client_id, device),
                    expiry_s,
                    state_sum(session, expiry_s, None, Order(0)),
                ])?;
            }
            Change::Attach { session, expiry_s } => {
                let sum = state_sum(session, expiry_s, None, Order(0));
                self.attach_session.execute(params![int(session.0), expiry_s, sum])?;
            }
            Change::Detach {
                session,
                at,
                expiry_s,
                sent,
            } => {
                let sum = state_sum(session, expiry_s, Some(at), sent);
                let row = params![int(session.0), expiry_s, int(at), int(sent.0), sum];
                self.update_session.execute(row)?;
            }
            Change::End { session } => {
                let gone = self.end_session.execute(params![int(session.0)])?;
                ledger.counts.sessions = ledger.counts.sessions.saturating_sub(gone as u64);
                if self.mark_ended.execute(params![int(session.0)])? > 0 {
                    ledger.ended.push_back(session);
                }
            }
            Change::Subscribe {
                session,
                filter,
                options,
                identifier,
            } => {
                let sum = subscription_sum(session, filter, options, identifier);
                self.subscribe
                    .execute(params![int(session.0), filter, options, identifier, sum])?;
            }
            Change::Unsubscribe { session, filter } => {
                self.pay.execute(params![int(session.0), filter])?;
                self.unsubscribe.execute(params![int(session.0), filter])?;
            }
            Change::Owe { session, filter } => {
                let sum = owed_sum(session, filter, "");
                self.owe.execute(params![int(session.0), filter, sum])?;
            }
            Change::Paid { session, filter } => {
                self.pay.execute(params![int(session.0), filter])?;
            }
            Change::Release { session, order } => {
                self.release.execute(params![int(session.0), int(order.0)])?;
            }
            Change::Done { session, order } => self.done(ledger, session, order)?,
            Change::Completed { session, packet_id } => {
                self.complete.execute(params![int(session.0), packet_id])?;
            }
            Change::Will {
                session,
                client_id,
                ref will,
            } => self.will(ledger, session, client_id, will)?,
            Change::WillGone { session } => {
                self.take_will.execute(params![int(session.0)])?;
            }
            Change::Retain { ref body } => self.retain(ledger, body)?,
            Change::Unretain { topic } => {
                let gone = self.take_retained.execute(params![topic])?;
                ledger.counts.retained = ledger.counts.retained.saturating_sub(gone as u64);
            }
        }
        Ok(())
    }

    fn delivery(&mut self, ledger: &mut Ledger, delivery: &Delivery<'_>, receivers: &[Receiver<'_>]) -> Done {
        match delivery.origin {
            Origin::Nothing => {}
            Origin::Received { session, packet_id } => {
                ledger.saw(session);
                let sum = received_sum(session, packet_id);
                self.receive.execute(params![int(session.0), packet_id, sum])?;
            }
            Origin::Will { session } => {
                self.take_will.execute(params![int(session.0)])?;
            }
            Origin::Owed { session, filter } => {
                let reached = delivery.body.topic;
                let sum = owed_sum(session, filter, reached);
                self.reach.execute(params![int(session.0), filter, reached, sum])?;
            }
        }
        let body = &delivery.body;
        let size = size(body);
        let number = match receivers {
            [] => return Ok(()),
            [_] if size <= INLINE => None,
            _ => Some(self.body(ledger, body, receivers.len())?),
        };
        let inline = number.is_none().then_some(body);
        for receiver in receivers {
            let identifiers = text_of(&receiver.identifiers);
            let queued = Queued {
                session: receiver.session,
                place: receiver.order,
                size,
                body: number,
                qos: receiver.qos,
                retain: receiver.retain,
                identifiers: identifiers.as_deref(),
            };
            self.add_message.execute(params![
                int(queued.session.0),
                int(queued.place.0),
                queued.size,
                queued.body,
                queued.qos,
                queued.retain,
                queued.identifiers,
                queued.checksum(inline),
                inline.and_then(|body| ints(body.expires_at)),
                inline.map(|body| body.topic),
                inline.map(|body| body.properties),
                inline.map(|body| body.payload),
            ])?;
            ledger.saw(receiver.session);
            ledger.add_message(size);
        }
        Ok(())
    }

    fn body(&mut self, ledger: &mut Ledger, body: &Body<'_>, receivers: usize) -> Result<i64, Error> {
        let number = ledger.add_body(receivers);
        self.add_body.execute(params![
            number,
            ints(body.expires_at),
            body.topic,
            body.properties,
            body.payload,
            body_sum(number, body),
        ])?;
        Ok(number)
    }

    fn gone(&mut self, ledger: &mut Ledger, size: i64, body: Option<i64>) -> Done {
        ledger.take_message(size);
        match body {
            Some(body) if ledger.release_body(body) => self.take_body.execute(params![body]).map(drop),
            _ => Ok(()),
        }
    }

    fn will(&mut self, ledger: &mut Ledger, session: SessionId, client_id: &str, will: &StoredWill<'_>) -> Done {
        ledger.saw(session);
        let body = &will.body;
        let row = params![
            int(session.0),
            client_id,
            will.delay_s,
            will.expiry_s,
            body.qos,
            body.retain,
            ints(body.expires_at),
            body.topic,
            body.properties,
            body.payload,
            will_sum(session, client_id, will),
        ];
        self.put_will.execute(row).map(drop)
    }

    fn retain(&mut self, ledger: &mut Ledger, body: &Body<'_>) -> Done {
        let row = params![
            body.topic,
            body.qos,
            ints(body.expires_at),
            body.properties,
            body.payload,
            retained_sum(body),
        ];
        // Most retained messages replace one: one lookup then, and the count stays right.
        if self.replace_retained.execute(row)? == 0 {
            self.add_retained.execute(row)?;
            ledger.counts.retained += 1;
        }
        Ok(())
    }
}

fn text_of(identifiers: &[u32]) -> Option<String> {
    let texts: Vec<String> = identifiers.iter().map(u32::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

#[cfg(test)]
mod tests {
    #[test]
    fn sqlite_is_one_without_the_wal_reset_defect() {
        assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    }
}
