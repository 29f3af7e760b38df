// SPDX-License-Identifier: Apache-2.0
/*
 * What runs in a pod's sandbox: it keeps the namespaces, and where pods share
 * a process namespace it is process 1, so it waits for what is left to it.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

int main(void)
{
	sigset_t all;
	int number;

	/* Signals to process 1 are lost unless it waits for them or has handlers. */
	sigfillset(&all);
	if (sigprocmask(SIG_BLOCK, &all, NULL))
		return EXIT_FAILURE;
	for (;;) {
		if (sigwait(&all, &number))
			return EXIT_FAILURE;
		if (number == SIGTERM || number == SIGINT)
			return EXIT_SUCCESS;
		if (number == SIGCHLD)
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
	}
}
