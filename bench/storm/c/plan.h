/* Owns what a storm's clients are told to do, as the command line says it; one plan for all clients of a process.
 * Refuses to know how they do it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum names { NAMES_OWN, NAMES_SAME, NAMES_FRESH };                 /* client identifiers: one each, one for all, new each time */
enum hold { HOLD_NOT, HOLD_TCP, HOLD_HALF_HELLO, HOLD_HELLO };     /* where a client falls silent before the handshake is done */
enum reading { READING_ALL, READING_NONE, READING_SLOWLY };
enum trickle { TRICKLE_NOT, TRICKLE_WIRE, TRICKLE_RECORD };        /* one byte at a time: of TLS, or of MQTT in a record each */
enum after { AFTER_STAY, AFTER_DROP, AFTER_AGAIN, AFTER_LEAVE };   /* once up: stay, cut and return, leave and return, leave */

struct plan {
    int port;
    const char *folder;   /* of the devices' folders storm-0, storm-1, ... */
    double seconds;
    int clients, first_device, devices;
    int dialling;         /* connections under way at a time */
    int64_t redial_us;    /* from the end of one connection to the next */
    enum names names;
    bool is_spread;       /* an address of 127/8 for each client, not one for all */
    bool resumes, is_kept;
    enum hold hold;
    enum reading reading;
    int64_t bytes_per_second; /* READING_SLOWLY */
    enum trickle trickle;
    int64_t trickle_us;
    enum after after;
    size_t will;
    size_t connect_properties, user_properties; /* of 100 bytes each: on CONNECT and the will, on each PUBLISH */
    const char *subscribe; /* a filter; %n is the client's number. NULL: none */
    int bomb_filters, bomb_levels; /* instead: so many different filters of `a` and `+` in so many levels */
    int qos;
    const char *publish;   /* a topic; %n as above, %i the number of the message. NULL: nothing */
    size_t size;
    bool is_retained;
    int window;            /* unacknowledged at a time, QoS 1 */
    double rate;           /* messages a second and client, 0: as fast as it goes */
    int64_t total;         /* messages of a client, after which it leaves; 0: no end */
};

extern struct plan plan;

/* Fill `plan`; ends the program with status 2 when the words are wrong. */
void read_plan(int count, char **words);
