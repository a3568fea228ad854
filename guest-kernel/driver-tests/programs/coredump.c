// SPDX-License-Identifier: GPL-2.0
/*
 * Dies with a core dump whose content is known, and checks one:
 *
 *   coredump die FILE
 *   coredump check CORE
 *
 * The process has 6 MiB of a pattern, which the kernel writes from pages, and
 * 2000 mappings of FILE (two pages long at least), which it lists in one note:
 * about 150 KiB that it writes from a buffer of its own with a single call. Both
 * are looked for in the dump, byte by byte. check exits with 0 if the dump is
 * whole.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATTERN_AT	0x100000000UL
#define PATTERN_LENGTH	(6UL << 20)
#define MAPPINGS_AT	0x200000000UL
#define MAPPINGS	2000
#define PAGE		4096UL

static int complain(const char *what)
{
	printf("core dump: %s\n", what);
	return 1;
}

static uint32_t pattern(size_t i)
{
	return i * 2654435761U + 12345;
}

static int die(const char *path)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	uint32_t *map;
	size_t i;
	int fd;

	map = mmap((void *)PATTERN_AT, PATTERN_LENGTH, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (map != (void *)PATTERN_AT) {
		perror("mmap");
		return 2;
	}
	for (i = 0; i < PATTERN_LENGTH / sizeof(*map); i++)
		map[i] = pattern(i);

	/*
	 * All of them show the same page, so no two can become one mapping. It
	 * is not the first one: that would be dumped with each.
	 */
	fd = open(path, O_RDONLY);
	if (fd < 0) {
		perror(path);
		return 2;
	}
	for (i = 0; i < MAPPINGS; i++) {
		if (mmap((void *)(MAPPINGS_AT + i * PAGE), PAGE, PROT_READ,
			 MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, PAGE) == MAP_FAILED) {
			perror(path);
			return 2;
		}
	}
	if (setrlimit(RLIMIT_CORE, &unlimited)) {
		perror("setrlimit");
		return 2;
	}
	abort();
}

static int check_pattern(const uint32_t *words)
{
	size_t i;

	for (i = 0; i < PATTERN_LENGTH / sizeof(*words); i++) {
		if (words[i] != pattern(i)) {
			printf("core dump: word %zu of the pattern is %#x\n", i,
			       words[i]);
			return 1;
		}
	}
	return 0;
}

/*
 * NT_FILE: a count, the size of a page, start, end and offset in pages of each
 * mapping, then the names.
 */
static int check_files(const char *note, size_t length)
{
	const uint64_t *words = (const uint64_t *)note;
	const char *name, *first = NULL, *end = note + length;
	uint64_t count, i, ours = 0;

	if (length < 2 * sizeof(*words) || words[1] != PAGE)
		return complain("no head in the list of files");
	count = words[0];
	if (count > (length - 2 * sizeof(*words)) / (3 * sizeof(*words)))
		return complain("a short list of files");
	words += 2;
	name = (const char *)(words + 3 * count);
	for (i = 0; i < count; i++, words += 3, name += strlen(name) + 1) {
		if (name >= end || !memchr(name, 0, end - name))
			return complain("the names of the files are cut");
		if (words[0] < MAPPINGS_AT)
			continue;
		if (words[0] >= MAPPINGS_AT + MAPPINGS * PAGE)
			continue;
		first = first ?: name;
		if (words[0] != MAPPINGS_AT + ours * PAGE ||
		    words[1] != words[0] + PAGE || words[2] != 1 ||
		    strcmp(name, first) || !*name)
			return complain("a wrong mapping in the list of files");
		ours++;
	}
	return ours == MAPPINGS ? 0 : complain("mappings are missing");
}

static int check_notes(const char *notes, size_t length)
{
	const Elf64_Nhdr *note;
	size_t at = 0, name, content;

	while (at + sizeof(*note) <= length) {
		note = (const Elf64_Nhdr *)(notes + at);
		name = at + sizeof(*note);
		content = name + ((note->n_namesz + 3UL) & ~3UL);
		at = content + ((note->n_descsz + 3UL) & ~3UL);
		if (at > length)
			break;
		if (note->n_type == NT_FILE && !strcmp(notes + name, "CORE"))
			return check_files(notes + content, note->n_descsz);
	}
	return complain("no list of files");
}

static int check(const char *path)
{
	const Elf64_Ehdr *head;
	const Elf64_Phdr *part;
	int fd, i, wrong = 0, patterns = 0, notes = 0;
	struct stat stat;
	const char *core;

	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &stat)) {
		perror(path);
		return 1;
	}
	core = malloc(stat.st_size);
	if (!core)
		return complain("no memory to check it");
	for (off_t done = 0; done < stat.st_size;) {
		ssize_t got = read(fd, (char *)core + done, stat.st_size - done);

		if (got <= 0)
			return complain("it cannot be read");
		done += got;
	}

	head = (const Elf64_Ehdr *)core;
	if ((size_t)stat.st_size < sizeof(*head) ||
	    memcmp(head->e_ident, ELFMAG, SELFMAG) || head->e_type != ET_CORE ||
	    head->e_phoff + head->e_phnum * sizeof(*part) > (size_t)stat.st_size)
		return complain("no ELF head");
	part = (const Elf64_Phdr *)(core + head->e_phoff);
	for (i = 0; i < head->e_phnum; i++, part++) {
		if (part->p_offset + part->p_filesz > (size_t)stat.st_size)
			return complain("it is cut short");
		if (part->p_type == PT_NOTE) {
			notes++;
			wrong |= check_notes(core + part->p_offset, part->p_filesz);
		} else if (part->p_type == PT_LOAD && part->p_vaddr == PATTERN_AT) {
			patterns++;
			if (part->p_filesz != PATTERN_LENGTH)
				return complain("the pattern has another length");
			wrong |= check_pattern((const uint32_t *)(core + part->p_offset));
		}
	}
	if (notes != 1 || patterns != 1)
		return complain("it has no notes or no pattern");
	return wrong;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "die"))
		return die(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "check"))
		return check(argv[2]);
	fprintf(stderr, "usage: coredump die FILE | check CORE\n");
	return 2;
}
