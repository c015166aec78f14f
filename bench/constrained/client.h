/* What the three clients share: options, a counted socket, the heap's peak, and one small MQTT conversation.
 * It refuses to know any TLS library: each of them fills in `tls_*`. */
#ifndef CLIENT_H
#define CLIENT_H
#include <stddef.h>

struct options {
    const char *host, *port, *device;
    const char *identity, *psk;          /* a key in hexadecimal digits, or NULL */
    const char *ca, *certificate, *key;  /* PEM files, or NULL */
    const char *version;                 /* "1.2", "1.3", or NULL: the library's choice */
    const char *suite;                   /* in the library's own words, or NULL: its choice */
    int max_fragment;                    /* RFC 6066: 512, 1024, 2048, 4096; RFC 8449 with GnuTLS; 0: not asked for */
    int limit;                           /* bytes of a record's payload that our buffers take; 0: what TLS allows */
    int payload;                         /* bytes of the message that is sent and received */
    int again;                           /* connect twice, the second time resumed */
};

struct facts {
    const char *version, *suite;
    int resumed;
};

/* A counted socket: `link_send` and `link_receive` are what the library is given. Both return -1 when it is over. */
int link_open(const struct options *options);
int link_send(const void *bytes, size_t count);
int link_receive(void *bytes, size_t room);
void link_close(void);

/* Each client: 0 when all is well. `tls_open` ends with the handshake and says what came of it. */
extern const char *const tls_library;
int tls_open(const struct options *options, struct facts *facts);
int tls_write(const void *bytes, size_t count);
int tls_read(void *bytes, size_t room);
void tls_close(void);

int unhex(const char *text, unsigned char *bytes, size_t room); /* how many, -1 when it is no hexadecimal text */
void fail(const char *what, int code); /* one line on stderr, status 1 */
#endif
