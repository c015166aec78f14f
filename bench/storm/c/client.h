/* Owns one client of a storm: it dials, connects, subscribes, publishes, reads or refuses to, and comes back, as the plan says.
 * Refuses to know the others, and to wait. */
#pragma once

#include "link.h"
#include "packet.h"

enum client_state { CLIENT_AWAY, CLIENT_DIALLING, CLIENT_HELD, CLIENT_UP, CLIENT_GONE };

struct client {
    struct link link;
    struct bytes in, drops; /* `drops`: MQTT that leaves one byte at a time */
    size_t dropped;
    int number;
    enum client_state state;
    int64_t due;            /* AWAY: when it dials; UP: when it reads or trickles next */
    int64_t dialled;        /* when it last did */
    long turn;              /* which dialling of all that was */
    int64_t began;          /* when it first was up: its messages count from then */
    int64_t published, unacknowledged;
    int subscribed;         /* filters that were asked for */
    int window;
};

struct tally {
    long dialled, handshakes, resumed, up, refused, closed, published, acknowledged, turned_away, received;
    long long bytes, slowest_us; /* `slowest_us`: from dialling to being up */
    int under_way, ready, gone;
};

extern struct tally tally;

void client_start(struct client *client, int number);

/* Once a millisecond: what is due by the clock. */
void client_tick(struct client *client, int64_t now);

/* The socket has something; `is_over`: the broker has closed it. */
void client_event(struct client *client, bool readable, bool writable, bool is_over);

/* What epoll is to be asked for after either. */
bool client_wants_to_write(const struct client *client);
bool client_reads_at_will(const struct client *client);
