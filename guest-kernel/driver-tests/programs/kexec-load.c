// SPDX-License-Identifier: GPL-2.0
/*
 * Loads a kernel and an initramfs with kexec_file_load(), whose files the kernel
 * reads itself, and unloads them again:
 *
 *   kexec-load KERNEL INITRAMFS
 *
 * Exits with 0 if they were taken, with the errno otherwise. Nothing is booted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_loaded(void)
{
	char state = '0';
	int fd = open("/sys/kernel/kexec_loaded", O_RDONLY);

	if (fd < 0 || read(fd, &state, 1) != 1)
		perror("/sys/kernel/kexec_loaded");
	close(fd);
	return state == '1';
}

int main(int argc, char **argv)
{
	static const char cmdline[] = "panic=-1";
	int kernel, initramfs;

	if (argc != 3) {
		fprintf(stderr, "usage: kexec-load KERNEL INITRAMFS\n");
		return 255;
	}
	kernel = open(argv[1], O_RDONLY);
	initramfs = open(argv[2], O_RDONLY);
	if (kernel < 0 || initramfs < 0) {
		perror("kexec-load");
		return 255;
	}
	if (syscall(SYS_kexec_file_load, kernel, initramfs, sizeof(cmdline),
		    cmdline, 0L))
		return errno;
	if (!is_loaded()) {
		fprintf(stderr, "kexec-load: nothing is loaded\n");
		return 255;
	}
	if (syscall(SYS_kexec_file_load, -1, -1, 0L, NULL,
		    (long)KEXEC_FILE_UNLOAD)) {
		perror("kexec-load: unload");
		return 255;
	}
	return is_loaded() ? 255 : 0;
}
