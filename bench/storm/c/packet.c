#include "packet.h"

#include <stdlib.h>
#include <string.h>

static const char FILLING[100] __attribute__((nonstring)) =
    "01234567890123456789012345678901234567890123456789"
    "01234567890123456789012345678901234567890123456789";

void put_bytes(struct bytes *to, const void *from, size_t count)
{
    if (to->count + count > to->room) {
        to->room = (to->count + count) * 2;
        to->at = realloc(to->at, to->room);
        if (!to->at)
            abort();
    }
    if (from)
        memcpy(to->at + to->count, from, count);
    else
        memset(to->at + to->count, 'x', count);
    to->count += count;
}

static void put_byte(struct bytes *to, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    put_bytes(to, &byte, 1);
}

static void put_two(struct bytes *to, size_t value)
{
    put_byte(to, (unsigned)(value >> 8 & 255));
    put_byte(to, (unsigned)(value & 255));
}

static void put_text(struct bytes *to, const char *text)
{
    size_t length = strlen(text);
    put_two(to, length);
    put_bytes(to, text, length);
}

static void put_length(struct bytes *to, size_t value)
{
    do {
        unsigned byte = value & 127;
        value >>= 7;
        put_byte(to, value ? byte | 128 : byte);
    } while (value);
}

static size_t length_of_length(size_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

enum { PROPERTY = 1 + 2 + 1 + 2 + sizeof FILLING }; /* bytes of one user property: identifier, name of one letter, value */

static void put_user_properties(struct bytes *to, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        put_byte(to, 0x26);
        put_text(to, "p");
        put_two(to, sizeof FILLING);
        put_bytes(to, FILLING, sizeof FILLING);
    }
}

void put_connect(struct bytes *to, const struct connect *connect)
{
    size_t user = connect->user_properties * PROPERTY;
    size_t properties = user + (connect->is_kept ? 5 : 0);
    const char *will = "storm/will";
    size_t body = 10 + length_of_length(properties) + properties + 2 + strlen(connect->client_id);
    if (connect->will_size)
        body += length_of_length(user) + user + 2 + strlen(will) + 2 + connect->will_size;
    put_byte(to, 0x10);
    put_length(to, body);
    put_text(to, "MQTT");
    put_byte(to, 5);
    put_byte(to, (connect->is_kept ? 0 : 2) | (connect->will_size ? 4 : 0));
    put_two(to, 0); /* no keep-alive */
    put_length(to, properties);
    if (connect->is_kept)
        put_bytes(to, "\x11\0\0\x0e\x10", 5); /* session expiry: 3,600 s */
    put_user_properties(to, connect->user_properties);
    put_text(to, connect->client_id);
    if (connect->will_size) {
        put_length(to, user);
        put_user_properties(to, connect->user_properties);
        put_text(to, will);
        put_two(to, connect->will_size);
        put_bytes(to, NULL, connect->will_size);
    }
}

void put_publish(struct bytes *to, const struct publish *publish)
{
    size_t properties = publish->user_properties * PROPERTY;
    put_byte(to, 0x30u | (unsigned)publish->qos << 1 | publish->is_retained);
    put_length(to, 2 + strlen(publish->topic) + (publish->qos ? 2 : 0) + length_of_length(properties) + properties
                       + publish->size);
    put_text(to, publish->topic);
    if (publish->qos)
        put_two(to, publish->packet_id);
    put_length(to, properties);
    put_user_properties(to, publish->user_properties);
    put_bytes(to, publish->payload, publish->size);
}

void put_subscribe(struct bytes *to, uint16_t packet_id, const char *const *filters, size_t count, int qos)
{
    size_t body = 3;
    for (size_t i = 0; i < count; i++)
        body += 3 + strlen(filters[i]);
    put_byte(to, 0x82);
    put_length(to, body);
    put_two(to, packet_id);
    put_byte(to, 0);
    for (size_t i = 0; i < count; i++) {
        put_text(to, filters[i]);
        put_byte(to, (unsigned)qos);
    }
}

void put_puback(struct bytes *to, uint16_t packet_id)
{
    put_bytes(to, "\x40\x02", 2);
    put_two(to, packet_id);
}

void put_disconnect(struct bytes *to)
{
    put_bytes(to, "\xe0\0", 2);
}

static size_t two(const uint8_t *at)
{
    return (size_t)at[0] << 8 | at[1];
}

/* The value of a variable byte integer that is all there; `at` moves on. */
static size_t take_length(const uint8_t **at)
{
    size_t value = 0;
    for (int shift = 0; shift < 28; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (size_t)(byte & 127) << shift;
        if (!(byte & 128))
            break;
    }
    return value;
}

static int receive_maximum(const uint8_t *at, const uint8_t *end)
{
    static const uint8_t SIZES[256] = {[0x11] = 4, [0x13] = 2, [0x21] = 2, [0x22] = 2, [0x24] = 1, [0x25] = 1,
                                       [0x27] = 4, [0x28] = 1, [0x29] = 1, [0x2a] = 1};
    while (at < end) {
        uint8_t property = *at++;
        if (property == 0x21)
            return (int)two(at);
        if (property == 0x26)
            at += 2 + two(at);
        at += SIZES[property] ? SIZES[property] : 2 + two(at);
    }
    return 65535;
}

size_t take_packet(const uint8_t *bytes, size_t count, struct incoming *found)
{
    size_t header = 2;
    while (header < count && header < 5 && bytes[header - 1] & 128)
        header++;
    if (count < header || (header == count && bytes[header - 1] & 128))
        return 0;
    const uint8_t *at = bytes + 1;
    size_t body = take_length(&at);
    if (count < header + body)
        return 0;
    const uint8_t *end = at + body;
    *found = (struct incoming){.kind = bytes[0] >> 4, .qos = bytes[0] >> 1 & 3};
    switch (found->kind) {
    case CONNACK: {
        found->code = at[1];
        at += 2;
        size_t properties = take_length(&at);
        found->receive_maximum = receive_maximum(at, at + properties);
        break;
    }
    case PUBLISH: {
        at += 2 + two(at);
        if (found->qos) {
            found->packet_id = (uint16_t)two(at);
            at += 2;
        }
        size_t properties = take_length(&at);
        found->payload = at + properties;
        found->size = (size_t)(end - found->payload);
        break;
    }
    case PUBACK:
        found->packet_id = (uint16_t)two(at);
        found->code = body > 2 ? at[2] : 0;
        break;
    case SUBACK: {
        at += 2;
        size_t properties = take_length(&at);
        for (at += properties; at < end; at++)
            if (*at > found->code)
                found->code = *at;
        break;
    }
    case DISCONNECT:
        found->code = body ? at[0] : 0;
        break;
    }
    return header + body;
}
