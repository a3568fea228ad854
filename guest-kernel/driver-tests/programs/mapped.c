// SPDX-License-Identifier: GPL-2.0
/*
 * A shared mapping of a file beside reads and writes of it, which pass the page
 * cache by. Called by `run`:
 *
 *   mapped FILE
 *
 * Prints what is wrong; exits with 0 if nothing is.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 64
#define COUNT 20000

static const char *path;
static int wrong;

static void expect(int good, const char *what)
{
	if (!good) {
		printf("# %s\n", what);
		wrong = 1;
	}
}

static int opened(int flags)
{
	int file = open(path, flags, 0644);

	if (file < 0)
		perror(path);
	return file;
}

static char *mapping(int file)
{
	char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 file, 0);

	if (map == MAP_FAILED)
		perror("mmap");
	return map;
}

static int all(const char *bytes, char value, size_t count)
{
	while (count && *bytes == value) {
		bytes++;
		count--;
	}
	return !count;
}

/* Whether a read() finds COUNT times VALUE */
static int reads(int file, off_t offset, char value, size_t count)
{
	static char bytes[PAGES * PAGE];

	return pread(file, bytes, count, offset) == (ssize_t)count &&
		all(bytes, value, count);
}

static int writes(int file, off_t offset, char value, size_t count)
{
	static char bytes[PAGES * PAGE];

	memset(bytes, value, count);
	return pwrite(file, bytes, count, offset) == (ssize_t)count;
}

/* What one process counts in a mapping is what another reads, in that order */
static void count_together(int file, char *map)
{
	volatile uint64_t *counter = (volatile uint64_t *)map;
	uint64_t seen, last = 0;
	pid_t child;
	int status, reached = 0;

	*counter = 0;
	child = fork();
	if (!child) {
		while (*counter < COUNT)
			++*counter;
		_exit(0);
	}
	while (!reached) {
		reached = waitpid(child, &status, WNOHANG) == child;
		if (pread(file, &seen, sizeof(seen), 0) != sizeof(seen)) {
			expect(0, "the counter cannot be read");
			return;
		}
		expect(seen >= last, "the counter went back");
		last = seen;
	}
	expect(last == COUNT, "the counter is not what was counted");
}

int main(int argc, char **argv)
{
	char *map, *second;
	int file;

	if (argc != 2) {
		fprintf(stderr, "usage: mapped FILE\n");
		return 2;
	}
	path = argv[1];
	file = opened(O_RDWR | O_CREAT | O_TRUNC);
	if (file < 0 || !writes(file, 0, 'a', PAGES * PAGE))
		return 2;
	map = mapping(file);
	if (map == MAP_FAILED)
		return 1;
	expect(all(map, 'a', PAGES * PAGE), "the mapping has not what was written");

	memset(map + PAGE, 'b', PAGE);
	expect(reads(file, PAGE, 'b', PAGE), "a store is not what a read finds");
	expect(writes(file, 2 * PAGE, 'c', PAGE) && all(map + 2 * PAGE, 'c', PAGE),
	       "a write is not what the mapping has");

	/* The first half of a page that is dirty, and the whole of one */
	memset(map + 3 * PAGE, 'd', 2 * PAGE);
	expect(writes(file, 3 * PAGE, 'e', PAGE / 2), "write");
	expect(writes(file, 4 * PAGE, 'f', PAGE), "write");
	expect(all(map + 3 * PAGE, 'e', PAGE / 2) &&
	       all(map + 3 * PAGE + PAGE / 2, 'd', PAGE / 2) &&
	       all(map + 4 * PAGE, 'f', PAGE),
	       "a write beside stores is not what the mapping has");
	expect(reads(file, 3 * PAGE, 'e', PAGE / 2) &&
	       reads(file, 3 * PAGE + PAGE / 2, 'd', PAGE / 2),
	       "a store beside a write is lost");

	/* Dirty pages, and another mapping is made */
	memset(map + 5 * PAGE, 'g', PAGE);
	second = mapping(file);
	expect(second != MAP_FAILED && all(second + 5 * PAGE, 'g', PAGE),
	       "a second mapping has not what the first one has");
	if (second != MAP_FAILED)
		munmap(second, PAGES * PAGE);

	expect(!msync(map, PAGES * PAGE, MS_SYNC), "msync fails");
	expect(!fsync(file), "fsync fails");
	count_together(file, map);

	/* The file is closed, the mapping is still there */
	close(file);
	memset(map + 6 * PAGE, 'h', (PAGES - 6) * PAGE);
	munmap(map, PAGES * PAGE);
	file = opened(O_RDONLY);
	expect(file >= 0 && reads(file, 6 * PAGE, 'h', (PAGES - 6) * PAGE),
	       "what was stored after close() is lost");
	expect(reads(file, PAGE, 'b', PAGE), "what was stored is lost");
	return wrong;
}
