/* The least of our protocol that answers the load generator: `GET /NAME`, reply line, content, trailer. */
#ifndef SERVE_H
#define SERVE_H

/* Serve a connection (both descriptors may be one socket) from the directory `root_fd`, until the peer closes. */
void serve(int in_fd, int out_fd, int root_fd);

/* A listening socket of ADDRESS and PORT, or the end of the program. */
int listen_on(const char *address, const char *port);

/* The directory, or the end of the program. */
int open_root(const char *path);

#endif
