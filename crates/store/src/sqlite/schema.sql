-- What survives a restart of the broker. Times are milliseconds since the Unix epoch, sizes bytes, durations seconds.
-- Read it while the broker runs with `sqlite3 -readonly`; write it never: the broker keeps counts of what is in here.
-- `checksum` is FNV-1a (32 bits) over the other fields in their order; docs/store.md says how.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,                  -- created_at, next_session, was_closed
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,            -- given out once, never again
    client_id TEXT NOT NULL,
    device TEXT,                            -- who proved to be its owner
    checksum INTEGER NOT NULL,              -- of the above
    expiry_s INTEGER NOT NULL,              -- 4294967295: never
    disconnected_at INTEGER,                -- NULL: connected, or it was when the broker ended
    sent INTEGER NOT NULL,                  -- messages up to this place may have reached the client
    state_checksum INTEGER NOT NULL         -- of session, expiry_s, disconnected_at, sent
) STRICT;

CREATE TABLE subscriptions (
    session INTEGER NOT NULL,
    filter TEXT NOT NULL,
    options INTEGER NOT NULL,               -- the byte of the SUBSCRIBE packet: MQTT 5, 3.8.3.1
    identifier INTEGER NOT NULL,            -- 0: none
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, filter)
) STRICT, WITHOUT ROWID;

-- Messages that wait for a session. A small message for one session stands here; any other is one row of `bodies`.
CREATE TABLE queue (
    session INTEGER NOT NULL,
    place INTEGER NOT NULL,                 -- rising within the session
    size INTEGER NOT NULL,                  -- of topic, properties and payload
    body INTEGER,                           -- row of `bodies`; NULL: the last four columns hold the message
    qos INTEGER NOT NULL,                   -- of this delivery
    retain INTEGER NOT NULL,
    released INTEGER NOT NULL,              -- 1: PUBREC came, only PUBREL is left to send
    identifiers TEXT,                       -- subscription identifiers, with commas between
    checksum INTEGER NOT NULL,
    expires_at INTEGER,
    topic TEXT,
    properties BLOB,                        -- MQTT 5 properties as on the wire, without their length
    payload BLOB,
    PRIMARY KEY (session, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE bodies (
    body INTEGER PRIMARY KEY,
    expires_at INTEGER,
    topic TEXT NOT NULL,
    properties BLOB NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

-- QoS 2 packet identifiers that were received and not yet released by the sender.
CREATE TABLE received (
    session INTEGER NOT NULL,
    packet_id INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, packet_id)
) STRICT, WITHOUT ROWID;

-- Wills that wait; a will may outlive its session.
CREATE TABLE wills (
    session INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL,
    delay_s INTEGER NOT NULL,
    expiry_s INTEGER,                       -- of the message, from its publication on
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    expires_at INTEGER,
    topic TEXT NOT NULL,
    properties BLOB NOT NULL,
    payload BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;

CREATE TABLE retained (
    qos INTEGER NOT NULL,
    expires_at INTEGER,
    checksum INTEGER NOT NULL,
    topic TEXT PRIMARY KEY,
    properties BLOB NOT NULL,
    payload BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Sessions that are over and whose rows are still being taken away, a slice at a time.
CREATE TABLE ended (
    session INTEGER PRIMARY KEY
) STRICT;
