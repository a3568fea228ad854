// SPDX-License-Identifier: GPL-2.0
/*
 * Says about a file what kernel_rw says about its buffer, so that the two can
 * be compared as text:
 *
 *   crc32 FILE [LENGTH]
 *
 * prints BYTES CRC32 of the first LENGTH bytes, of all by default.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * table[n] is for a byte with n bytes after it: eight bytes at a time, the tests
 * run under emulation.
 */
static uint32_t table[8][256];

static void make_tables(void)
{
	uint32_t i, n, word;

	for (i = 0; i < 256; i++) {
		word = i;
		for (n = 0; n < 8; n++)
			word = word & 1 ? word >> 1 ^ 0xedb88320 : word >> 1;
		table[0][i] = word;
	}
	for (n = 1; n < 8; n++)
		for (i = 0; i < 256; i++)
			table[n][i] = table[n - 1][i] >> 8 ^
				table[0][table[n - 1][i] & 255];
}

static uint32_t update(uint32_t crc, const unsigned char *byte, size_t length)
{
	uint32_t words[2];

	for (; length >= 8; length -= 8, byte += 8) {
		memcpy(words, byte, 8);
		words[0] ^= crc;
		crc = table[7][words[0] & 255] ^ table[6][words[0] >> 8 & 255] ^
			table[5][words[0] >> 16 & 255] ^ table[4][words[0] >> 24] ^
			table[3][words[1] & 255] ^ table[2][words[1] >> 8 & 255] ^
			table[1][words[1] >> 16 & 255] ^ table[0][words[1] >> 24];
	}
	for (; length; length--, byte++)
		crc = crc >> 8 ^ table[0][(crc ^ *byte) & 255];
	return crc;
}

int main(int argc, char **argv)
{
	static unsigned char buffer[1 << 16];
	size_t left = -1, bytes = 0;
	uint32_t crc = ~0U;
	ssize_t got;
	int fd;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: crc32 FILE [LENGTH]\n");
		return 2;
	}
	if (argc == 3)
		left = strtoul(argv[2], NULL, 10);
	fd = open(argv[1], O_RDONLY);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	make_tables();
	while (left) {
		got = read(fd, buffer, left < sizeof(buffer) ? left : sizeof(buffer));
		if (got < 0) {
			perror(argv[1]);
			return 1;
		}
		if (!got)
			break;
		crc = update(crc, buffer, got);
		bytes += got;
		left -= got;
	}
	printf("%zu %08x\n", bytes, ~crc);
	return 0;
}
