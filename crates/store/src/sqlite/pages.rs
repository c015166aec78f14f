//! The thread that reads what waits for a session, a page at a time, beside the writer.
//!
//! Refuses to know who asked.

use super::fault::Fault;
use super::inbox::Inbox;
use super::read::{MESSAGES_OF, message};
use super::rows::int;
use crate::{Page, PageRequest, Seq, StoredMessage};
use rusqlite::{Connection, Statement, params};

/// Answer requests until the store is closed.
pub(super) fn run(conn: Connection, inbox: &Inbox) {
    if let Err(Fault::Fatal(sentence)) = serve(&conn, inbox) {
        inbox.fail(sentence);
    }
}

fn serve(conn: &Connection, inbox: &Inbox) -> Result<(), Fault> {
    let mut statement = conn.prepare(MESSAGES_OF)?;
    while let Some(request) = inbox.next_request() {
        // Before the statement sees the file: what is safe now is in it.
        let as_of = inbox.watermark();
        let page = read(&mut statement, request, as_of)?;
        inbox.answer(page);
    }
    Ok(())
}

fn read(statement: &mut Statement<'_>, request: PageRequest, as_of: Seq) -> Result<Page, Fault> {
    let mut page = Page {
        session: request.session,
        from: request.from,
        messages: Vec::new(),
        is_last: true,
        as_of,
    };
    let mut bytes = 0;
    let mut rows = statement.query(params![int(request.session.0), int(request.from.0)])?;
    while let Some(row) = rows.next()? {
        let is_full = page.messages.len() as u64 >= u64::from(request.max_messages) || bytes >= request.max_bytes;
        if is_full && !page.messages.is_empty() {
            page.is_last = false;
            break;
        }
        let message = message(row).map_err(Fault::Fatal)?;
        bytes += size(&message);
        page.messages.push(message);
    }
    Ok(page)
}

fn size(message: &StoredMessage) -> u64 {
    (message.topic.len() + message.properties.len() + message.payload.len()) as u64
}
