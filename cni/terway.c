/*
 * terway: the executable that a container runtime runs for every sandbox.
 *
 * It is a pipe. Environment, stdin and an open descriptor of the pod's network namespace go to terwayd over
 * a UNIX socket; terwayd's answer goes to stdout and becomes the exit status. Nothing is decided here but
 * what must be said without a daemon: VERSION, and that the daemon is away. No file is written, nothing is
 * logged. The wire format is described in wire.py, which is the other end.
 *
 * Whoever reads stdout expects one JSON object or nothing, so an answer is held until it is complete.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire is little endian and this program sends its integers as they are"
#endif

#define SUPPORTED "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define NEWEST "1.1.0"
#define DEFAULT_SOCKET "/var/run/eni/eni.socket"

#define STDIN_MAX (1U << 20)
#define ENV_MAX (256U << 10)
#define ANSWER_MAX (1U << 20)
#define VERSION_MAX 32
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

/*
 * Counted from the start of the exchange. A daemon that is restarted has no socket for as long as its successor
 * takes to import and to open its ledger, which on a machine that starts everything at once is many seconds; and
 * one that is there may be slow to acknowledge. The kubelet gives a sandbox four minutes (twice its
 * --runtime-request-timeout) and its deletion two, so a minute here costs it nothing, and a refusal costs the pod
 * the kubelet's next round. A test builds the program with shorter ones.
 */
#ifndef CONNECT_MS
#define CONNECT_MS 30000
#define ACK_MS 60000
#endif
/* Between two tries: short at first, as most restarts are; then as little work as a busy machine can bear. */
#define RETRY_MS 20
#define RETRY_MAX_MS 250
/* Counted from the ack. Upstream's own limit for one CNI operation. */
#define ANSWER_MS 120000
#define ACK 0x06

enum cni_code {
	CODE_ENVIRONMENT = 4,
	CODE_IO = 5,
	CODE_DECODE = 6,
	CODE_TRY_AGAIN = 11,
};

struct request_header {
	char magic[4];
	uint32_t version;
	int32_t netns_errno;
	uint32_t env_len;
	uint32_t stdin_len;
};
_Static_assert(sizeof(struct request_header) == 20, "wire.py reads 20 bytes");

struct answer_header {
	uint32_t exit_code;
	uint32_t len;
};
_Static_assert(sizeof(struct answer_header) == 8, "wire.py writes 8 bytes");

struct request {
	struct request_header header;
	int netns; /* -1: none to send */
};

extern char **environ;

static char input[STDIN_MAX + 1]; /* one more, to see that there is more */
static char variables[ENV_MAX];
static char answer[ANSWER_MAX];
static char cni_version[VERSION_MAX]; /* of the configuration on stdin, "" if it names none */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until fd is ready or the deadline (ms, -1: none) has passed. 0, or a negative errno. */
static int wait_ready(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (;;) {
		int64_t left = deadline < 0 ? -1 : deadline - now_ms();
		int n;

		if (deadline >= 0 && left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* The two that follow give the number of bytes moved or a negative errno; fewer than len means end of file. */
static ssize_t read_full(int fd, void *to, size_t len, int64_t deadline)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)to + done, len - done);

		if (n == 0)
			break;
		if (n > 0) {
			done += n;
			continue;
		}
		if (errno == EAGAIN)
			n = wait_ready(fd, POLLIN, deadline);
		else
			n = errno == EINTR ? 0 : -errno;
		if (n < 0)
			return n;
	}
	return done;
}

static ssize_t write_full(int fd, const void *from, size_t len, int64_t deadline)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, (const char *)from + done, len - done);

		if (n > 0) {
			done += n;
			continue;
		}
		if (n < 0 && errno == EAGAIN)
			n = wait_ready(fd, POLLOUT, deadline);
		else
			n = n == 0 || errno == EINTR ? 0 : -errno;
		if (n < 0)
			return n;
	}
	return done;
}

/* ---- what is said without a daemon ---- */

struct text {
	char bytes[2048];
	size_t len;
};

static void text_add(struct text *t, const char *s)
{
	for (; *s && t->len < sizeof(t->bytes); s++)
		t->bytes[t->len++] = *s;
}

/* Adds s as the inside of a JSON string. What JSON forbids there and what is not ASCII becomes '?'. */
static void text_add_quoted(struct text *t, const char *s)
{
	for (; *s && t->len + 2 < sizeof(t->bytes) / 2; s++) {
		if (*s == '"' || *s == '\\')
			t->bytes[t->len++] = '\\';
		t->bytes[t->len++] = *s < 0x20 || *s == 0x7f ? '?' : *s;
	}
}

static void text_add_number(struct text *t, unsigned int number)
{
	char digits[16], *p = digits + sizeof(digits) - 1;

	*p = 0;
	do {
		*--p = '0' + number % 10;
		number /= 10;
	} while (number);
	text_add(t, p);
}

static int fail(enum cni_code code, const char *msg, const char *object, const char *details)
{
	struct text t = { .len = 0 };

	text_add(&t, "{\"cniVersion\":\"");
	text_add(&t, *cni_version ? cni_version : "1.0.0");
	text_add(&t, "\",\"code\":");
	text_add_number(&t, code);
	text_add(&t, ",\"msg\":\"");
	text_add(&t, msg);
	text_add(&t, "\",\"details\":\"");
	text_add_quoted(&t, object);
	text_add(&t, *object ? ": " : "");
	text_add_quoted(&t, details);
	text_add(&t, "\"}\n");
	write_full(STDOUT_FILENO, t.bytes, t.len, -1);
	return 1;
}

static int say_version(void)
{
	struct text t = { .len = 0 };

	text_add(&t, "{\"cniVersion\":\"");
	text_add(&t, *cni_version ? cni_version : NEWEST);
	text_add(&t, "\",\"supportedVersions\":[" SUPPORTED "]}\n");
	return write_full(STDOUT_FILENO, t.bytes, t.len, -1) == (ssize_t)t.len ? 0 : 1;
}

/* ---- the one thing that is looked up in the configuration ---- */

static size_t string_end(const char *s, size_t len, size_t at)
{
	while (at < len && s[at] != '"')
		at += s[at] == '\\' ? 2 : 1;
	return at < len ? at : len;
}

static size_t skip(const char *s, size_t len, size_t at, const char *set)
{
	while (at < len && s[at] && strchr(set, s[at]))
		at++;
	return at;
}

/* Takes a version only if it needs no escaping and may thus be echoed as it is. */
static void version_take(const char *s, size_t len)
{
	static const char allowed[] = "0123456789.+-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	if (len == 0 || len >= VERSION_MAX || skip(s, len, 0, allowed) != len)
		return;
	memcpy(cni_version, s, len);
	cni_version[len] = 0;
}

/* Looks for the key "cniVersion" of the outermost object. A prevResult has one of its own, deeper. */
static void version_scan(const char *s, size_t len)
{
	static const char key[] = "cniVersion", blank[] = " \t\r\n";
	int depth = 0;

	for (size_t at = 0; at < len; at++) {
		size_t start = at + 1, value;

		if (s[at] == '{' || s[at] == '[')
			depth++;
		else if (s[at] == '}' || s[at] == ']')
			depth--;
		if (s[at] != '"')
			continue;
		at = string_end(s, len, start);
		if (depth != 1 || at - start != strlen(key) || memcmp(s + start, key, strlen(key)))
			continue;
		value = skip(s, len, at + 1, blank);
		if (value >= len || s[value] != ':')
			continue;
		value = skip(s, len, value + 1, blank);
		if (value >= len || s[value] != '"')
			continue;
		at = string_end(s, len, value + 1);
		if (at < len)
			version_take(s + value + 1, at - value - 1);
	}
}

/* ---- the request ---- */

static int variable_wanted(const char *v)
{
	static const char *const prefixes[] = { "CNI_", "TRACEPARENT=", "TRACESTATE=", "BAGGAGE=" };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
		if (!strncmp(v, prefixes[i], strlen(prefixes[i])))
			return 1;
	return 0;
}

/* Length of all wanted variables, each with its NUL, in `variables`; -1 if they do not fit. */
static ssize_t variables_collect(void)
{
	size_t used = 0;

	for (char **v = environ; *v; v++) {
		size_t len = strlen(*v) + 1;

		if (!variable_wanted(*v))
			continue;
		if (len > sizeof(variables) - used)
			return -1;
		memcpy(variables + used, *v, len);
		used += len;
	}
	return used;
}

/* Whether a namespace that cannot be opened matters (ADD) or not (DEL) is the daemon's to decide. */
static void netns_open(struct request *r)
{
	const char *path = getenv("CNI_NETNS");

	r->netns = -1;
	if (!path || !*path)
		return;
	/* O_NONBLOCK: a path that is a FIFO must not hold us; a namespace does not mind. */
	r->netns = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (r->netns < 0)
		r->header.netns_errno = errno;
}

/* The descriptor rides on the first byte of the header, so header and body go separately. */
static int header_send(int fd, const struct request *r, int64_t deadline)
{
	struct iovec part = { .iov_base = (void *)&r->header, .iov_len = sizeof(r->header) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t n;

	if (r->netns >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &r->netns, sizeof(int));
	}
	while ((n = sendmsg(fd, &m, MSG_NOSIGNAL)) < 0) {
		int err = errno == EAGAIN ? wait_ready(fd, POLLOUT, deadline) : errno == EINTR ? 0 : -errno;

		if (err)
			return err;
	}
	n = write_full(fd, (const char *)&r->header + n, sizeof(r->header) - n, deadline);
	return n < 0 ? (int)n : 0;
}

static int request_send(int fd, const struct request *r, int64_t deadline)
{
	ssize_t n = header_send(fd, r, deadline);

	if (n >= 0)
		n = write_full(fd, variables, r->header.env_len, deadline);
	if (n >= 0)
		n = write_full(fd, input, r->header.stdin_len, deadline);
	return n < 0 ? (int)n : 0;
}

/* One try: a socket on which the daemon has acknowledged the request, or a negative errno. */
static int daemon_try(const struct sockaddr_un *to, const struct request *r, int64_t deadline)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unsigned char ack = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? -errno : 0;
	if (n >= 0)
		n = request_send(fd, r, deadline);
	if (n >= 0)
		n = read_full(fd, &ack, 1, deadline);
	if (n == 1 && ack == ACK)
		return fd;
	close(fd);
	return n < 0 ? (int)n : n == 0 ? -ECONNRESET : -EPROTO;
}

/* Without an ack nobody has taken the request, so it may be sent again: a daemon may be restarting. */
static int daemon_reach(const struct sockaddr_un *to, const struct request *r)
{
	int64_t start = now_ms(), pause = RETRY_MS;

	for (;;) {
		int fd = daemon_try(to, r, start + ACK_MS);

		if (fd >= 0 || now_ms() - start + pause > CONNECT_MS)
			return fd;
		nanosleep(&(struct timespec){ .tv_nsec = pause * 1000000L }, NULL);
		pause = pause + pause / 8 < RETRY_MAX_MS ? pause + pause / 8 : RETRY_MAX_MS;
	}
}

/* 0 and the whole answer in `answer`, or a negative errno. */
static int answer_read(int fd, struct answer_header *h)
{
	int64_t deadline = now_ms() + ANSWER_MS;
	ssize_t n = read_full(fd, h, sizeof(*h), deadline);

	if (n == sizeof(*h)) {
		if (h->len > sizeof(answer))
			return -EMSGSIZE;
		n = read_full(fd, answer, h->len, deadline);
		if (n == (ssize_t)h->len)
			return 0;
	}
	return n < 0 ? (int)n : -ECONNRESET;
}

static int exchange(const char *path, const struct request *r)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct answer_header h;
	int fd, err;

	if (strlen(path) >= sizeof(to.sun_path))
		return fail(CODE_ENVIRONMENT, "TERWAY_SOCKET is too long for a socket's path", path, "use a shorter one");
	strcpy(to.sun_path, path);
	fd = daemon_reach(&to, r);
	if (fd == -ETIMEDOUT)
		return fail(CODE_TRY_AGAIN, "the terway daemon does not respond", path,
			    "connected, but no acknowledgement within " TEXT(ACK_MS) " ms; is the node overloaded?"
			    " look at terwayd on this node");
	if (fd < 0) {
		struct text t = { .len = 0 };

		text_add(&t, strerror(-fd));
		text_add(&t, "; waited " TEXT(CONNECT_MS) " ms for terwayd to listen there");
		return fail(CODE_TRY_AGAIN, "failed connect to daemon: is terwayd running on this node?", path, t.bytes);
	}
	err = answer_read(fd, &h);
	if (err)
		return fail(CODE_TRY_AGAIN, "lost the terway daemon before its answer was complete", path,
			    strerror(-err));
	if (write_full(STDOUT_FILENO, answer, h.len, -1) != (ssize_t)h.len)
		return 1;
	return h.exit_code > 255 ? 1 : (int)h.exit_code;
}

int main(void)
{
	struct request r = { .header = { .magic = "TWY1", .version = 1 } };
	const char *command = getenv("CNI_COMMAND");
	const char *path = getenv("TERWAY_SOCKET");
	ssize_t env_len, len = 0;

	signal(SIGPIPE, SIG_IGN);
	if ((command && *command) || !isatty(STDIN_FILENO))
		len = read_full(STDIN_FILENO, input, sizeof(input), -1);
	if (len < 0)
		return fail(CODE_IO, "cannot read the network configuration from stdin", "", strerror(-len));
	version_scan(input, len);
	if (len > (ssize_t)STDIN_MAX)
		return fail(CODE_DECODE, "the network configuration on stdin is too large", "", "the limit is 1 MiB");
	if (!command || !*command)
		return fail(CODE_ENVIRONMENT, "required environment variable CNI_COMMAND is missing", "",
			    "terway is a CNI plugin and is run by a container runtime");
	if (!strcmp(command, "VERSION"))
		return say_version();
	env_len = variables_collect();
	if (env_len < 0)
		return fail(CODE_ENVIRONMENT, "the CNI_ environment variables are too large", "",
			    "the limit is 256 KiB");
	r.header.env_len = env_len;
	r.header.stdin_len = len;
	netns_open(&r);
	return exchange(path && *path ? path : DEFAULT_SOCKET, &r);
}
