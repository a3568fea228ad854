// SPDX-License-Identifier: GPL-2.0
/*
 * Dirties pages of a file through a shared mapping and writes them back while
 * no allocation that may not sleep succeeds. Called by `run`:
 *
 *   dirty FILE REFERENCE
 *
 * REFERENCE receives the same bytes, to compare with. Exits with 0 if msync() and
 * fsync() report success.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LENGTH (16UL << 20)
#define DEBUGFS "/sys/kernel/debug/"

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int good = fd >= 0 && write(fd, text, strlen(text)) >= 0;

	if (!good)
		perror(path);
	close(fd);
	return good;
}

static int inject(const char *probability)
{
	return put(DEBUGFS "failslab/probability", probability) &
		put(DEBUGFS "fail_page_alloc/probability", probability);
}

int main(int argc, char **argv)
{
	unsigned int *map;
	size_t i, done;
	int file, reference, good, written;

	if (argc != 3) {
		fprintf(stderr, "usage: dirty FILE REFERENCE\n");
		return 2;
	}
	file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
	reference = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (file < 0 || reference < 0 || ftruncate(file, LENGTH)) {
		perror(argv[1]);
		return 2;
	}
	map = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	for (i = 0; i < LENGTH / sizeof(*map); i++)
		map[i] = i * 2654435761U + getpid();
	for (done = 0; done < LENGTH; done += written) {
		written = write(reference, (char *)map + done, LENGTH - done);
		if (written <= 0) {
			perror(argv[2]);
			return 2;
		}
	}

	if (!inject("100"))
		return 2;
	good = !msync(map, LENGTH, MS_SYNC);
	if (!inject("0"))
		return 2;
	if (!good)
		perror("msync");
	if (fsync(file)) {
		perror("fsync");
		good = 0;
	}
	return !good;
}
