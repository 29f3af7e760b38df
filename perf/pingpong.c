// SPDX-License-Identifier: GPL-2.0
/*
 * Both ends of a TCP measurement:
 *	pingpong serve PORT			answers each byte with one, or swallows what comes in bulk
 *	pingpong rr|crr|stream ADDRESS PORT SECONDS	prints how many round trips, connections or bytes, and seconds
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[131072];

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t address_parse(const char *text, int port, struct sockaddr_storage *to)
{
	struct sockaddr_in *v4 = (void *)to;
	struct sockaddr_in6 *v6 = (void *)to;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		fail(text);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof(*v6);
}

static void without_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* A client sends single bytes and waits, or whole buffers and does not. */
static void serve_one(int fd)
{
	ssize_t got;

	without_delay(fd);
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		if (got == 1 && write(fd, buffer, 1) != 1)
			break;
	close(fd);
}

static void serve(int port)
{
	struct sockaddr_storage any;
	socklen_t size = address_parse("::", port, &any);
	int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&any, size) || listen(fd, 128))
		fail("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer >= 0)
			serve_one(peer);
	}
}

static int call(struct sockaddr_storage *to, socklen_t size, int reset)
{
	struct linger hard = {1, 0};
	int fd = socket(to->ss_family, SOCK_STREAM, 0);

	if (reset) /* a port in TIME_WAIT per connection would run out */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	if (connect(fd, (void *)to, size))
		fail("connect");
	without_delay(fd);
	return fd;
}

static void round_trip(int fd)
{
	if (write(fd, "x", 1) != 1 || read(fd, buffer, 1) != 1)
		fail("round trip");
}

int main(int count, char **word)
{
	struct sockaddr_storage to;
	double began, until;
	long done = 0;
	socklen_t size;
	int fd;

	if (count == 3 && !strcmp(word[1], "serve"))
		serve(atoi(word[2]));
	if (count != 5)
		return 2;
	size = address_parse(word[2], atoi(word[3]), &to);
	fd = strcmp(word[1], "crr") ? call(&to, size, 0) : -1;
	began = seconds_now();
	until = began + atof(word[4]);
	while (seconds_now() < until) {
		if (!strcmp(word[1], "rr")) {
			round_trip(fd);
			done++;
		} else if (!strcmp(word[1], "crr")) {
			fd = call(&to, size, 1);
			round_trip(fd);
			close(fd);
			done++;
		} else {
			ssize_t wrote = write(fd, buffer, sizeof(buffer));

			if (wrote < 0)
				fail("write");
			done += wrote;
		}
	}
	printf("%ld %.6f\n", done, seconds_now() - began);
	return 0;
}
