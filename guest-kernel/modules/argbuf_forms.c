// SPDX-License-Identifier: GPL-2.0
/*
 * What the ways to position oneself in a scattered buffer cost, the question
 * left open in the review of the 2024 series:
 *
 *   again   an iov_iter set up and advanced anew for each arg
 *   once    an iov_iter set up for each direction, args copied in sequence
 *   index   the position computed, copied page by page (what the series does)
 *   flat    one copy per arg into contiguous memory, for comparison
 *
 * All of them copy with the same instruction, so the difference is what it takes
 * to know where.
 *
 * For a read and a write of 252 pages, as the driver does them. Loading prints
 * one line per form and direction with what the cycle counter advanced, the
 * least of many rounds: a round that an interrupt or an exit to the hypervisor
 * fell into is not it. In QEMU with -icount shift=0 a cycle is an instruction,
 * and each step of a "rep movs" is one. Each result is checked, so that no form
 * can be quick by being wrong. Loading fails with -ECANCELED in the end: there
 * is nothing to stay for.
 */
#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/timex.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#define DATA_PAGES	252
#define IN_LEN		40	/* struct fuse_read_in, struct fuse_write_in */
#define OUT_LEN		8	/* struct fuse_write_out */
#define MAX_PAGES	(DATA_PAGES + 2)
#define ROUNDS		16

enum form { AGAIN, ONCE, INDEX, FLAT };

static const char * const form_names[] = { "again", "once", "index", "flat" };

static struct bio_vec bvec[MAX_PAGES];
static u8 *flat;
static u8 *data;
static u8 *seen;

struct arg {
	u8 *value;
	unsigned int len;
};

/*
 * Copies as the iterators do: the compiler gives them a string instruction of
 * eight bytes at a time (6.12), or memcpy() is one (6.1). What memcpy() is on this
 * processor, which on 6.12 without FSRM is a loop, must not make a difference.
 */
static void copy(void *to, const void *from, size_t len)
{
	size_t words = len / 8, bytes = len % 8;

	asm volatile("rep movsq"
		     : "+D" (to), "+S" (from), "+c" (words) : : "memory");
	asm volatile("rep movsb"
		     : "+D" (to), "+S" (from), "+c" (bytes) : : "memory");
}

static noinline void copy_index(struct arg arg, unsigned int first,
				unsigned int offset, bool fill)
{
	while (arg.len) {
		struct bio_vec *bv = &bvec[first + (offset >> PAGE_SHIFT)];
		u8 *at = page_address(bv->bv_page) + offset_in_page(offset);
		unsigned int len = min_t(unsigned int, arg.len,
					 PAGE_SIZE - offset_in_page(offset));

		if (fill)
			copy(at, arg.value, len);
		else
			copy(arg.value, at, len);
		offset += len;
		arg.value += len;
		arg.len -= len;
	}
}

static noinline bool copy_iter(struct arg arg, struct iov_iter *iter, bool fill)
{
	size_t done = fill ? _copy_to_iter(arg.value, arg.len, iter) :
		_copy_from_iter(arg.value, arg.len, iter);

	return done == arg.len;
}

/* One direction of a request: all its args, in pages [first, first + nr) */
static bool copy_args(enum form form, const struct arg *args, unsigned int nargs,
		      unsigned int first, unsigned int nr, bool fill)
{
	unsigned int direction = fill ? ITER_DEST : ITER_SOURCE;
	unsigned int offset = 0, i;
	struct iov_iter iter;
	bool good = true;

	if (form == ONCE)
		iov_iter_bvec(&iter, direction, bvec + first, nr,
			      nr * PAGE_SIZE);

	for (i = 0; i < nargs; i++) {
		switch (form) {
		case AGAIN:
			/* From the start of the buffer, in args included */
			iov_iter_bvec(&iter, direction, bvec, first + nr,
				      (first + nr) * PAGE_SIZE);
			iov_iter_advance(&iter, first * PAGE_SIZE + offset);
			good &= copy_iter(args[i], &iter, fill);
			break;
		case ONCE:
			good &= copy_iter(args[i], &iter, fill);
			break;
		case INDEX:
			copy_index(args[i], first, offset, fill);
			break;
		case FLAT:
			if (fill)
				copy(flat + first * PAGE_SIZE + offset,
				     args[i].value, args[i].len);
			else
				copy(args[i].value,
				     flat + first * PAGE_SIZE + offset,
				     args[i].len);
			break;
		}
		offset += args[i].len;
	}
	return good;
}

static int measure(enum form form, bool write)
{
	static u8 header[IN_LEN], reply[OUT_LEN];
	const struct arg in[] = {
		{ header, IN_LEN }, { data, DATA_PAGES * PAGE_SIZE },
	};
	const struct arg out[] = {
		{ write ? reply : seen, write ? OUT_LEN : DATA_PAGES * PAGE_SIZE },
	};
	unsigned int nr_in = write ? DATA_PAGES + 1 : 1;
	unsigned int nr_out = write ? 1 : DATA_PAGES;
	unsigned int round, i;
	u64 cycles, least = U64_MAX;
	bool good = true;
	cycles_t start;

	/* What the device answers a read with */
	for (i = 0; !write && i < DATA_PAGES; i++) {
		memset(page_address(bvec[1 + i].bv_page), i + 1, PAGE_SIZE);
		memset(flat + (1 + i) * PAGE_SIZE, i + 1, PAGE_SIZE);
	}
	memset(seen, 0, DATA_PAGES * PAGE_SIZE);

	for (round = 0; round < ROUNDS; round++) {
		start = get_cycles();
		good &= copy_args(form, in, write ? 2 : 1, 0, nr_in, true);
		good &= copy_args(form, out, 1, nr_in, nr_out, false);
		cycles = get_cycles() - start;
		least = min(least, cycles);
	}

	if (write) {
		for (i = 0; good && i < DATA_PAGES * PAGE_SIZE; i++) {
			unsigned int at = IN_LEN + i;
			u8 *page = page_address(bvec[at >> PAGE_SHIFT].bv_page);

			good = (form == FLAT ? flat[at] :
				page[offset_in_page(at)]) == data[i];
		}
	} else {
		for (i = 0; good && i < DATA_PAGES * PAGE_SIZE; i++)
			good = seen[i] == (u8)((i >> PAGE_SHIFT) + 1);
	}

	pr_info("argbuf_forms: %s %s %llu cycles per request of %u pages%s\n",
		write ? "write" : "read", form_names[form], least, DATA_PAGES,
		good ? "" : " WRONG DATA");
	return good ? 0 : -EIO;
}

static int __init argbuf_forms_init(void)
{
	unsigned int nr, i;
	enum form form;
	int ret = -ENOMEM;

	flat = vmalloc(MAX_PAGES * PAGE_SIZE);
	data = vmalloc(DATA_PAGES * PAGE_SIZE);
	seen = vmalloc(DATA_PAGES * PAGE_SIZE);
	for (nr = 0; nr < MAX_PAGES; nr++) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			break;
		bvec_set_page(&bvec[nr], page, PAGE_SIZE, 0);
	}
	if (nr < MAX_PAGES || !flat || !data || !seen)
		goto out;

	for (i = 0; i < DATA_PAGES * PAGE_SIZE; i++)
		data[i] = (i * 2654435761U) >> 24;

	ret = -ECANCELED;
	for (form = AGAIN; form <= FLAT; form++) {
		if (measure(form, false) || measure(form, true))
			ret = -EIO;
	}
out:
	while (nr--)
		__free_page(bvec[nr].bv_page);
	vfree(flat);
	vfree(data);
	vfree(seen);
	return ret;
}
module_init(argbuf_forms_init);

MODULE_DESCRIPTION("Cost of positioning in a scattered buffer");
MODULE_LICENSE("GPL");
