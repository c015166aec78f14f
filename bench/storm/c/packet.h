/* Owns the bytes of MQTT 5: the packets a client sends, and the few fields of a broker's that a load generator needs.
 * Refuses to know connections, and to judge what it reads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *at;
    size_t count, room;
};

struct connect {
    const char *client_id;
    bool is_kept;         /* clean start 0, and a session that outlives the connection by an hour */
    size_t will_size;     /* bytes of payload, 0: no will */
    size_t user_properties; /* of 100 bytes each, on CONNECT and on the will */
};

struct publish {
    const char *topic;
    const uint8_t *payload;
    size_t size;
    int qos;
    bool is_retained;
    uint16_t packet_id;
    size_t user_properties;
};

enum kind { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9, DISCONNECT = 14 };

struct incoming {
    enum kind kind;
    int code;             /* CONNACK, PUBACK, DISCONNECT; SUBACK: the worst */
    int qos;              /* PUBLISH */
    uint16_t packet_id;   /* PUBLISH at QoS 1, PUBACK */
    int receive_maximum;  /* CONNACK: how many the server takes, 65535 where it does not say */
    const uint8_t *payload;
    size_t size;
};

/* Append a packet. */
void put_connect(struct bytes *to, const struct connect *connect);
void put_publish(struct bytes *to, const struct publish *publish);
void put_subscribe(struct bytes *to, uint16_t packet_id, const char *const *filters, size_t count, int qos);
void put_puback(struct bytes *to, uint16_t packet_id);
void put_disconnect(struct bytes *to);
void put_bytes(struct bytes *to, const void *from, size_t count);

/* The packet at the start of `bytes`: its length, 0 when it is not all there. */
size_t take_packet(const uint8_t *bytes, size_t count, struct incoming *found);
