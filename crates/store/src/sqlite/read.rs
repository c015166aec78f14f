//! The tables read back, each row held against its checksum.
//!
//! Refuses to know what is done with a row that does not match.

use super::rows::{
    Queued, body_sum, owed_sum, received_sum, retained_sum, session_sum, small, state_sum, subscription_sum, uint,
    will_sum,
};
use crate::{Body, Order, SessionId, Stored, StoredMessage, StoredWill};
use rusqlite::{Connection, Error, Row};

/// A row that is there and not what was written; the sentence names table and key.
pub(super) type Bent = String;

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Sql(Error),
    Bent(Bent),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Sql(error)
    }
}

/// Takes rows in the order of their keys; an error ends the reading.
pub(super) type Visit<'v> = &'v mut dyn FnMut(Result<Stored<'_>, Bent>) -> Result<(), Bent>;

type Parsed<T> = Result<Option<T>, Error>;

struct Table {
    name: &'static str,
    sql: &'static str,
    read: for<'r> fn(&'r Row<'_>) -> Parsed<Stored<'r>>,
}

const SESSIONS: Table = Table {
    name: "sessions",
    sql: "SELECT session, client_id, device, checksum, expiry_s, disconnected_at, sent, state_checksum FROM sessions",
    read: session,
};

/// Rows that hang on a session there is; the others are on their way out, or a case for `check`.
const OF_SESSIONS: [Table; 3] = [
    Table {
        name: "subscriptions",
        sql: "SELECT session, filter, options, identifier, checksum FROM subscriptions
              WHERE session IN (SELECT session FROM sessions)",
        read: subscription,
    },
    Table {
        name: "owed",
        sql: "SELECT o.session, o.filter, o.reached, o.checksum, s.options, s.identifier
              FROM owed o JOIN subscriptions s ON s.session = o.session AND s.filter = o.filter
              WHERE o.session IN (SELECT session FROM sessions)",
        read: owed,
    },
    Table {
        name: "received",
        sql: "SELECT session, packet_id, checksum FROM received WHERE session IN (SELECT session FROM sessions)",
        read: received,
    },
];

const OTHERS: [Table; 2] = [
    Table {
        name: "wills",
        sql: "SELECT session, client_id, delay_s, expiry_s, qos, retain, expires_at, topic, properties, payload, checksum FROM wills",
        read: will,
    },
    Table {
        name: "retained",
        sql: "SELECT topic, qos, expires_at, properties, payload, checksum FROM retained",
        read: retained,
    },
];

pub(super) fn sessions(conn: &Connection, visit: Visit<'_>) -> Result<(), Stop> {
    each(conn, &SESSIONS, visit)
}

/// Subscriptions, what they are owed, then packet identifiers.
pub(super) fn of_sessions(conn: &Connection, visit: Visit<'_>) -> Result<(), Stop> {
    OF_SESSIONS.iter().try_for_each(|table| each(conn, table, visit))
}

/// Wills, then retained messages.
pub(super) fn others(conn: &Connection, visit: Visit<'_>) -> Result<(), Stop> {
    OTHERS.iter().try_for_each(|table| each(conn, table, visit))
}

fn each(conn: &Connection, table: &Table, visit: Visit<'_>) -> Result<(), Stop> {
    let mut statement = conn.prepare(table.sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // An error of a column is text that is no text.
        let found = (table.read)(row).ok().flatten().ok_or_else(|| bent(table.name, row));
        visit(found).map_err(Stop::Bent)?;
    }
    Ok(())
}

fn bent(table: &str, row: &Row<'_>) -> Bent {
    match row.get_ref(0) {
        Ok(rusqlite::types::ValueRef::Integer(key)) => {
            format!("a row of {table} of session {key} does not match its checksum")
        }
        Ok(rusqlite::types::ValueRef::Text(key)) => {
            format!(
                "{table} row {:?} does not match its checksum",
                String::from_utf8_lossy(key)
            )
        }
        _ => format!("a row of {table} does not match its checksum"),
    }
}

fn session<'r>(row: &'r Row<'_>) -> Parsed<Stored<'r>> {
    let session = SessionId(uint(row.get(0)?));
    let client_id = row.get_ref(1)?.as_str()?;
    let device = row.get_ref(2)?.as_str_or_null()?;
    let expiry_s = small(row.get(4)?);
    let disconnected_at = row.get::<_, Option<i64>>(5)?.map(uint);
    let sent = Order(uint(row.get(6)?));
    let is_whole = row.get::<_, i64>(3)? == session_sum(session, client_id, device)
        && row.get::<_, i64>(7)? == state_sum(session, expiry_s, disconnected_at, sent);
    Ok(is_whole.then_some(Stored::Session {
        session,
        client_id,
        device,
        expiry_s,
        disconnected_at,
        // Connected to the last: nobody noted how far it came.
        sent: disconnected_at.map_or(Order(u64::MAX), |_| sent),
    }))
}

fn subscription<'r>(row: &'r Row<'_>) -> Parsed<Stored<'r>> {
    let session = SessionId(uint(row.get(0)?));
    let filter = row.get_ref(1)?.as_str()?;
    let (options, identifier) = (small(row.get(2)?), small(row.get(3)?));
    let is_whole = row.get::<_, i64>(4)? == subscription_sum(session, filter, options, identifier);
    Ok(is_whole.then_some(Stored::Subscription {
        session,
        filter,
        options,
        identifier,
    }))
}

fn owed<'r>(row: &'r Row<'_>) -> Parsed<Stored<'r>> {
    let session = SessionId(uint(row.get(0)?));
    let (filter, reached) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
    let is_whole = row.get::<_, i64>(3)? == owed_sum(session, filter, reached);
    let (options, identifier) = (small(row.get(4)?), small(row.get(5)?));
    Ok(is_whole.then_some(Stored::Owed {
        session,
        filter,
        options,
        identifier,
        reached,
    }))
}

fn received<'r>(row: &'r Row<'_>) -> Parsed<Stored<'r>> {
    let (session, packet_id) = (SessionId(uint(row.get(0)?)), small(row.get(1)?));
    let is_whole = row.get::<_, i64>(2)? == received_sum(session, packet_id);
    Ok(is_whole.then_some(Stored::Received { session, packet_id }))
}

fn will<'r>(row: &'r Row<'_>) -> Parsed<Stored<'r>> {
    let session = SessionId(uint(row.get(0)?));
    let client_id = row.get_ref(1)?.as_str()?;
    let will = StoredWill {
        delay_s: small(row.get(2)?),
        expiry_s: row.get::<_, Option<i64>>(3)?.map(small),
        body: Body {
            qos: small(row.get(4)?),
            retain: row.get::<_, i64>(5)? != 0,
            ..content(row, 6)?
        },
    };
    let is_whole = row.get::<_, i64>(10)? == will_sum(session, client_id, &will);
    Ok(is_whole.then_some(Stored::Will {
        session,
        client_id,
        will,
    }))
}

fn retained<'r>(row: &'r Row<'_>) -> Parsed<Stored<'r>> {
    let body = Body {
        topic: row.get_ref(0)?.as_str()?,
        qos: small(row.get(1)?),
        retain: true,
        expires_at: row.get::<_, Option<i64>>(2)?.map(uint),
        properties: row.get_ref(3)?.as_blob()?,
        payload: row.get_ref(4)?.as_blob()?,
    };
    let is_whole = row.get::<_, i64>(5)? == retained_sum(&body);
    Ok(is_whole.then_some(Stored::Retained(body)))
}

/// `expires_at, topic, properties, payload` from column `at` on.
fn content<'r>(row: &'r Row<'_>, at: usize) -> Result<Body<'r>, Error> {
    Ok(Body {
        expires_at: row.get::<_, Option<i64>>(at)?.map(uint),
        topic: row.get_ref(at + 1)?.as_str()?,
        properties: row.get_ref(at + 2)?.as_blob()?,
        payload: row.get_ref(at + 3)?.as_blob()?,
        qos: 0,
        retain: false,
    })
}

/// Messages of session `?1` from place `?2` on, for [`message`].
pub(super) const MESSAGES_OF: &str =
    "SELECT q.session, q.place, q.size, q.body, q.qos, q.retain, q.released, q.identifiers, q.checksum,
    q.expires_at, q.topic, q.properties, q.payload, b.expires_at, b.topic, b.properties, b.payload, b.checksum
    FROM queue q LEFT JOIN bodies b ON b.body = q.body WHERE q.session = ?1 AND q.place >= ?2 ORDER BY q.place";

/// All of them.
pub(super) const MESSAGES: &str =
    "SELECT q.session, q.place, q.size, q.body, q.qos, q.retain, q.released, q.identifiers, q.checksum,
    q.expires_at, q.topic, q.properties, q.payload, b.expires_at, b.topic, b.properties, b.payload, b.checksum
    FROM queue q LEFT JOIN bodies b ON b.body = q.body";

/// A row of [`MESSAGES_OF`] or [`MESSAGES`].
pub(super) fn message(row: &Row<'_>) -> Result<StoredMessage, Bent> {
    parsed_message(row).ok().flatten().ok_or_else(|| bent("queue", row))
}

fn parsed_message(row: &Row<'_>) -> Parsed<StoredMessage> {
    let queued = Queued {
        session: SessionId(uint(row.get(0)?)),
        place: Order(uint(row.get(1)?)),
        size: row.get(2)?,
        body: row.get(3)?,
        qos: small(row.get(4)?),
        retain: row.get::<_, i64>(5)? != 0,
        identifiers: row.get_ref(7)?.as_str_or_null()?,
    };
    let released: i64 = row.get(6)?;
    let sum = row.get::<_, i64>(8)? ^ released;
    let (content, is_whole) = match queued.body {
        None => {
            let content = content(row, 9)?;
            (content, sum == queued.checksum(Some(&content)))
        }
        Some(number) => {
            let content = content(row, 13)?;
            (
                content,
                sum == queued.checksum(None) && row.get::<_, i64>(17)? == body_sum(number, &content),
            )
        }
    };
    let identifiers = queued.identifiers.unwrap_or_default();
    Ok(is_whole.then(|| StoredMessage {
        order: queued.place,
        qos: queued.qos,
        retain: queued.retain,
        is_released: released != 0,
        identifiers: identifiers
            .split(',')
            .filter_map(|number| number.parse().ok())
            .collect(),
        topic: content.topic.into(),
        properties: content.properties.into(),
        payload: content.payload.into(),
        expires_at: content.expires_at,
    }))
}
