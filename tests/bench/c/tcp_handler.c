/* What tcpserver starts for each connection: descriptors 0 and 1 are the socket. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "serve.h"

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: tcp_handler ROOT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    serve(STDIN_FILENO, STDOUT_FILENO, open_root(argv[1]));
    return 0;
}
