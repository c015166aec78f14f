#include "plan.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan plan = {
    .seconds = 10, .clients = 1, .devices = 1, .dialling = 50, .redial_us = 10000, .window = 1000, .size = 64, .qos = 0};

enum word {
    SECONDS, CLIENTS, FIRST_DEVICE, DEVICES, DIALLING, REDIAL_MS, NAMES, SPREAD, RESUME, KEPT, HOLD, READ, TRICKLE, TRICKLE_US, AFTER,
    WILL, CONNECT_PROPERTIES, USER_PROPERTIES, SUBSCRIBE, BOMB, QOS, PUBLISH_TO, SIZE, RETAIN, WINDOW, RATE, TOTAL
};

static const struct option OPTIONS[] = {
    {"seconds", 1, 0, SECONDS}, {"clients", 1, 0, CLIENTS}, {"first-device", 1, 0, FIRST_DEVICE}, {"devices", 1, 0, DEVICES}, {"dialling", 1, 0, DIALLING},
    {"redial-ms", 1, 0, REDIAL_MS}, {"names", 1, 0, NAMES}, {"spread", 0, 0, SPREAD}, {"resume", 0, 0, RESUME},
    {"kept", 0, 0, KEPT}, {"hold", 1, 0, HOLD}, {"read", 1, 0, READ}, {"trickle", 1, 0, TRICKLE},
    {"trickle-us", 1, 0, TRICKLE_US}, {"after", 1, 0, AFTER}, {"will", 1, 0, WILL},
    {"connect-properties", 1, 0, CONNECT_PROPERTIES},
    {"user-properties", 1, 0, USER_PROPERTIES}, {"subscribe", 1, 0, SUBSCRIBE}, {"bomb", 1, 0, BOMB}, {"qos", 1, 0, QOS},
    {"publish", 1, 0, PUBLISH_TO}, {"size", 1, 0, SIZE}, {"retain", 0, 0, RETAIN}, {"window", 1, 0, WINDOW},
    {"rate", 1, 0, RATE}, {"total", 1, 0, TOTAL}, {0}};

static void refuse(const char *what)
{
    fprintf(stderr, "error: storm does not know %s\nusage: storm PORT FOLDER [--OPTION [VALUE]]...\n", what);
    exit(2);
}

static int choice(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    refuse(word);
    return 0;
}

#define CHOICE(...) choice(optarg, (const char *const[]){__VA_ARGS__, NULL})

static void read_reading(void)
{
    plan.bytes_per_second = atoll(optarg);
    plan.reading = plan.bytes_per_second ? READING_SLOWLY : (enum reading)CHOICE("all", "none");
}

static void read_bomb(void)
{
    if (sscanf(optarg, "%dx%d", &plan.bomb_filters, &plan.bomb_levels) != 2 || plan.bomb_levels > 31)
        refuse(optarg);
}

static void read_option(int option)
{
    switch ((enum word)option) {
    case SECONDS: plan.seconds = atof(optarg); break;
    case CLIENTS: plan.clients = atoi(optarg); break;
    case FIRST_DEVICE: plan.first_device = atoi(optarg); break;
    case DEVICES: plan.devices = atoi(optarg); break;
    case DIALLING: plan.dialling = atoi(optarg); break;
    case REDIAL_MS: plan.redial_us = atoll(optarg) * 1000; break;
    case NAMES: plan.names = (enum names)CHOICE("own", "same", "fresh"); break;
    case SPREAD: plan.is_spread = true; break;
    case RESUME: plan.resumes = true; break;
    case KEPT: plan.is_kept = true; break;
    case HOLD: plan.hold = (enum hold)CHOICE("not", "tcp", "half-hello", "hello"); break;
    case READ: read_reading(); break;
    case TRICKLE: plan.trickle = (enum trickle)CHOICE("not", "wire", "record"); break;
    case TRICKLE_US: plan.trickle_us = atoll(optarg); break;
    case AFTER: plan.after = (enum after)CHOICE("stay", "drop", "again", "leave"); break;
    case WILL: plan.will = (size_t)atoll(optarg); break;
    case CONNECT_PROPERTIES: plan.connect_properties = (size_t)atoll(optarg); break;
    case USER_PROPERTIES: plan.user_properties = (size_t)atoll(optarg); break;
    case SUBSCRIBE: plan.subscribe = optarg; break;
    case BOMB: read_bomb(); break;
    case QOS: plan.qos = atoi(optarg); break;
    case PUBLISH_TO: plan.publish = optarg; break;
    case SIZE: plan.size = (size_t)atoll(optarg); break;
    case RETAIN: plan.is_retained = true; break;
    case WINDOW: plan.window = atoi(optarg); break;
    case RATE: plan.rate = atof(optarg); break;
    case TOTAL: plan.total = atoll(optarg); break;
    }
}

void read_plan(int count, char **words)
{
    int option;
    while ((option = getopt_long(count, words, "", OPTIONS, NULL)) != -1) {
        if (option == '?')
            exit(2);
        read_option(option);
    }
    if (count - optind != 2 || plan.clients < 1 || plan.devices < 1)
        refuse("that");
    plan.port = atoi(words[optind]);
    plan.folder = words[optind + 1];
}
