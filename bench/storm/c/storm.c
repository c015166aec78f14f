/* Owns the loop of a storm: so many clients on one thread, until the time is over or all have left. Prints `ready` once every
 * client has been up, and one JSON line at the end: what was dialled, refused, published, received.
 * Refuses to know what the clients do. */

#include "client.h"
#include "plan.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum { EVENTS = 1024 };

static volatile sig_atomic_t is_ending;

static void end(int signal)
{
    (void)signal;
    is_ending = 1;
}

/* A socket that is closed leaves epoll by itself; one that is new has to be told. */
static void watch(int epoll, struct client *client, int *watched, uint32_t *asked)
{
    if (client->link.state == LINK_CLOSED) {
        *watched = -1;
        return;
    }
    uint32_t events = (client_wants_to_write(client) ? EPOLLOUT : 0u) | (client_reads_at_will(client) ? EPOLLIN : 0u)
                      | EPOLLRDHUP;
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (*watched == client->link.fd && *asked == events)
        return;
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, client->link.fd, &event) != 0)
        epoll_ctl(epoll, EPOLL_CTL_ADD, client->link.fd, &event);
    *watched = client->link.fd;
    *asked = events;
}

static void print(void)
{
    printf("{\"dialled\": %ld, \"handshakes\": %ld, \"resumed\": %ld, \"up\": %ld, \"refused\": %ld, \"closed\": %ld, "
           "\"published\": %ld, \"acknowledged\": %ld, \"turned_away\": %ld, \"received\": %ld, \"bytes\": %lld, "
           "\"slowest_ms\": %.1f}\n",
           tally.dialled, tally.handshakes, tally.resumed, tally.up, tally.refused, tally.closed, tally.published,
           tally.acknowledged, tally.turned_away, tally.received, tally.bytes, (double)tally.slowest_us / 1e3);
}

int main(int count, char **words)
{
    read_plan(count, words);
    struct rlimit files = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    signal(SIGTERM, end);
    struct client *clients = calloc((size_t)plan.clients, sizeof *clients);
    int *watched = calloc((size_t)plan.clients, sizeof *watched), epoll = epoll_create1(EPOLL_CLOEXEC);
    uint32_t *asked = calloc((size_t)plan.clients, sizeof *asked);
    for (int i = 0; i < plan.clients; i++) {
        client_start(&clients[i], i);
        watched[i] = -1;
    }
    int64_t until = now_us() + (int64_t)(plan.seconds * 1e6), ticked = 0;
    bool is_told = false;
    while (!is_ending && now_us() < until && tally.gone < plan.clients) {
        struct epoll_event events[EVENTS];
        int came = epoll_wait(epoll, events, EVENTS, 1);
        for (int i = 0; i < came; i++) {
            struct client *client = events[i].data.ptr;
            uint32_t what = events[i].events;
            bool is_over = what & (EPOLLERR | EPOLLHUP | EPOLLRDHUP);
            client_event(client, is_over || what & EPOLLIN, is_over || what & EPOLLOUT, is_over);
            watch(epoll, client, &watched[client->number], &asked[client->number]);
        }
        int64_t now = now_us();
        for (int i = 0; now - ticked >= 1000 && i < plan.clients; i++) {
            client_tick(&clients[i], now);
            watch(epoll, &clients[i], &watched[i], &asked[i]);
        }
        if (now - ticked >= 1000)
            ticked = now;
        if (!is_told && tally.ready == plan.clients) {
            is_told = true;
            puts("ready");
            fflush(stdout);
        }
    }
    print();
    return 0;
}
