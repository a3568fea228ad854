// SPDX-License-Identifier: GPL-2.0
/*
 * Signals for processes whose requests are with the device. Called by `run`:
 *
 *   interrupted wait FILE COUNT SECONDS
 *   interrupted storm FILE SECONDS
 *   interrupted lock FILE SECONDS
 *
 * wait: COUNT processes read FILE, which has nothing to read. Each gets a signal,
 * and its read() has to end with EINTR before SECONDS are over.
 *
 * storm: reads, writes and syncs FILE for SECONDS while a signal comes every
 * millisecond. None of these waits for anybody, so none may fail, and the bytes
 * stay what they are.
 *
 * lock: waits for a lock of FILE, and keeps it for SECONDS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_COUNT 1000
#define LENGTH (300 * 1024)

static volatile sig_atomic_t signals;

static void handle(int number)
{
	(void)number;
	signals++;
}

/* Without SA_RESTART, so that a call that is cut short says so */
static void catch(int number)
{
	struct sigaction action = { .sa_handler = handle };

	sigaction(number, &action, NULL);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static int wait_for_eintr(const char *path, int count, double seconds)
{
	static pid_t children[MAX_COUNT];
	int ready[2], ended = 0, wrong = 0, i;
	double deadline;
	char byte;

	if (pipe(ready)) {
		perror("pipe");
		return 2;
	}
	for (i = 0; i < count; i++) {
		children[i] = fork();
		if (children[i] < 0) {
			perror("fork");
			return 2;
		}
		if (!children[i]) {
			int file = open(path, O_RDONLY);

			catch(SIGUSR1);
			if (file < 0 || write(ready[1], "r", 1) != 1)
				_exit(2);
			_exit(read(file, &byte, 1) != -1 || errno != EINTR);
		}
	}
	for (i = 0; i < count; i++) {
		if (read(ready[0], &byte, 1) != 1) {
			perror("read");
			return 2;
		}
	}
	/* Between the byte and the read() there is not much */
	sleep(1);
	for (i = 0; i < count; i++)
		kill(children[i], SIGUSR1);

	deadline = now() + seconds;
	while (ended < count && now() < deadline) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0) {
			ended++;
			wrong += status != 0;
		} else {
			usleep(10000);
		}
	}
	printf("# %d of %d ended, %d of them not with EINTR\n", ended, count, wrong);
	return ended != count || wrong;
}

static int storm(const char *path, double seconds)
{
	static char first[LENGTH], bytes[LENGTH];
	struct itimerval timer = {
		.it_interval.tv_usec = 1000,
		.it_value.tv_usec = 1000,
	};
	double end;
	int file = open(path, O_RDWR), rounds = 0;

	if (file < 0 || pread(file, first, LENGTH, 0) != LENGTH) {
		perror(path);
		return 2;
	}
	close(file);

	catch(SIGALRM);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (end = now() + seconds; now() < end; rounds++) {
		struct stat status;
		const char *call;

		errno = 0;
		if ((call = "open", file = open(path, O_RDWR)) < 0 ||
		    (call = "stat", stat(path, &status)) ||
		    (call = "pread", pread(file, bytes, LENGTH, 0)) != LENGTH ||
		    (call = "memcmp", memcmp(first, bytes, LENGTH)) ||
		    (call = "pwrite", pwrite(file, bytes, LENGTH, 0)) != LENGTH ||
		    (call = "fsync", fsync(file)) ||
		    (call = "close", close(file))) {
			printf("# %s in round %d: %s\n", call, rounds, strerror(errno));
			return 1;
		}
	}
	printf("# %d rounds, %d signals\n", rounds, (int)signals);
	return !rounds || !signals;
}

static int lock(const char *path, unsigned int seconds)
{
	int file = open(path, O_RDWR | O_CREAT, 0644);

	if (file < 0 || flock(file, LOCK_EX)) {
		perror(path);
		return 1;
	}
	sleep(seconds);
	return 0;
}

int main(int argc, char **argv)
{
	int count = argc == 5 ? atoi(argv[3]) : 0;

	if (argc == 5 && !strcmp(argv[1], "wait") && count > 0 && count <= MAX_COUNT)
		return wait_for_eintr(argv[2], count, atof(argv[4]));
	if (argc == 4 && !strcmp(argv[1], "storm"))
		return storm(argv[2], atof(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "lock"))
		return lock(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: interrupted wait FILE COUNT SECONDS | storm FILE SECONDS | "
		"lock FILE SECONDS\n");
	return 2;
}
