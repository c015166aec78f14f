/* One device's life: connect, subscribe, publish at QoS 1, get the message back, leave; and what that took, as JSON.
 * usage: PROGRAM HOST PORT DEVICE [psk=IDENTITY:HEX] [ca=FILE cert=FILE key=FILE] [version=1.2|1.3] [suite=NAME]
 *                [fragment=N] [limit=N] [payload=N] [again=1] */
#define _GNU_SOURCE
#include "client.h"
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the heap: every allocation of the process, the libraries' too, goes through here (glibc lets us) --- */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);
static size_t heap, heap_peak;

static void *counted(void *block)
{
    if (block) heap += malloc_usable_size(block);
    if (heap > heap_peak) heap_peak = heap;
    return block;
}
static void uncounted(void *block)
{
    if (block) heap -= malloc_usable_size(block);
}
void *malloc(size_t size) { return counted(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }
void *realloc(void *block, size_t size) { uncounted(block); return counted(__libc_realloc(block, size)); }
void *memalign(size_t align, size_t size) { return counted(__libc_memalign(align, size)); }
void *aligned_alloc(size_t align, size_t size) { return counted(__libc_memalign(align, size)); }
int posix_memalign(void **block, size_t align, size_t size)
{
    *block = counted(__libc_memalign(align, size));
    return *block ? 0 : ENOMEM;
}
void free(void *block) { uncounted(block); __libc_free(block); }

/* --- the socket, and what goes over it --- */
static int descriptor = -1;
static struct { size_t sent, received, sent_records, received_records, largest, round_trips; int sending; } wire;
static int record_limit;
/* where we are in the stream of records that arrives: bytes of a header seen, bytes of a payload to come */
static struct { unsigned char header[5]; size_t seen, left; } incoming;

void fail(const char *what, int code)
{
    fprintf(stderr, "error: %s (%d)\n", what, code);
    exit(1);
}

int link_open(const struct options *options)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    int one = 1;
    if (getaddrinfo(options->host, options->port, &hints, &found)) return -1;
    descriptor = socket(found->ai_family, SOCK_STREAM, 0);
    if (descriptor < 0 || connect(descriptor, found->ai_addr, found->ai_addrlen)) return -1;
    freeaddrinfo(found);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    memset(&wire, 0, sizeof wire);
    memset(&incoming, 0, sizeof incoming);
    record_limit = options->limit;
    return 0;
}

static void look_at(const unsigned char *bytes, size_t count)
{
    for (; count; bytes++, count--) {
        if (incoming.left) { incoming.left--; continue; }
        incoming.header[incoming.seen++] = *bytes;
        if (incoming.seen < 5) continue;
        incoming.seen = 0;
        incoming.left = incoming.header[3] << 8 | incoming.header[4];
        wire.received_records++;
        if (incoming.left > wire.largest) wire.largest = incoming.left;
    }
}

int link_send(const void *bytes, size_t count)
{
    const unsigned char *at = bytes, *end = at + count;
    ssize_t sent = send(descriptor, bytes, count, MSG_NOSIGNAL);
    if (sent <= 0) return -1;
    /* nobody waits for an answer to ChangeCipherSpec; in TLS 1.3 it goes alone (RFC 8446, D.4) */
    if (count && *at != 20) wire.sending = 1;
    wire.sent += sent;
    /* libraries hand over whole records */
    for (; at + 5 <= end; at += 5 + (at[3] << 8 | at[4])) wire.sent_records++;
    return (int)sent;
}

int link_receive(void *bytes, size_t room)
{
    ssize_t received = recv(descriptor, bytes, room, 0);
    if (received <= 0) return -1;
    if (wire.sending) wire.round_trips++;
    wire.sending = 0;
    wire.received += received;
    look_at(bytes, received);
    /* what protection adds is at most 1 + 16 + 16 + 32 + 16 bytes with the suites of today */
    if (record_limit && wire.largest > (size_t)record_limit + 81) fail("record does not fit our buffer", (int)wire.largest);
    return (int)received;
}

void link_close(void)
{
    close(descriptor);
    descriptor = -1;
}

int unhex(const char *text, unsigned char *bytes, size_t room)
{
    size_t count = strlen(text) / 2;
    if (strlen(text) % 2 || count > room) return -1;
    for (size_t i = 0; i < count; i++)
        if (sscanf(text + 2 * i, "%2hhx", bytes + i) != 1) return -1;
    return (int)count;
}

/* --- MQTT 3.1.1, as little as there is --- */
static unsigned char *put_text(unsigned char *at, const char *text)
{
    size_t length = strlen(text);
    *at++ = length >> 8;
    *at++ = length & 255;
    memcpy(at, text, length);
    return at + length;
}

static void send_packet(unsigned char first, const unsigned char *body, size_t length)
{
    unsigned char *packet = malloc(length + 5), *at = packet;
    size_t rest = length;
    *at++ = first;
    do {
        *at = rest & 127;
        rest >>= 7;
        if (rest) *at |= 128;
        at++;
    } while (rest);
    memcpy(at, body, length);
    if (tls_write(packet, at + length - packet)) fail("message cannot be sent", 0);
    free(packet);
}

static void read_exactly(unsigned char *bytes, size_t count)
{
    while (count) {
        int got = tls_read(bytes, count);
        if (got <= 0) fail("connection ended", got);
        bytes += got;
        count -= got;
    }
}

/* The type of the next packet; its body is thrown away, its length is told. */
static int next_packet(size_t *length)
{
    unsigned char byte, waste[256];
    int shift = 0;
    unsigned char first;
    read_exactly(&first, 1);
    *length = 0;
    do {
        read_exactly(&byte, 1);
        *length |= (size_t)(byte & 127) << shift;
        shift += 7;
    } while (byte & 128);
    for (size_t left = *length; left;) {
        size_t part = left < sizeof waste ? left : sizeof waste;
        read_exactly(waste, part);
        if (left == *length && first >> 4 == 2 && waste[1]) fail("CONNACK says no", waste[1]);
        left -= part;
    }
    return first >> 4;
}

static void converse(const struct options *options)
{
    char topic[128];
    size_t length, room = 256 + options->payload;
    int acknowledged = 0, arrived = 0;
    unsigned char *body = malloc(room), *at = body;
    snprintf(topic, sizeof topic, "devices/%s/echo", options->device);
    at = put_text(at, "MQTT");
    memcpy(at, "\x04\x02\x00\x3c", 4);
    at = put_text(at + 4, options->device);
    send_packet(0x10, body, at - body);
    if (next_packet(&length) != 2) fail("no CONNACK", 0);
    memcpy(body, "\x00\x01", 2);
    at = put_text(body + 2, topic);
    *at++ = 0;
    send_packet(0x82, body, at - body);
    if (next_packet(&length) != 9) fail("no SUBACK", 0);
    at = put_text(body, topic);
    memcpy(at, "\x00\x02", 2);
    memset(at + 2, '7', options->payload);
    send_packet(0x32, body, at + 2 + options->payload - body);
    while (!acknowledged || !arrived) {
        int kind = next_packet(&length);
        if (kind == 4) acknowledged = 1;
        else if (kind == 3 && length >= (size_t)options->payload) arrived = 1;
        else fail("packet that nobody asked for", kind);
    }
    send_packet(0xe0, body, 0);
    free(body);
}

static void live(const struct options *options, size_t base)
{
    struct facts facts = { "", "", 0 };
    size_t handshake[6];
    heap_peak = heap;
    if (link_open(options)) fail("no connection", errno);
    if (tls_open(options, &facts)) fail("handshake failed", 0);
    handshake[0] = wire.sent, handshake[1] = wire.received, handshake[2] = wire.round_trips;
    handshake[3] = wire.sent_records, handshake[4] = wire.received_records, handshake[5] = wire.largest;
    wire.largest = 0;
    converse(options);
    printf("{\"library\": \"%s\", \"version\": \"%s\", \"suite\": \"%s\", \"resumed\": %s, \"handshake\": {\"sent\": %zu, "
           "\"received\": %zu, \"round_trips\": %zu, \"records_sent\": %zu, \"records_received\": %zu, \"largest_record\": %zu}, \"session\": {\"sent\": %zu, "
           "\"received\": %zu, \"largest_record\": %zu}, \"heap_peak\": %zu}\n",
           tls_library, facts.version, facts.suite, facts.resumed ? "true" : "false", handshake[0], handshake[1], handshake[2],
           handshake[3], handshake[4], handshake[5], wire.sent, wire.received, wire.largest, heap_peak - base);
    tls_close();
    link_close();
}

int main(int count, char **words)
{
    struct options options = { 0 };
    size_t base;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count < 4) fail("give HOST PORT DEVICE", count);
    base = heap;
    options.host = words[1], options.port = words[2], options.device = words[3];
    for (int i = 4; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (!value) fail(words[i], i);
        *value++ = 0;
        if (!strcmp(words[i], "psk")) {
            char *colon = strrchr(value, ':');
            if (!colon) fail("psk is not IDENTITY:HEX", i);
            *colon = 0;
            options.identity = value, options.psk = colon + 1;
        } else if (!strcmp(words[i], "ca")) options.ca = value;
        else if (!strcmp(words[i], "cert")) options.certificate = value;
        else if (!strcmp(words[i], "key")) options.key = value;
        else if (!strcmp(words[i], "version")) options.version = value;
        else if (!strcmp(words[i], "suite")) options.suite = value;
        else if (!strcmp(words[i], "fragment")) options.max_fragment = atoi(value);
        else if (!strcmp(words[i], "limit")) options.limit = atoi(value);
        else if (!strcmp(words[i], "payload")) options.payload = atoi(value);
        else if (!strcmp(words[i], "again")) options.again = atoi(value);
        else fail(words[i], i);
    }
    live(&options, base);
    if (options.again) live(&options, base);
    return 0;
}
