// SPDX-License-Identifier: GPL-2.0
/*
 * Sets and gets an extended attribute of a given length, called by `run`:
 *
 *   xattr set|get FILE LENGTH
 *
 * The content depends on the length, so an old one is not taken for a new one.
 * Exits with 0 if all is as it should be, with the errno if the call failed, with
 * 255 if the length or a byte is wrong.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define NAME "user.driver-test"
#define MAX_LENGTH 65536

int main(int argc, char **argv)
{
	static unsigned char want[MAX_LENGTH + 1], got[MAX_LENGTH];
	size_t length, i;
	ssize_t result;

	if (argc != 4 || (length = strtoul(argv[3], NULL, 10)) > MAX_LENGTH) {
		fprintf(stderr, "usage: xattr set|get FILE LENGTH\n");
		return 255;
	}
	for (i = 0; i < length; i++)
		want[i] = ((i + length) * 2654435761U) >> 24;

	if (!strcmp(argv[1], "set")) {
		result = setxattr(argv[2], NAME, want, length, 0);
		return result ? errno : 0;
	}

	result = getxattr(argv[2], NAME, got, sizeof(got));
	if (result < 0)
		return errno;
	return (size_t)result == length && !memcmp(want, got, length) ? 0 : 255;
}
