/* Many transfers at once, each taking its bytes slowly.
 *
 * A connection is read once a second, the turns spread evenly. Until every one has its reply line none is read further:
 * so that all are there at once, however long the server takes to begin them. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "load.h"

#define TICKS_PER_S 100
#define FIRST_BYTES 512 /* of a reply: its line, and a little more */

struct crowd {
    const struct options *options;
    struct tally *tally;
    struct connection *connections;
    int opened;
    int answered; /* have their reply line, or failed */
    int closed;
};

static void open_due(struct crowd *crowd, double at_s)
{
    const struct options *options = crowd->options;

    while (crowd->opened < options->clients && crowd->opened < (at_s + 1.0 / TICKS_PER_S) * options->opens_per_s)
        if (connection_open(&crowd->connections[crowd->opened++], options, crowd->tally) != PROGRESS_OPEN) {
            crowd->closed++;
            crowd->answered++;
        }
}

static void take(struct crowd *crowd, struct connection *connection, uint64_t limit)
{
    bool was_in_head = connection->reply.in_head;
    enum progress progress = connection_send(connection, crowd->options, crowd->tally);

    if (progress == PROGRESS_OPEN)
        progress = connection_receive(connection, crowd->options, crowd->tally, limit);
    if (progress != PROGRESS_OPEN)
        crowd->closed++;
    if (was_in_head && (progress != PROGRESS_OPEN || !connection->reply.in_head))
        crowd->answered++;
}

static void read_turn(struct crowd *crowd, unsigned tick)
{
    bool all_answered = crowd->answered == crowd->options->clients;

    for (int i = (int)(tick % TICKS_PER_S); i < crowd->opened; i += TICKS_PER_S) {
        struct connection *connection = &crowd->connections[i];

        if (connection->fd >= 0 && (all_answered || connection->reply.in_head))
            take(crowd, connection, all_answered ? crowd->options->slow_bytes_s : FIRST_BYTES);
    }
}

static void sleep_until(uint64_t moment_ns)
{
    struct timespec moment = {.tv_sec = (time_t)(moment_ns / 1000000000U), .tv_nsec = (long)(moment_ns % 1000000000U)};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
}

void run_slow(const struct options *options, struct tally *tally)
{
    struct crowd crowd = {.options = options, .tally = tally};
    uint64_t begin_ns = now_ns();

    crowd.connections = calloc((size_t)options->clients, sizeof *crowd.connections);
    if (crowd.connections == NULL) {
        perror("loadgen");
        exit(EXIT_FAILURE);
    }
    for (unsigned tick = 0; crowd.closed < options->clients && tick < options->seconds * TICKS_PER_S; tick++) {
        open_due(&crowd, (double)tick / TICKS_PER_S);
        read_turn(&crowd, tick);
        sleep_until(begin_ns + (uint64_t)(tick + 1) * (1000000000U / TICKS_PER_S));
    }
    for (int i = 0; i < crowd.opened; i++)
        if (crowd.connections[i].fd >= 0)
            connection_fail(&crowd.connections[i], tally, FAIL_UNANSWERED);
    free(crowd.connections);
}
