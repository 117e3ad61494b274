/* Many transfers at once, each taking its bytes slowly: a connection is read once a second, the turns spread evenly. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "load.h"

#define TICKS_PER_S 100

static int read_turn(struct connection *connections, int opened, unsigned tick, const struct options *options,
                     struct tally *tally)
{
    int closed = 0;

    for (int i = (int)(tick % TICKS_PER_S); i < opened; i += TICKS_PER_S) {
        struct connection *connection = &connections[i];

        if (connection->fd < 0)
            continue;
        if (connection_send(connection, options, tally) != PROGRESS_OPEN
            || connection_receive(connection, options, tally, options->slow_bytes_s) != PROGRESS_OPEN)
            closed++;
    }
    return closed;
}

static void sleep_until(uint64_t moment_ns)
{
    struct timespec moment = {.tv_sec = (time_t)(moment_ns / 1000000000U), .tv_nsec = (long)(moment_ns % 1000000000U)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
}

void run_slow(const struct options *options, struct tally *tally)
{
    struct connection *connections = calloc((size_t)options->clients, sizeof *connections);
    uint64_t begin_ns = now_ns();
    int opened = 0;
    int closed = 0;

    if (connections == NULL) {
        perror("loadgen");
        exit(EXIT_FAILURE);
    }
    for (unsigned tick = 0; closed < options->clients; tick++) {
        double at_s = (double)tick / TICKS_PER_S;

        if (at_s >= options->seconds)
            break;
        for (; opened < options->clients && opened < (at_s + 1.0 / TICKS_PER_S) * options->opens_per_s; opened++)
            if (connection_open(&connections[opened], options, tally) != PROGRESS_OPEN)
                closed++;
        closed += read_turn(connections, opened, tick, options, tally);
        sleep_until(begin_ns + (uint64_t)(tick + 1) * (1000000000U / TICKS_PER_S));
    }
    for (int i = 0; i < opened; i++)
        if (connections[i].fd >= 0)
            connection_fail(&connections[i], tally, FAIL_UNANSWERED);
    free(connections);
}
