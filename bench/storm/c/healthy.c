/* Owns the healthy pair: a publisher and a subscriber with a device certificate each, QoS 1, so many messages a second, until
 * standard input ends. Prints one JSON line: when each message was due and how long after that it came, in microseconds; -1: it
 * did not come, -2: its PUBACK refused it.
 * Refuses to come back: a broker that closes one of the two has failed it. */

#define _GNU_SOURCE /* ppoll */
#include "link.h"
#include "packet.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 60000, PAYLOAD = 64 }; /* so that each message has a packet identifier of its own */
enum { MISSING = -1, REFUSED = -2 };
static const int64_t GRACE_US = 15000000;

struct half {
    struct link link;
    struct bytes in;
    const char *client_id;
    bool is_up;
};

static int64_t due[MOST], latency[MOST];
static int sent, acknowledged, received, again, window;
static bool is_subscribed;

static void send_bytes(struct half *half, struct bytes *bytes)
{
    link_write(&half->link, bytes->at, bytes->count);
    free(bytes->at);
}

static void came(const struct incoming *packet)
{
    uint32_t number;
    if (packet->size != PAYLOAD)
        return;
    memcpy(&number, packet->payload, sizeof number);
    if (number < MOST && latency[number] >= 0) {
        again++;
    } else if (number < MOST) {
        latency[number] = now_us() - due[number];
        received++;
    }
}

static bool handle(struct half *half, const struct incoming *packet)
{
    struct bytes answer = {0};
    switch (packet->kind) {
    case CONNACK:
        half->is_up = packet->code == 0;
        window = packet->receive_maximum;
        return packet->code == 0;
    case SUBACK:
        is_subscribed = packet->code < 128;
        return is_subscribed;
    case PUBACK:
        acknowledged++;
        if (packet->code >= 128) {
            latency[packet->packet_id - 1] = REFUSED;
            received++; /* its fate is known */
        }
        break;
    case PUBLISH:
        came(packet);
        if (packet->qos) {
            put_puback(&answer, packet->packet_id);
            send_bytes(half, &answer);
        }
        break;
    case DISCONNECT:
        fprintf(stderr, "healthy: DISCONNECT 0x%02x\n", packet->code);
        return false;
    }
    return true;
}

/* Everything that can be done now. False: the connection is over. */
static bool turn(struct half *half)
{
    uint8_t plain[16384];
    struct link *link = &half->link;
    bool was_open = link->state == LINK_OPEN;
    if (link->state == LINK_TCP)
        link->state = LINK_TLS;
    bool is_over = !link_fill(link, SIZE_MAX);
    if (!link_advance(link))
        return false;
    if (link->state == LINK_OPEN && !was_open) {
        struct bytes hello = {0};
        put_connect(&hello, &(struct connect){.client_id = half->client_id});
        send_bytes(half, &hello);
    }
    int got = 0;
    while (link->state == LINK_OPEN && (got = link_read(link, plain, sizeof plain)) > 0) {
        struct incoming packet;
        size_t length, from = 0;
        put_bytes(&half->in, plain, (size_t)got);
        while ((length = take_packet(half->in.at + from, half->in.count - from, &packet))) {
            if (!handle(half, &packet))
                return false;
            from += length;
        }
        half->in.count -= from;
        memmove(half->in.at, half->in.at + from, half->in.count);
    }
    return !is_over && got >= 0 && link_flush(link, SIZE_MAX);
}

static bool wait_and_turn(struct half *halves, int64_t until, bool *is_asked_to_end)
{
    struct pollfd fds[3] = {{.fd = 0, .events = *is_asked_to_end ? 0 : POLLIN}};
    if (*is_asked_to_end)
        fds[0].fd = -1;
    for (int i = 0; i < 2; i++) {
        fds[i + 1].fd = halves[i].link.fd;
        fds[i + 1].events = POLLIN | (link_waiting(&halves[i].link) || halves[i].link.state == LINK_TCP ? POLLOUT : 0);
    }
    int64_t left = until - now_us();
    struct timespec timeout = {.tv_sec = left > 0 ? left / 1000000 : 0, .tv_nsec = left > 0 ? left % 1000000 * 1000 : 0};
    ppoll(fds, 3, &timeout, NULL);
    if (fds[0].revents)
        *is_asked_to_end = true;
    for (int i = 0; i < 2; i++)
        if (fds[i + 1].revents && !turn(&halves[i])) {
            fprintf(stderr, "healthy: the broker closed the %s\n", i ? "publisher" : "subscriber");
            return false;
        }
    return true;
}

static void publish(struct half *half, const char *topic)
{
    uint8_t payload[PAYLOAD] = {0};
    uint32_t number = (uint32_t)sent;
    struct bytes packet = {0};
    memcpy(payload, &number, sizeof number);
    put_publish(&packet, &(struct publish){.topic = topic, .payload = payload, .size = PAYLOAD, .qos = 1,
                                           .packet_id = (uint16_t)(sent + 1)});
    send_bytes(half, &packet);
    link_flush(&half->link, SIZE_MAX);
    sent++;
}

static void print(bool is_whole)
{
    printf("{\"closed\": %s, \"acknowledged\": %d, \"again\": %d, \"messages\": [", is_whole ? "false" : "true",
           acknowledged, again);
    for (int i = 0; i < sent; i++)
        printf("%s[%lld, %lld]", i ? ", " : "", (long long)due[i], (long long)latency[i]);
    puts("]}");
}

int main(int count, char **words)
{
    if (count != 5) {
        fputs("usage: healthy PORT FOLDER DEVICE RATE\n", stderr);
        return 2;
    }
    int port = atoi(words[1]);
    int64_t period = 1000000 / atoi(words[4]);
    char topic[128], ids[2][128];
    const char *filter = topic;
    snprintf(topic, sizeof topic, "devices/%s/pair", words[3]);
    SSL_CTX *context = link_context(words[2], true);
    struct half halves[2] = {{.client_id = ids[0]}, {.client_id = ids[1]}};
    for (int i = 0; i < 2; i++) {
        snprintf(ids[i], sizeof ids[i], "%s:%d", words[3], i);
        if (!link_dial(&halves[i].link, context, port, 0, false, false))
            return 1;
    }
    for (int i = 0; i < MOST; i++)
        latency[i] = MISSING;
    bool is_ending = false, is_asked = false;
    int64_t patience = now_us() + GRACE_US;
    while (!is_subscribed || !halves[1].is_up) {
        if (now_us() > patience || !wait_and_turn(halves, patience, &is_ending))
            return 1;
        if (halves[0].is_up && !is_asked) {
            struct bytes subscribe = {0};
            put_subscribe(&subscribe, 1, &filter, 1, 1);
            send_bytes(&halves[0], &subscribe);
            link_flush(&halves[0].link, SIZE_MAX);
            is_asked = true;
        }
    }
    puts("ready");
    fflush(stdout);
    int64_t next = now_us();
    bool is_whole = true;
    while (is_whole && !is_ending && sent < MOST) {
        bool has_room = sent - acknowledged < window; /* a message that waits for room was due all the same */
        if (has_room && now_us() >= next) {
            due[sent] = next;
            next += period;
            publish(&halves[1], topic);
        }
        is_whole = wait_and_turn(halves, has_room ? next : now_us() + period, &is_ending);
    }
    patience = now_us() + GRACE_US;
    while (is_whole && now_us() < patience && (received < sent || acknowledged < sent))
        is_whole = wait_and_turn(halves, patience, &is_ending);
    print(is_whole);
    return 0;
}
