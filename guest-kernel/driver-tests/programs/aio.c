// SPDX-License-Identifier: GPL-2.0
/*
 * Reads a file with asynchronous direct I/O, all of it at once, while no
 * allocation that may not sleep succeeds. Called by `run`:
 *
 *   aio FILE REFERENCE
 *
 * Exits with 0 if the bytes are those of REFERENCE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define READS 32
#define PIECE (128UL << 10)
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

static char *memory(void)
{
	char *map = mmap(NULL, READS * PIECE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

int main(int argc, char **argv)
{
	static struct iocb iocbs[READS];
	static struct io_event events[READS];
	struct iocb *list[READS];
	/* A request that is lost would be waited for until the guest is killed */
	struct timespec patience = { .tv_sec = 60 };
	char *bytes = memory(), *wanted = memory();
	aio_context_t context = 0;
	long submitted, completed;
	size_t done;
	int file, reference, i;

	if (argc != 3) {
		fprintf(stderr, "usage: aio FILE REFERENCE\n");
		return 2;
	}
	file = open(argv[1], O_RDONLY | O_DIRECT);
	reference = open(argv[2], O_RDONLY);
	if (!bytes || !wanted || file < 0 || reference < 0 ||
	    syscall(SYS_io_setup, READS, &context)) {
		perror("aio");
		return 2;
	}
	for (done = 0; done < READS * PIECE;) {
		long count = read(reference, wanted + done, READS * PIECE - done);

		if (count <= 0) {
			perror(argv[2]);
			return 2;
		}
		done += count;
	}
	for (i = 0; i < READS; i++) {
		iocbs[i].aio_lio_opcode = IOCB_CMD_PREAD;
		iocbs[i].aio_fildes = file;
		iocbs[i].aio_buf = (uintptr_t)(bytes + i * PIECE);
		iocbs[i].aio_nbytes = PIECE;
		iocbs[i].aio_offset = i * PIECE;
		list[i] = &iocbs[i];
	}

	if (!inject("100"))
		return 2;
	submitted = syscall(SYS_io_submit, context, READS, list);
	completed = syscall(SYS_io_getevents, context, submitted, READS, events,
			    &patience);
	if (!inject("0"))
		return 2;

	if (submitted != READS || completed != READS) {
		printf("# %ld reads submitted, %ld completed\n", submitted, completed);
		return 1;
	}
	for (i = 0; i < READS; i++) {
		if (events[i].res != (long)PIECE) {
			printf("# a read ended with %ld\n", (long)events[i].res);
			return 1;
		}
	}
	return memcmp(bytes, wanted, READS * PIECE) != 0;
}
