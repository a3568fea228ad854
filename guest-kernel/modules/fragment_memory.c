// SPDX-License-Identifier: GPL-2.0
/*
 * Takes away every free block of memory above a given order, as a machine that
 * has run for months has it. Loaded by the tests of the virtiofs bounce buffer:
 * what needs only single pages must go on working, what needs more must fail.
 *
 *   order   smallest order that is to disappear (default 1)
 *   pages   pages held (read only)
 *   run     write anything: once more, for what has become free meanwhile
 *
 * Each free block is taken and its pages of odd number are given back. The
 * others stay taken, so no two neighbours are free and nothing can be merged;
 * they are not movable, so compaction does not help. With order 1 the objects of
 * two pages that kmalloc() has in store are taken as well. Unloading gives all of
 * it back.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/slab.h>

/* The largest order of the buddy allocator; renamed and redefined in 6.8. */
#ifdef MAX_PAGE_ORDER
#define LARGEST_ORDER MAX_PAGE_ORDER
#else
#define LARGEST_ORDER (MAX_ORDER - 1)
#endif

static unsigned int order = 1;
module_param(order, uint, 0444);
MODULE_PARM_DESC(order, "smallest order of free blocks that is to disappear");

static unsigned long pages;
module_param(pages, ulong, 0444);
MODULE_PARM_DESC(pages, "pages held");

/* The largest objects that are not pages of their own (KMALLOC_MAX_CACHE_SIZE) */
#define OBJECT_SIZE (2 * PAGE_SIZE)

static LIST_HEAD(held);
static LIST_HEAD(held_objects);
static DEFINE_MUTEX(held_lock);

/*
 * Keeps one page of each 2^(order) pages of the block, gives back the others.
 * With order 1 that is every other page.
 */
static void keep_some(struct page *block, unsigned int block_order)
{
	unsigned long i;

	split_page(block, block_order);
	for (i = 0; i < 1UL << block_order; i++) {
		if (i & ((1UL << order) - 1)) {
			__free_page(block + i);
		} else {
			list_add(&block[i].lru, &held);
			pages++;
		}
	}
}

static void fragment(void)
{
	/*
	 * No reclaim: what is free is taken, nothing is made free. The reserves
	 * too, GFP_ATOMIC would be served from them. At most one block is taken
	 * whole at a time, so the machine is never without memory.
	 */
	const gfp_t gfp = __GFP_MEMALLOC | __GFP_NOWARN | __GFP_NORETRY;
	struct list_head *object;
	struct page *block;
	int block_order;

	mutex_lock(&held_lock);
	for (block_order = LARGEST_ORDER; block_order >= (int)order;
	     block_order--) {
		while ((block = alloc_pages(gfp, block_order))) {
			keep_some(block, block_order);
			cond_resched();
		}
	}
	/* There is no block left to make more of them */
	while (order == 1 && (object = kmalloc(OBJECT_SIZE, gfp)))
		list_add(object, &held_objects);
	mutex_unlock(&held_lock);
}

static int run_set(const char *value, const struct kernel_param *kp)
{
	fragment();
	return 0;
}

static const struct kernel_param_ops run_ops = { .set = run_set };
module_param_cb(run, &run_ops, NULL, 0200);
MODULE_PARM_DESC(run, "write anything: fragment once more");

static int __init fragment_memory_init(void)
{
	if (order < 1 || order > LARGEST_ORDER)
		return -EINVAL;

	fragment();
	pr_info("fragment_memory: %lu pages held\n", pages);
	return 0;
}
module_init(fragment_memory_init);

static void __exit fragment_memory_exit(void)
{
	struct list_head *object, *next_object;
	struct page *page, *next;

	list_for_each_safe(object, next_object, &held_objects)
		kfree(object);
	list_for_each_entry_safe(page, next, &held, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
}
module_exit(fragment_memory_exit);

MODULE_DESCRIPTION("Leaves no free block of memory above a given order");
MODULE_LICENSE("GPL");
