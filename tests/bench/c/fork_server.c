/* The bound of one process per connection: the least a C program can do is accept, fork, serve. */
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve.h"

int main(int argc, char **argv)
{
    int listener;
    int root_fd;

    if (argc != 4) {
        fprintf(stderr, "usage: fork_server ADDRESS PORT ROOT\n");
        return 2;
    }
    listener = listen_on(argv[1], argv[2]);
    root_fd = open_root(argv[3]);
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int connection = accept(listener, NULL, NULL);

        if (connection < 0)
            continue;
        switch (fork()) {
        case 0:
            close(listener);
            serve(connection, connection, root_fd);
            _exit(0);
        case -1:
            perror("fork");
            break;
        default:
            break;
        }
        close(connection);
    }
}
