/* The bound of pre-forked processes: each accepts for itself, and serves one connection after the other. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve.h"

static _Noreturn void work(int listener, int root_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        int connection = accept(listener, NULL, NULL);

        if (connection < 0)
            continue;
        serve(connection, connection, root_fd);
        close(connection);
    }
}

int main(int argc, char **argv)
{
    int listener;
    int root_fd;

    if (argc != 5) {
        fprintf(stderr, "usage: pool_server ADDRESS PORT ROOT PROCESSES\n");
        return 2;
    }
    listener = listen_on(argv[1], argv[2]);
    root_fd = open_root(argv[3]);
    signal(SIGPIPE, SIG_IGN);
    for (int left = atoi(argv[4]); left > 0; left--)
        if (fork() == 0)
            work(listener, root_fd);
    while (wait(NULL) > 0)
        ;
    return 0;
}
