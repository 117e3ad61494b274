/* As many requests as the server answers: each client opens its next connection when the one before has its reply. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "load.h"

#define EVENTS 256
#define RETRIES 8

struct load {
    const struct options *options;
    struct tally *tally;
    struct connection *connections;
    int epoll_fd;
    int open;
    uint64_t started; /* connections, in all */
    uint64_t end_ns;
};

static bool more_wanted(const struct load *load)
{
    if (load->options->requests > 0)
        return load->started < load->options->requests;
    return now_ns() < load->end_ns;
}

/* Open the client's next connection; what fails at once is tried again a few times, and counted each time. */
static void start(struct load *load, struct connection *connection)
{
    for (int attempt = 0; attempt < RETRIES && more_wanted(load); attempt++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = connection};

        load->started++;
        if (connection_open(connection, load->options, load->tally) != PROGRESS_OPEN)
            continue;
        if (connection->sent < load->options->send_length)
            event.events |= EPOLLOUT; /* not connected yet */
        if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0) {
            connection_fail(connection, load->tally, FAIL_LOCAL);
            continue;
        }
        load->open++;
        return;
    }
}

static void handle(struct load *load, struct connection *connection)
{
    enum progress progress = connection_send(connection, load->options, load->tally);

    if (progress == PROGRESS_OPEN)
        progress = connection_receive(connection, load->options, load->tally, UINT64_MAX);
    if (progress != PROGRESS_OPEN) {
        load->open--;
        start(load, connection);
    }
}

static void turn_until(struct load *load, uint64_t until_ns)
{
    struct epoll_event events[EVENTS];

    while (load->open > 0) {
        uint64_t now = now_ns();
        int count;

        if (now >= until_ns)
            return;
        count = epoll_wait(load->epoll_fd, events, EVENTS, (int)((until_ns - now) / 1000000) + 1);
        for (int i = 0; i < count; i++)
            handle(load, events[i].data.ptr);
    }
}

static void finish(struct load *load, uint64_t grace_until_ns)
{
    struct tally at_end = *load->tally;

    turn_until(load, grace_until_ns);
    /* What came late counts in the latencies, not in the rate. */
    load->tally->completed = at_end.completed;
    load->tally->bytes = at_end.bytes;
    for (int i = 0; i < load->options->clients; i++)
        if (load->connections[i].fd >= 0)
            connection_fail(&load->connections[i], load->tally, FAIL_UNANSWERED);
}

void run_fast(const struct options *options, struct tally *tally)
{
    struct load load = {.options = options, .tally = tally, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    uint64_t warm_ns = now_ns() + (uint64_t)(options->warmup_s * 1e9);

    load.end_ns = warm_ns + (uint64_t)(options->seconds * 1e9);
    load.connections = calloc((size_t)options->clients, sizeof *load.connections);
    if (load.epoll_fd < 0 || load.connections == NULL) {
        perror("loadgen");
        exit(EXIT_FAILURE);
    }
    for (int i = 0; i < options->clients; i++) {
        load.connections[i].fd = -1;
        start(&load, &load.connections[i]);
    }
    if (options->requests > 0) {
        turn_until(&load, load.end_ns);
    } else {
        turn_until(&load, warm_ns);
        memset(tally, 0, sizeof *tally);
        turn_until(&load, load.end_ns);
    }
    finish(&load, load.end_ns + (uint64_t)(options->grace_s * 1e9));
    close(load.epoll_fd);
    free(load.connections);
}
