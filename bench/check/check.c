/* A second load generator, on OpenSSL and without a line of ours: it exists to disagree with the first.
 *
 *   check pairs      PORT PID CA CERT KEY QOS MILLISECONDS    4 pairs, 64 bytes, window 1000
 *   check handshakes PORT PID CA CERT KEY 0   COUNT           TCP to CONNACK, one after the other
 *   check idle       PORT PID CA CERT KEY 0   COUNT           connections that say nothing
 *
 * Prints one number: microseconds of broker CPU per message or connection, or KiB of its memory per connection. CPU is
 * that of /proc/PID/stat, in hundredths of a second, so a run has to be long enough. Refuses MQTT 5 and everything else
 * that the loads do not need. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAIRS = 4, WINDOW = 1000, PAYLOAD = 64, ROOM = 1 << 20 };

struct client {
    int fd;
    SSL *ssl;
    unsigned char in[ROOM], out[ROOM];
    size_t have, pending, taken;
    long sent, received, acknowledged;
    char topic[32];
};

static int port, pid;
static SSL_CTX *context;

static void fail(const char *what) {
    fprintf(stderr, "check: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static double cpu_microseconds(void) {
    char path[64], line[1024];
    long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file)) fail("no /proc/PID/stat");
    fclose(file);
    char *after = strrchr(line, ')');
    if (sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system) != 2) fail("stat");
    return (user + system) * 1e6 / sysconf(_SC_CLK_TCK);
}

static double resident_kib(void) {
    char path[64];
    long total, resident;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%ld %ld", &total, &resident) != 2) fail("no /proc/PID/statm");
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024.0);
}

/* Connect, handshake, CONNECT, CONNACK; blocking. */
static void open_client(struct client *client, int number) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number % 200)};
    int on = 1;
    client->have = client->pending = client->taken = 0;
    client->sent = client->received = client->acknowledged = 0;
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(client->fd, (struct sockaddr *)&from, sizeof from)) fail("bind");
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client->ssl = SSL_new(context);
    SSL_set_fd(client->ssl, client->fd);
    SSL_set_tlsext_host_name(client->ssl, "localhost");
    if (SSL_connect(client->ssl) != 1) fail("handshake");
    char id[32];
    int length = snprintf(id, sizeof id, "bench:c%d", number);
    unsigned char hello[64] = {0x10, 12 + length, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 2, 88, 0, length};
    memcpy(hello + 14, id, length);
    if (SSL_write(client->ssl, hello, 14 + length) <= 0) fail("CONNECT");
    unsigned char answer[4];
    for (int had = 0; had < 4;) {
        int n = SSL_read(client->ssl, answer + had, 4 - had);
        if (n <= 0) fail("no CONNACK");
        had += n;
    }
    if (answer[0] != 0x20 || answer[3]) fail("CONNACK with a refusal");
}

static void close_client(struct client *client) {
    unsigned char goodbye[] = {0xe0, 0};
    SSL_write(client->ssl, goodbye, 2);
    SSL_shutdown(client->ssl);
    SSL_free(client->ssl);
    close(client->fd);
}

static void flush(struct client *client) {
    while (client->taken < client->pending) {
        int n = SSL_write(client->ssl, client->out + client->taken, client->pending - client->taken);
        if (n <= 0) {
            if (SSL_get_error(client->ssl, n) == SSL_ERROR_WANT_WRITE) return;
            fail("write");
        }
        client->taken += n;
    }
    client->taken = client->pending = 0;
}

static void say(struct client *client, const void *bytes, size_t length) {
    if (client->pending + length > ROOM) fail("no room to send");
    memcpy(client->out + client->pending, bytes, length);
    client->pending += length;
}

static void publish(struct client *client, int qos) {
    unsigned char packet[128];
    int topic = strlen(client->topic), body = 2 + topic + (qos ? 2 : 0) + PAYLOAD, at = 0;
    packet[at++] = 0x30 | qos << 1;
    packet[at++] = body; /* below 128 */
    packet[at++] = 0;
    packet[at++] = topic;
    memcpy(packet + at, client->topic, topic);
    at += topic;
    client->sent++;
    if (qos) {
        int id = client->sent % 65535 + 1;
        packet[at++] = id >> 8;
        packet[at++] = id & 255;
    }
    memset(packet + at, 'x', PAYLOAD);
    say(client, packet, at + PAYLOAD);
}

static void hear(struct client *client, const unsigned char *packet, size_t body) {
    int kind = packet[0] >> 4, qos = packet[0] >> 1 & 3;
    const unsigned char *at = packet + 2;
    unsigned char answer[4] = {0, 2, at[0], at[1]};
    (void)body;
    switch (kind) {
    case 3: {
        size_t id = 2 + (at[0] << 8 | at[1]);
        client->received++;
        if (!qos) return;
        answer[0] = qos == 1 ? 0x40 : 0x50;
        answer[2] = at[id];
        answer[3] = at[id + 1];
        break;
    }
    case 4: case 7: client->acknowledged++; return;
    case 5: answer[0] = 0x62; break;
    case 6: answer[0] = 0x70; break;
    default: return;
    }
    say(client, answer, 4);
}

static void turn(struct client *client) {
    for (;;) {
        int n = SSL_read(client->ssl, client->in + client->have, ROOM - client->have);
        if (n <= 0) {
            if (SSL_get_error(client->ssl, n) == SSL_ERROR_WANT_READ) break;
            fail("read");
        }
        client->have += n;
        size_t at = 0;
        while (client->have - at >= 2) {
            size_t body = client->in[at + 1]; /* every packet here has less than 128 bytes */
            if (client->have - at < 2 + body) break;
            hear(client, client->in + at, body);
            at += 2 + body;
        }
        memmove(client->in, client->in + at, client->have -= at);
    }
    flush(client);
}

static double pairs(int qos, double seconds) {
    static struct client clients[2 * PAIRS];
    struct pollfd polled[2 * PAIRS];
    for (int i = 0; i < 2 * PAIRS; i++) {
        open_client(&clients[i], i);
        snprintf(clients[i].topic, sizeof clients[i].topic, "shared/bench/%d", i % PAIRS);
        if (i >= PAIRS) {
            int topic = strlen(clients[i].topic);
            unsigned char packet[64] = {0x82, 5 + topic, 0, 1, 0, topic}, answer[5];
            memcpy(packet + 6, clients[i].topic, topic);
            packet[6 + topic] = qos;
            SSL_write(clients[i].ssl, packet, 7 + topic);
            if (SSL_read(clients[i].ssl, answer, 5) != 5 || answer[0] != 0x90 || answer[4] > 2) fail("SUBACK");
        }
        fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
        polled[i] = (struct pollfd){.fd = clients[i].fd};
    }
    double began = now(), cpu = cpu_microseconds();
    for (;;) {
        long sent = 0, received = 0, acknowledged = 0;
        int is_open = now() - began < seconds;
        for (int i = 0; i < PAIRS; i++) {
            struct client *from = &clients[i], *to = &clients[PAIRS + i];
            long done = qos && from->acknowledged < to->received ? from->acknowledged : to->received;
            long room = WINDOW - (from->sent - done);
            if (is_open && room >= WINDOW / 2) {
                while (room-- > 0) publish(from, qos);
                flush(from);
            }
            sent += from->sent;
            received += to->received;
            acknowledged += from->acknowledged;
        }
        if (!is_open && received >= sent && (!qos || acknowledged >= sent)) return (cpu_microseconds() - cpu) / received;
        for (int i = 0; i < 2 * PAIRS; i++) polled[i].events = POLLIN | (clients[i].pending ? POLLOUT : 0);
        if (poll(polled, 2 * PAIRS, 5000) == 0) fail("nothing arrives");
        for (int i = 0; i < 2 * PAIRS; i++)
            if (polled[i].revents) turn(&clients[i]);
    }
}

static double connections(int count, int is_idle) {
    struct client *one = calloc(is_idle ? count + 10 : 1, sizeof *one);
    if (!one) fail("memory");
    for (int i = 0; is_idle && i < 10; i++) open_client(&one[count + i], count + i);
    if (is_idle) poll(NULL, 0, 2500); /* what a broker allocates once is not counted for each */
    double cpu = cpu_microseconds(), memory = resident_kib();
    for (int i = 0; i < count; i++) {
        open_client(&one[is_idle ? i : 0], i);
        if (!is_idle) close_client(&one[0]);
    }
    if (!is_idle) return (cpu_microseconds() - cpu) / count;
    poll(NULL, 0, 2500);
    return (resident_kib() - memory) / count;
}

int main(int count, char **words) {
    if (count != 9) fail("usage: check pairs|handshakes|idle PORT PID CA CERT KEY QOS NUMBER");
    port = atoi(words[2]);
    pid = atoi(words[3]);
    int qos = atoi(words[7]), number = atoi(words[8]);
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set1_groups_list(context, "X25519");
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (!SSL_CTX_load_verify_locations(context, words[4], NULL) || !SSL_CTX_use_certificate_chain_file(context, words[5]) ||
        !SSL_CTX_use_PrivateKey_file(context, words[6], SSL_FILETYPE_PEM))
        fail("certificates");
    double found = !strcmp(words[1], "pairs") ? pairs(qos, number / 1000.0) : connections(number, !strcmp(words[1], "idle"));
    printf("%.4f\n", found);
    return 0;
}
