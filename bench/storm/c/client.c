#include "client.h"

#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { AT_ONCE = 100, WAITING = 256 * 1024, EACH_READ_US = 100000, PATIENCE_US = 10000000 };
static const uint32_t LOOPBACK = 0x7f000001;

struct tally tally;
static SSL_CTX **contexts;

static SSL_CTX *context_of(int number)
{
    char folder[600];
    int device = number % plan.devices;
    if (!contexts)
        contexts = calloc((size_t)plan.devices, sizeof *contexts);
    if (!contexts[device]) {
        snprintf(folder, sizeof folder, "%s/storm-%d", plan.folder, plan.first_device + device);
        contexts[device] = link_context(folder, false);
    }
    return contexts[device];
}

static void fill_in(char *into, size_t room, const char *words, int number, int64_t message)
{
    size_t count = 0;
    for (; *words && count + 24 < room; words++) {
        if (words[0] == '%' && words[1] == 'n')
            count += (size_t)snprintf(into + count, room - count, "%d", number), words++;
        else if (words[0] == '%' && words[1] == 'i')
            count += (size_t)snprintf(into + count, room - count, "%lld", (long long)message), words++;
        else
            into[count++] = *words;
    }
    into[count] = 0;
}

static void say(struct client *client, struct bytes *bytes)
{
    if (plan.trickle == TRICKLE_RECORD)
        put_bytes(&client->drops, bytes->at, bytes->count);
    else
        link_write(&client->link, bytes->at, bytes->count);
    free(bytes->at);
}

static void go_away(struct client *client, int64_t wait)
{
    tally.under_way -= client->state == CLIENT_DIALLING;
    link_close(&client->link);
    client->in.count = client->drops.count = client->dropped = 0;
    client->state = CLIENT_AWAY;
    client->subscribed = 0;
    client->unacknowledged = 0;
    client->due = now_us() + wait;
}

static void leave_for_good(struct client *client)
{
    struct bytes bye = {0};
    put_disconnect(&bye);
    say(client, &bye);
    link_flush(&client->link, SIZE_MAX);
    go_away(client, 0);
    client->state = CLIENT_GONE;
    tally.gone++;
}

static void dial(struct client *client)
{
    uint32_t turn = (uint32_t)(plan.hold || plan.names == NAMES_FRESH ? client->turn : client->number);
    uint32_t source = plan.is_spread ? LOOPBACK + 65536 + turn % 60000 * 4 : LOOPBACK + 8;
    bool small = plan.reading != READING_ALL;
    if (!link_dial(&client->link, context_of(client->number), plan.port, source, small, plan.resumes)) {
        client->due = now_us() + 100000;
        return;
    }
    client->state = CLIENT_DIALLING;
    client->dialled = now_us();
    client->turn = ++tally.dialled;
    tally.under_way++;
}

static void greet(struct client *client)
{
    char name[64];
    struct bytes hello = {0};
    int device = plan.first_device + client->number % plan.devices;
    if (plan.names == NAMES_SAME)
        snprintf(name, sizeof name, "storm-%d:same", device);
    else
        snprintf(name, sizeof name, "storm-%d:%d-%ld", device, getpid(), /* two steps of a storm do not share names */
                 plan.names == NAMES_FRESH ? client->turn : client->number);
    put_connect(&hello, &(struct connect){.client_id = name, .is_kept = plan.is_kept, .will_size = plan.will,
                                          .user_properties = plan.connect_properties});
    say(client, &hello);
}

/* Bits of `number`, the least last: `a` or `+` on each level. */
static void bomb(char *into, unsigned number)
{
    for (int level = plan.bomb_levels - 1; level >= 0; level--) {
        *into++ = number >> level & 1 ? '+' : 'a';
        *into++ = level ? '/' : 0;
    }
}

/* Ask for the next filters. False: all have been asked for. */
static bool subscribe(struct client *client)
{
    char texts[AT_ONCE][128];
    const char *filters[AT_ONCE];
    struct bytes packet = {0};
    int all = plan.bomb_filters ? plan.bomb_filters : plan.subscribe ? 1 : 0, count = 0;
    for (; count < AT_ONCE && client->subscribed < all; count++, client->subscribed++) {
        filters[count] = texts[count];
        if (plan.bomb_filters)
            bomb(texts[count], (unsigned)(client->number * plan.bomb_filters + client->subscribed));
        else
            fill_in(texts[count], sizeof texts[count], plan.subscribe, client->number, 0);
    }
    if (!count)
        return false;
    put_subscribe(&packet, (uint16_t)client->subscribed, filters, (size_t)count, plan.qos);
    say(client, &packet);
    return true;
}

static void arrive(struct client *client)
{
    int64_t now = now_us();
    if (now - client->dialled > tally.slowest_us)
        tally.slowest_us = now - client->dialled;
    tally.up++;
    tally.under_way -= client->state == CLIENT_DIALLING;
    tally.ready += client->began == 0;
    client->state = CLIENT_UP;
    client->due = now;
    if (!client->began)
        client->began = now;
    if (plan.after == AFTER_DROP)
        go_away(client, plan.redial_us);
    else if (plan.after == AFTER_AGAIN) {
        leave_for_good(client);
        tally.gone--;
        client->state = CLIENT_AWAY;
        client->due = now + plan.redial_us;
    } else if (plan.after == AFTER_LEAVE)
        leave_for_good(client);
}

static bool is_finished(const struct client *client)
{
    return plan.total && client->published >= plan.total && client->unacknowledged <= 0
           && !link_waiting(&client->link) && client->dropped == client->drops.count;
}

static void publish(struct client *client, int64_t now)
{
    char topic[256];
    int64_t may = plan.rate > 0 ? (int64_t)((double)(now - client->began) * plan.rate / 1e6) + 1 : INT64_MAX;
    if (plan.total && may > plan.total)
        may = plan.total;
    if (client->drops.count > client->dropped)
        return;
    while (client->published < may && link_waiting(&client->link) < WAITING
           && (!plan.qos || client->unacknowledged < client->window)) {
        struct bytes packet = {0};
        fill_in(topic, sizeof topic, plan.publish, client->number, client->published);
        put_publish(&packet, &(struct publish){.topic = topic, .size = plan.size, .qos = plan.qos,
                                               .is_retained = plan.is_retained,
                                               .packet_id = (uint16_t)(client->published % 65535 + 1),
                                               .user_properties = plan.user_properties});
        say(client, &packet);
        client->published++;
        client->unacknowledged += plan.qos > 0;
        tally.published++;
        if (plan.trickle == TRICKLE_RECORD)
            return;
    }
}

/* False: the connection is to end. */
static bool handle(struct client *client, const struct incoming *packet)
{
    struct bytes answer = {0};
    switch (packet->kind) {
    case CONNACK:
        if (packet->code) {
            tally.refused++;
            return false;
        }
        client->window = packet->receive_maximum < plan.window ? packet->receive_maximum : plan.window;
        if (!subscribe(client))
            arrive(client);
        break;
    case SUBACK:
        if (packet->code >= 128)
            tally.turned_away++;
        if (!subscribe(client))
            arrive(client);
        break;
    case PUBACK:
        client->unacknowledged--;
        tally.acknowledged += packet->code < 128;
        tally.turned_away += packet->code >= 128;
        break;
    case PUBLISH:
        tally.received++;
        if (packet->qos) {
            put_puback(&answer, packet->packet_id);
            say(client, &answer);
        }
        break;
    case DISCONNECT:
        return false;
    }
    return true;
}

static bool read_packets(struct client *client)
{
    uint8_t plain[16384];
    int got = 0;
    while (client->link.state == LINK_OPEN && (got = link_read(&client->link, plain, sizeof plain)) > 0) {
        struct incoming packet;
        size_t length, from = 0;
        tally.bytes += got;
        put_bytes(&client->in, plain, (size_t)got);
        while ((length = take_packet(client->in.at + from, client->in.count - from, &packet))) {
            if (!handle(client, &packet))
                return false;
            if (client->link.state == LINK_CLOSED)
                return true; /* it left by itself */
            from += length;
        }
        client->in.count -= from;
        memmove(client->in.at, client->in.at + from, client->in.count);
    }
    return got >= 0;
}

static bool advance(struct client *client)
{
    struct link *link = &client->link;
    if (link->state == LINK_TLS) {
        if (!link_advance(link))
            return false;
        if (link->state == LINK_OPEN) {
            tally.handshakes++;
            tally.resumed += link->is_resumed;
            greet(client);
        }
    }
    return link->state != LINK_OPEN || read_packets(client);
}

static bool flush(struct client *client)
{
    return client->link.state == LINK_CLOSED || plan.trickle == TRICKLE_WIRE || link_flush(&client->link, SIZE_MAX);
}

static void fail(struct client *client)
{
    tally.closed++;
    go_away(client, plan.redial_us);
}

/* The connection is there: say as much of the ClientHello as the plan wants, and fall silent. */
static void hold(struct client *client)
{
    link_advance(&client->link);
    if (plan.hold != HOLD_TCP)
        link_flush(&client->link, plan.hold == HOLD_HALF_HELLO ? link_waiting(&client->link) / 2 : SIZE_MAX);
    tally.under_way--;
    tally.up++;
    tally.ready += client->began == 0;
    client->began = 1;
    client->state = CLIENT_HELD;
}

void client_event(struct client *client, bool readable, bool writable, bool is_over)
{
    struct link *link = &client->link;
    bool is_good = true;
    if (client->state == CLIENT_AWAY || client->state == CLIENT_GONE)
        return;
    if (is_over && !client_reads_at_will(client)) {
        fail(client);
        return;
    }
    if (link->state == LINK_TCP && writable) {
        link->state = LINK_TLS;
        if (plan.hold) {
            hold(client);
            return;
        }
    }
    if (client->state == CLIENT_HELD) {
        if (!link_fill(link, SIZE_MAX))
            fail(client);
        return;
    }
    if (readable && client_reads_at_will(client))
        is_good = link_fill(link, SIZE_MAX);
    is_good = link->state == LINK_TCP ? is_good : advance(client) && is_good;
    if (is_good && plan.publish && client->state == CLIENT_UP)
        publish(client, now_us());
    if (!is_good || !flush(client))
        if (client->state != CLIENT_AWAY && client->state != CLIENT_GONE)
            fail(client);
}

static bool trickle(struct client *client, int64_t now)
{
    if (now < client->due && client->state == CLIENT_UP)
        return true;
    client->due = now + plan.trickle_us;
    if (client->dropped < client->drops.count) {
        link_write(&client->link, client->drops.at + client->dropped, 1);
        if (++client->dropped == client->drops.count)
            client->drops.count = client->dropped = 0;
    }
    return link_flush(&client->link, plan.trickle == TRICKLE_WIRE ? 1 : SIZE_MAX);
}

void client_tick(struct client *client, int64_t now)
{
    bool is_good = true;
    if (client->state == CLIENT_AWAY && now >= client->due && tally.under_way < plan.dialling) {
        dial(client);
        return;
    }
    if (client->state != CLIENT_UP && client->state != CLIENT_DIALLING)
        return;
    if (client->state == CLIENT_DIALLING && now > client->dialled + PATIENCE_US && !plan.trickle)
        is_good = false;
    if (is_good && client->link.state > LINK_TCP && plan.trickle)
        is_good = trickle(client, now);
    if (client->state == CLIENT_UP && plan.reading == READING_SLOWLY && now >= client->due) {
        client->due = now + EACH_READ_US;
        is_good = link_fill(&client->link, (size_t)plan.bytes_per_second * EACH_READ_US / 1000000) && read_packets(client);
    }
    if (is_good && client->state == CLIENT_UP && plan.publish) {
        publish(client, now);
        is_good = flush(client);
        if (is_good && is_finished(client)) {
            leave_for_good(client);
            return;
        }
    }
    if (!is_good && client->state != CLIENT_AWAY && client->state != CLIENT_GONE)
        fail(client);
}

void client_start(struct client *client, int number)
{
    *client = (struct client){.number = number, .state = CLIENT_AWAY};
}

bool client_wants_to_write(const struct client *client)
{
    return client->link.state == LINK_TCP
           || (client->link.state > LINK_TCP && client->state != CLIENT_HELD && plan.trickle != TRICKLE_WIRE
               && link_waiting(&client->link) > 0);
}

bool client_reads_at_will(const struct client *client)
{
    return client->state != CLIENT_UP || plan.reading == READING_ALL;
}
