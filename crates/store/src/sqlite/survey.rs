//! One pass over the queue at start: how much waits for each session, who shares a body, what is to be taken away.
//!
//! Refuses to know what the messages are: it reads no topic and no payload.

use super::ledger::{Counts, Ledger};
use super::rows::uint;
use crate::{Order, SessionId};
use rusqlite::{Connection, Error};
use std::collections::{HashMap, HashSet, VecDeque};

/// What waits for one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub session: SessionId,
    pub first: Order,
    pub last: Order,
    pub count: u64,
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct Survey {
    /// In the order of sessions.
    pub backlogs: Vec<Backlog>,
    pub ledger: Ledger,
    pub next_session: u64,
}

pub(super) fn survey(conn: &Connection) -> Result<Survey, Error> {
    let sessions: HashSet<i64> = numbers(conn, "SELECT session FROM sessions")?.into_iter().collect();
    let ended: VecDeque<SessionId> = numbers(conn, "SELECT session FROM ended")?
        .into_iter()
        .map(|session| SessionId(uint(session)))
        .collect();
    let mut counts = Counts {
        sessions: sessions.len() as u64,
        retained: uint(number(conn, "SELECT count(*) FROM retained")?),
        ..Counts::default()
    };
    let mut backlogs: Vec<Backlog> = Vec::new();
    let mut receivers: HashMap<i64, u32> = HashMap::new();
    let mut statement = conn.prepare("SELECT session, place, size, body FROM queue ORDER BY session, place")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (session, place, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(body) = row.get::<_, Option<i64>>(3)? {
            *receivers.entry(body).or_default() += 1;
        }
        counts.messages += 1;
        counts.bytes += uint(size);
        let (session_id, place) = (SessionId(uint(session)), Order(uint(place)));
        match backlogs.last_mut() {
            Some(backlog) if backlog.session == session_id => {
                backlog.last = place;
                backlog.count += 1;
                backlog.bytes += uint(size);
            }
            _ if sessions.contains(&session) => backlogs.push(Backlog {
                session: session_id,
                first: place,
                last: place,
                count: 1,
                bytes: uint(size),
            }),
            // On its way out, or a case for `check`.
            _ => {}
        }
    }
    receivers.retain(|_, count| *count > 1);
    let last_body = number(conn, "SELECT coalesce(max(body), 0) FROM bodies")?;
    // The row of `meta` says it; the others hold when somebody has been at the file.
    let next_session = number(
        conn,
        "SELECT max(coalesce((SELECT value FROM meta WHERE name = 'next_session'), 1),
                    1 + coalesce((SELECT max(session) FROM sessions), 0), 1 + coalesce((SELECT max(session) FROM queue), 0),
                    1 + coalesce((SELECT max(session) FROM wills), 0), 1 + coalesce((SELECT max(session) FROM received), 0),
                    1 + coalesce((SELECT max(session) FROM subscriptions), 0), 1 + coalesce((SELECT max(session) FROM ended), 0))",
    )?;
    Ok(Survey {
        backlogs,
        ledger: Ledger::new(counts, receivers, last_body, ended, uint(next_session)),
        next_session: uint(next_session),
    })
}

fn number(conn: &Connection, sql: &str) -> Result<i64, Error> {
    conn.query_row(sql, [], |row| row.get(0))
}

fn numbers(conn: &Connection, sql: &str) -> Result<Vec<i64>, Error> {
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}
