// SPDX-License-Identifier: GPL-2.0
/*
 * Asks for the holes and blocks of a file that has data in the page cache only,
 * called by `run`:
 *
 *   holes write|map FILE
 *
 * The second of three MiB is data, put there with write() or through a shared
 * mapping, and neither synced nor closed. Another descriptor then asks what `cp`
 * and `tar -S` ask. Exits with 0 if the data is seen; prints what is not.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1L << 20)

static int failed;

static void check(const char *what, long got, int good)
{
	if (good)
		return;
	printf("#   %s: %ld\n", what, got);
	failed = 1;
}

int main(int argc, char **argv)
{
	static char data[MIB];
	struct stat stat;
	int file, other;
	long at;

	if (argc != 3) {
		fprintf(stderr, "usage: holes write|map FILE\n");
		return 2;
	}
	memset(data, 'x', sizeof(data));
	unlink(argv[2]);
	file = open(argv[2], O_RDWR | O_CREAT | O_EXCL, 0644);
	if (file < 0 || ftruncate(file, 3 * MIB)) {
		perror(argv[2]);
		return 2;
	}
	/* Has the driver know of a file without data, which is to be no use later */
	if (fstat(file, &stat)) {
		perror("fstat");
		return 2;
	}

	if (!strcmp(argv[1], "write")) {
		if (pwrite(file, data, MIB, MIB) != MIB) {
			perror("pwrite");
			return 2;
		}
	} else {
		char *map = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED,
				 file, MIB);

		if (map == MAP_FAILED) {
			perror("mmap");
			return 2;
		}
		memcpy(map, data, MIB);
	}

	other = open(argv[2], O_RDONLY);
	if (other < 0) {
		perror(argv[2]);
		return 2;
	}
	at = lseek(other, 0, SEEK_DATA);
	check("the first data", at, at >= 0 && at <= MIB);
	at = lseek(other, MIB, SEEK_HOLE);
	check("the hole after it", at, at == 2 * MIB || at == 3 * MIB);

	/* Once more, dirty again: what was asked just now must not be all it takes */
	if (!strcmp(argv[1], "write") && pwrite(file, data, MIB, 0) != MIB) {
		perror("pwrite");
		return 2;
	}
	if (fstat(other, &stat)) {
		perror("fstat");
		return 2;
	}
	at = strcmp(argv[1], "write") ? MIB : 2 * MIB;
	check("blocks", stat.st_blocks, stat.st_blocks * 512 >= at);
	return failed;
}
