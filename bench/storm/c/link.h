/* Owns one connection: TCP from a chosen loopback address, TLS 1.3 with a device certificate, and what waits to leave.
 * Refuses to know MQTT, and to wait: every call returns at once. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum link_state { LINK_CLOSED, LINK_TCP, LINK_TLS, LINK_OPEN };

struct link {
    int fd;
    enum link_state state;
    SSL *ssl;
    SSL_SESSION *ticket; /* of the last connection, NULL: none; owned */
    bool is_resumed;
};

/* Microseconds of the monotonic clock, the one of Python's time.monotonic(). */
int64_t now_us(void);

/* A context for FOLDER/{ca,cert,key}.pem; ends the program with a message when that cannot be. The server's certificate is
 * verified with `verify`; an attacker would not spend the time. */
SSL_CTX *link_context(const char *folder, bool verify);

/* Dial 127.0.0.1:port from the address `source` (host order, 0: any). `small_window` keeps the receive buffer at 4 KiB.
 * With `resume` the ticket of the last connection is used. False: there is no socket or no address left. */
bool link_dial(struct link *link, SSL_CTX *context, int port, uint32_t source, bool small_window, bool resume);

/* Take up to `most` bytes from the socket. False: it is over. */
bool link_fill(struct link *link, size_t most);

/* Go on with the handshake if there is one. False: it failed. */
bool link_advance(struct link *link);

/* Plain bytes that have come, at most `room`; 0: none now, -1: it is over. */
int link_read(struct link *link, uint8_t *into, int room);

/* Hand over plain bytes; they leave with `link_flush`. */
void link_write(struct link *link, const uint8_t *bytes, size_t count);

/* Bytes of TLS that wait to leave. */
size_t link_waiting(const struct link *link);

/* Send up to `most` of them. False: it is over. */
bool link_flush(struct link *link, size_t most);

/* Let go, without a word to the other side. */
void link_close(struct link *link);
