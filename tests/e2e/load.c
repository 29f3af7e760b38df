// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic that misses nothing, over sockets that are inherited, until standard
 *input ends: load send RATE SOCKET...	numbered datagrams by connected sockets,
 *RATE per second and socket
 *	load receive SOCKET...		takes them, and knows by number which
 *one has not come load stream RATE OUT IN...	a byte stream from each OUT to
 *its IN, RATE bytes per second, compared
 *
 * Each line on standard input is a question and has a line as answer:
 *	send	how many each socket has sent
 *	receive	asked with these numbers, of each socket: how many of those
 *below it did not come since the last question, the first and the last of them,
 *and how many came twice stream	how many bytes of each stream have come
 * Whatever goes wrong, a reset above all, ends the program with a line on
 *standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	MOST = 16,
	BATCH = 32,
	DATAGRAM = 64,
	NUMBERS = 1 << 25, /* 20 minutes of 24000 per second */
	PERIOD = 131071,   /* of a stream's bytes: a prime, so that no lost or doubled
			      piece fits */
	CHUNK = 65536,
};

static const double PATIENCE = 3.0; /* seconds without news until what is missing is lost */

static double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what, int number)
{
	fprintf(stderr, "%s %d: %s\n", what, number, strerror(errno));
	exit(1);
}

static void non_blocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* The next whole line of standard input, NULL if there is none yet; ends the
 * program with the input. */
static char *question(void)
{
	static char line[512];
	static size_t have;
	ssize_t got = read(0, line + have, sizeof(line) - 1 - have);

	if (!got)
		exit(0);
	if (got < 0)
		return NULL;
	have += got;
	line[have] = 0;
	if (!strchr(line, '\n'))
		return NULL;
	have = 0;
	return line;
}

static void answered(void)
{
	putchar('\n');
	fflush(stdout);
}

static void send_some(int fd, uint64_t *number, int count, int which)
{
	static uint8_t room[BATCH][DATAGRAM];
	struct mmsghdr messages[BATCH] = {};
	struct iovec pieces[BATCH];
	int sent;

	for (int i = 0; i < count; i++) {
		uint64_t value = *number + i;

		memcpy(room[i], &value, sizeof(value));
		pieces[i] = (struct iovec){room[i], DATAGRAM};
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	sent = sendmmsg(fd, messages, count, 0);
	if (sent < 0)
		fail("datagrams are not sent by socket", which);
	*number += sent;
}

/* What is due of each socket, in turns, so that no queue between here and there
 * sees all of it at once. */
static void send_all(double rate, const int *fds, int count)
{
	uint64_t sent[MOST] = {};
	double began = seconds_now();

	for (;;) {
		double due = (seconds_now() - began) * rate;
		int behind = 0;

		for (int i = 0; i < count; i++) {
			int many = due - sent[i] > BATCH ? BATCH : (int)(due - sent[i]);

			if (many > 0)
				send_some(fds[i], &sent[i], many, i);
			behind |= due - sent[i] >= BATCH;
		}
		if (question()) {
			for (int i = 0; i < count; i++)
				printf("%lu ", sent[i]);
			answered();
		}
		if (!behind)
			usleep(500);
	}
}

struct sink {
	uint8_t *seen;
	uint64_t asked;
	uint64_t twice;
};

static int receive_some(int fd, struct sink *sink, int which)
{
	static uint64_t room[BATCH];
	struct mmsghdr messages[BATCH] = {};
	struct iovec pieces[BATCH];
	int got;

	for (int i = 0; i < BATCH; i++) {
		pieces[i] = (struct iovec){&room[i], sizeof(room[i])};
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	if (got < 0 && errno != EAGAIN)
		fail("datagrams do not come to socket", which);
	for (int i = 0; i < got; i++) {
		errno = EOVERFLOW;
		if (room[i] >= NUMBERS)
			fail("a number too high at socket", which);
		sink->twice += sink->seen[room[i]]++ != 0;
	}
	return got > 0;
}

static uint64_t missing(const struct sink *sink, uint64_t until, uint64_t *first, uint64_t *last)
{
	uint64_t count = 0;

	for (uint64_t i = sink->asked; i < until; i++) {
		if (sink->seen[i])
			continue;
		if (!count++)
			*first = i;
		*last = i;
	}
	return count;
}

static int receive_round(const int *fds, struct sink *sinks, int count)
{
	int any = 0;

	for (int i = 0; i < count; i++)
		any |= receive_some(fds[i], &sinks[i], i);
	return any;
}

static int complete(const struct sink *sinks, const uint64_t *until, int count)
{
	uint64_t first, last;

	for (int i = 0; i < count; i++)
		if (missing(&sinks[i], until[i], &first, &last))
			return 0;
	return 1;
}

static void receive_answer(const int *fds, struct sink *sinks, int count, char *line)
{
	double deadline = seconds_now() + PATIENCE;
	uint64_t until[MOST];

	for (int i = 0; i < count; i++)
		until[i] = strtoull(line, &line, 10);
	/* Numbers above have come meanwhile, for the senders do not stop: time is
	 * what tells. */
	while (!complete(sinks, until, count) && seconds_now() < deadline)
		if (!receive_round(fds, sinks, count))
			usleep(500);
	for (int i = 0; i < count; i++) {
		uint64_t first = 0, last = 0, lost = missing(&sinks[i], until[i], &first, &last);

		printf("%lu %lu %lu %lu ", lost, first, last, sinks[i].twice);
		sinks[i].asked = until[i];
		sinks[i].twice = 0;
	}
	answered();
}

static void receive_all(const int *fds, int count)
{
	struct sink sinks[MOST] = {};
	char *line;

	for (int i = 0; i < count; i++)
		if (!(sinks[i].seen = calloc(NUMBERS, 1)))
			fail("no memory for socket", i);
	for (;;) {
		if (!receive_round(fds, sinks, count))
			usleep(500);
		line = question();
		if (line)
			receive_answer(fds, sinks, count, line);
	}
}

struct stream {
	int out, in;
	uint64_t wrote, came;
};

static uint8_t pattern[PERIOD + CHUNK];

static void pattern_fill(void)
{
	uint32_t state = 1;

	for (int i = 0; i < PERIOD; i++) {
		state = state * 1664525 + 1013904223;
		pattern[i] = state >> 24;
	}
	memcpy(pattern + PERIOD, pattern, CHUNK);
}

static int stream_some(struct stream *stream, double due, int which)
{
	static uint8_t room[CHUNK];
	ssize_t done;
	int any = 0;

	if (stream->wrote < due) {
		done = send(stream->out, pattern + stream->wrote % PERIOD, CHUNK, MSG_NOSIGNAL);
		if (done < 0 && errno != EAGAIN)
			fail("a write broke stream", which);
		stream->wrote += done > 0 ? done : 0;
		any |= done > 0;
	}
	done = read(stream->in, room, CHUNK);
	if (!done || (done < 0 && errno != EAGAIN))
		fail("a read broke stream", which);
	if (done <= 0)
		return any;
	errno = EILSEQ;
	if (memcmp(room, pattern + stream->came % PERIOD, done))
		fail("other bytes came by stream", which);
	stream->came += done;
	return 1;
}

static void stream_all(double rate, const int *fds, int count)
{
	struct stream streams[MOST / 2] = {};
	double began = seconds_now();
	int many = count / 2;

	pattern_fill();
	for (int i = 0; i < many; i++)
		streams[i] = (struct stream){fds[2 * i], fds[2 * i + 1], 0, 0};
	for (;;) {
		double due = (seconds_now() - began) * rate;
		int any = 0;

		for (int i = 0; i < many; i++)
			any |= stream_some(&streams[i], due, i);
		if (question()) {
			for (int i = 0; i < many; i++)
				printf("%lu ", streams[i].came);
			answered();
		}
		if (!any)
			usleep(500);
	}
}

int main(int count, char **word)
{
	int fds[MOST], many = 0, first;

	if (count < 3)
		return 2;
	first = strcmp(word[1], "receive") ? 3 : 2;
	for (int i = first; i < count && many < MOST; i++) {
		fds[many] = atoi(word[i]);
		/* A sender may wait for room; whoever receives looks at all of its sockets
		 * in turn. */
		if (strcmp(word[1], "send"))
			non_blocking(fds[many]);
		many++;
	}
	non_blocking(0);
	if (!strcmp(word[1], "send"))
		send_all(atof(word[2]), fds, many);
	if (!strcmp(word[1], "receive"))
		receive_all(fds, many);
	if (!strcmp(word[1], "stream"))
		stream_all(atof(word[2]), fds, many);
	return 2;
}
