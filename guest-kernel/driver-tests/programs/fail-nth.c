// SPDX-License-Identifier: GPL-2.0
/*
 * Repeats an operation and lets its first, second, third ... allocation fail,
 * until it needs no more of them (/proc/<pid>/fail-nth). Called by `run`:
 *
 *   fail-nth kernel_rw 'COMMAND FOR kernel_rw' LENGTH
 *   fail-nth getxattr FILE
 *
 * Prints how often what came out. Exits with 0 if that was success or ENOMEM
 * each time and at least one allocation was made to fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_SITES 20000
#define KERNEL_RW "/sys/module/kernel_rw/parameters/"

/* The result of the last command of kernel_rw: bytes or a negative errno */
static long kernel_rw_result(void)
{
	char text[64] = "";
	int fd = open(KERNEL_RW "result", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
		perror(KERNEL_RW "result");
		exit(2);
	}
	close(fd);
	return atol(text);
}

int main(int argc, char **argv)
{
	static char value[65536];
	unsigned int succeeded = 0, no_memory = 0, other = 0, site;
	int is_xattr = argc == 3 && !strcmp(argv[1], "getxattr");
	char text[64];
	int nth, run = -1;

	if (!is_xattr && (argc != 4 || strcmp(argv[1], "kernel_rw"))) {
		fprintf(stderr, "usage: fail-nth kernel_rw COMMAND LENGTH | getxattr FILE\n");
		return 2;
	}
	snprintf(text, sizeof(text), "/proc/self/task/%ld/fail-nth",
		 (long)syscall(SYS_gettid));
	nth = open(text, O_RDWR);
	if (nth < 0) {
		perror(text);
		return 2;
	}
	if (!is_xattr && (run = open(KERNEL_RW "run", O_WRONLY)) < 0) {
		perror(KERNEL_RW "run");
		return 2;
	}

	for (site = 1; site < MAX_SITES; site++) {
		long result, expected = -1;
		int left;

		snprintf(text, sizeof(text), "%u", site);
		if (pwrite(nth, text, strlen(text), 0) < 0) {
			perror("fail-nth");
			return 2;
		}
		if (is_xattr) {
			result = getxattr(argv[2], "user.driver-test", value,
					  sizeof(value));
		} else {
			result = pwrite(run, argv[2], strlen(argv[2]), 0);
			expected = atol(argv[3]);
		}
		if (result < 0)
			result = -errno;

		memset(text, 0, sizeof(text));
		if (pread(nth, text, sizeof(text) - 1, 0) < 0) {
			perror("fail-nth");
			return 2;
		}
		left = atoi(text);
		if (pwrite(nth, "0", 1, 0) < 0) {
			perror("fail-nth");
			return 2;
		}
		if (!is_xattr && result >= 0)
			result = kernel_rw_result();

		if (result == -ENOMEM) {
			no_memory++;
		} else if (result >= 0 && (is_xattr || result == expected)) {
			succeeded++;
		} else {
			other++;
			printf("allocation %u failed: result %ld\n", site, result);
		}
		/* Not all of them were used up: none was made to fail */
		if (left)
			break;
	}

	printf("%u allocations: %u succeeded, %u ENOMEM, %u other\n", site - 1,
	       succeeded, no_memory, other);
	return other || !no_memory || site == MAX_SITES;
}
