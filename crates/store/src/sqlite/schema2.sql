-- What version 2 added.

-- Subscriptions that are still owed retained messages: those that match, in topic order, behind the topic `reached`.
CREATE TABLE owed (
    session INTEGER NOT NULL,
    filter TEXT NOT NULL,                   -- as in subscriptions
    reached TEXT NOT NULL,                  -- empty: none was given yet
    checksum INTEGER NOT NULL,
    PRIMARY KEY (session, filter)
) STRICT, WITHOUT ROWID;

-- Whose store it is, one row; none before a broker has had it.
CREATE TABLE fleet (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
