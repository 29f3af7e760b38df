// SPDX-License-Identifier: GPL-2.0
/*
 * Both ends of a measurement by TCP and UDP:
 *	pingpong serve PORT	answers each byte, or swallows what comes in bulk
 *	pingpong echo PORT	answers each datagram
 *	pingpong rr|crr|stream|udp ADDRESS PORT SECONDS
 * prints how many round trips, connections or bytes there were, and the seconds of CPU that it took.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char buffer[131072];

static double seconds_now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
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

static int bound(int port, int type)
{
	struct sockaddr_storage any;
	socklen_t size = address_parse("::", port, &any);
	int fd = socket(AF_INET6, type, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&any, size))
		fail("bind");
	return fd;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static void echo(int port)
{
	int fd = bound(port, SOCK_DGRAM);

	ready();
	for (;;) {
		struct sockaddr_storage from;
		socklen_t size = sizeof(from);
		ssize_t got = recvfrom(fd, buffer, sizeof(buffer), 0, (void *)&from, &size);

		if (got >= 0)
			sendto(fd, buffer, got, 0, (void *)&from, size);
	}
}

static void serve(int port)
{
	int fd = bound(port, SOCK_STREAM);

	if (listen(fd, 128))
		fail("listen");
	ready();
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer >= 0)
			serve_one(peer);
	}
}

static int call(struct sockaddr_storage *to, socklen_t size, int type, int reset)
{
	struct timeval patience = {2, 0};
	struct linger hard = {1, 0};
	int fd = socket(to->ss_family, type, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (reset) /* a port in TIME_WAIT per connection would run out */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	if (connect(fd, (void *)to, size))
		fail("connect");
	if (type == SOCK_STREAM)
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
	if (count == 3 && !strcmp(word[1], "echo"))
		echo(atoi(word[2]));
	if (count != 5)
		return 2;
	size = address_parse(word[2], atoi(word[3]), &to);
	fd = strcmp(word[1], "crr") ?
		     call(&to, size, strcmp(word[1], "udp") ? SOCK_STREAM : SOCK_DGRAM, 0) :
		     -1;
	began = seconds_now(CLOCK_PROCESS_CPUTIME_ID);
	until = seconds_now(CLOCK_MONOTONIC) + atof(word[4]);
	while (seconds_now(CLOCK_MONOTONIC) < until) {
		if (!strcmp(word[1], "rr") || !strcmp(word[1], "udp")) {
			round_trip(fd);
			done++;
		} else if (!strcmp(word[1], "crr")) {
			fd = call(&to, size, SOCK_STREAM, 1);
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
	printf("%ld %.6f\n", done, seconds_now(CLOCK_PROCESS_CPUTIME_ID) - began);
	return 0;
}
