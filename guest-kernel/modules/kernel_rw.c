// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and writes files from kernel buffers of every kind, in one call and of
 * any length, which is what module loading, firmware loading and core dumps do
 * for some lengths only. Driven by the tests of the virtiofs bounce buffer:
 *
 *   echo "read PATH OFFSET LENGTH SEGMENT BUFFER [TASKS]" >/sys/module/kernel_rw/parameters/run
 *   cat /sys/module/kernel_rw/parameters/result
 *
 * The first word is read or write. LENGTH bytes are handed over as kvec
 * segments of SEGMENT bytes (0: one). BUFFER is where the bytes are: vmalloc,
 * kmalloc, image (static data of this module) or stack. With TASKS that many
 * kernel threads read at the same time, each into a buffer of its own. The
 * result is
 *
 *   BYTES CRC32 NANOSECONDS START END
 *
 * BYTES is what the call returned, a negative errno if it failed. CRC32 is over
 * those bytes; for a write they are a pattern that differs from page to page.
 * NANOSECONDS is the time of the call alone. START and END are the cycle counter
 * before and after it: what happens outside the guest meanwhile can be told by
 * them. Of several readers the result is what all of them got; if they differ it
 * is -EILSEQ.
 *
 * With check=N there is neither a pattern nor a CRC32, which take longer than the
 * call: for calls that are made again only to be timed.
 *
 * With pv_eoi=N when it is loaded, each end of an interrupt is an exit from the
 * guest. For a hypervisor that delivers an interrupt twice when there is no exit
 * before the next timer; see tests/src/lab/mod.rs.
 *
 * With leave=KIB the call is made by a thread that first takes all free memory
 * but so much. When patience=SECONDS (default 1) is over the thread is killed, after
 * as long again the memory comes back. "starved" says what that led to:
 *
 *   BYTES 0|1|2
 *
 * 0: the call ended by itself, 1: when it was killed, 2: only when there was
 * memory again.
 */
#include <linux/completion.h>
#include <linux/crc32.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/timex.h>
#include <linux/uio.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <asm/kvm_para.h>
#include <asm/msr.h>

#define MAX_LENGTH	(256UL << 20)
#define IMAGE_LENGTH	(128UL << 10)
#define STACK_LENGTH	512UL
#define MAX_TASKS	64

struct request {
	bool write;
	char path[256];
	loff_t offset;
	unsigned long length;
	unsigned long segment;
	char kind[16];
	unsigned int tasks;
};

struct result {
	ssize_t bytes;
	u32 crc;
	u64 ns;
	u64 start;
	u64 end;
};

/* One of several readers */
struct reader {
	const struct request *request;
	struct completion *start;
	struct completion done;
	struct result result;
};

static bool check = true;
module_param(check, bool, 0644);
MODULE_PARM_DESC(check, "whether there are a pattern and a CRC-32");

static bool pv_eoi = true;
module_param(pv_eoi, bool, 0444);
MODULE_PARM_DESC(pv_eoi, "whether interrupts may end without an exit");

static int leave = -1;
module_param(leave, int, 0644);
MODULE_PARM_DESC(leave, "KiB of free memory to leave for a call, -1 for all");

static uint patience = 1;
module_param(patience, uint, 0644);
MODULE_PARM_DESC(patience, "seconds before a call that was left little memory is killed");

static u8 image[IMAGE_LENGTH];
static DEFINE_MUTEX(lock);
static struct result last;

/* What became of the last call that was left little memory */
static ssize_t starved_bytes;
static int starved_until;

/* The memory that is taken; by one thread at a time, and then no more */
static LIST_HEAD(taken);
static DECLARE_COMPLETION(memory_taken);

static void take_memory(void)
{
	/*
	 * No reclaim and no regard for reserves: the memory is gone at once,
	 * and nobody else is made to run for it.
	 */
	const gfp_t gfp = __GFP_MEMALLOC | __GFP_NOWARN | __GFP_NORETRY;
	struct page *page;

	while (global_zone_page_state(NR_FREE_PAGES) > leave >> (PAGE_SHIFT - 10)) {
		page = alloc_page(gfp);
		if (!page)
			break;
		list_add(&page->lru, &taken);
	}
}

static void give_memory_back(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &taken, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
}

/* Pseudo-random words (xorshift), so that no two pages are alike */
static void fill(u8 *buffer, unsigned long length)
{
	u32 word = 0x9e3779b9;
	unsigned long i;
	__le32 bytes;

	for (i = 0; i < length; i += sizeof(bytes)) {
		word ^= word << 13;
		word ^= word >> 17;
		word ^= word << 5;
		bytes = cpu_to_le32(word);
		memcpy(buffer + i, &bytes, min(sizeof(bytes), length - i));
	}
}

/* Since 6.8 vfs_iter_write() itself holds off a freeze of the file system */
static ssize_t write_iter(struct file *file, struct iov_iter *iter, loff_t *pos)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	return vfs_iter_write(file, iter, pos, 0);
#else
	ssize_t bytes;

	file_start_write(file);
	bytes = vfs_iter_write(file, iter, pos, 0);
	file_end_write(file);
	return bytes;
#endif
}

static void transfer(const struct request *request, u8 *buffer,
		     struct result *result)
{
	unsigned long segment = request->segment ?: request->length;
	unsigned long count, i;
	struct iov_iter iter;
	struct file *file;
	struct kvec *vec;
	loff_t pos = request->offset;
	u64 start;

	count = segment ? DIV_ROUND_UP(request->length, segment) : 1;
	vec = kvmalloc_array(count, sizeof(*vec), GFP_KERNEL);
	if (!vec) {
		result->bytes = -ENOMEM;
		return;
	}
	for (i = 0; i < count; i++) {
		vec[i].iov_base = buffer + i * segment;
		vec[i].iov_len = min(segment, request->length - i * segment);
	}

	if (request->write && check)
		fill(buffer, request->length);

	file = filp_open(request->path, request->write ? O_WRONLY | O_CREAT :
			 O_RDONLY, 0644);
	if (IS_ERR(file)) {
		result->bytes = PTR_ERR(file);
		goto out;
	}

	iov_iter_kvec(&iter, request->write ? ITER_SOURCE : ITER_DEST, vec,
		      count, request->length);
	/* Opening the file may take memory, and is not what is looked at */
	if (leave >= 0) {
		take_memory();
		complete_all(&memory_taken);
	}
	start = ktime_get_ns();
	result->start = get_cycles();
	if (request->write) {
		result->bytes = write_iter(file, &iter, &pos);
	} else {
		result->bytes = vfs_iter_read(file, &iter, &pos, 0);
	}
	result->end = get_cycles();
	result->ns = ktime_get_ns() - start;
	if (result->bytes > 0 && check)
		result->crc = ~crc32_le(~0U, buffer, result->bytes);

	filp_close(file, NULL);
out:
	kvfree(vec);
}

static noinline void transfer_on_stack(const struct request *request,
				       struct result *result)
{
	u8 buffer[STACK_LENGTH];

	transfer(request, buffer, result);
}

static void serve(const struct request *request, struct result *result)
{
	u8 *buffer = NULL;

	if (!strcmp(request->kind, "stack")) {
		transfer_on_stack(request, result);
		return;
	}
	if (!strcmp(request->kind, "image")) {
		transfer(request, image, result);
		return;
	}

	if (!strcmp(request->kind, "vmalloc"))
		buffer = vmalloc(max(request->length, 1UL));
	else
		buffer = kmalloc(max(request->length, 1UL),
				 GFP_KERNEL | __GFP_NOWARN);
	if (!buffer) {
		result->bytes = -ENOMEM;
		return;
	}

	transfer(request, buffer, result);
	kvfree(buffer);
}

static int reader_main(void *data)
{
	struct reader *reader = data;

	/* As a process would be ended by */
	allow_signal(SIGKILL);
	/* So that all of them begin when the last of them exists */
	wait_for_completion(reader->start);
	serve(reader->request, &reader->result);
	/* Where it did not get so far */
	complete_all(&memory_taken);
	/* What comes after must not touch the reader, nor this module's text */
	kthread_complete_and_exit(&reader->done, 0);
}

/* Ends with the memory given back and the reader gone, whatever it waits for */
static void serve_starved(const struct request *request, struct result *result)
{
	struct reader reader = { .request = request };
	struct completion start;
	struct task_struct *task;

	starved_bytes = -EINPROGRESS;
	reinit_completion(&memory_taken);
	init_completion(&start);
	init_completion(&reader.done);
	reader.start = &start;
	task = kthread_create(reader_main, &reader, "kernel_rw/starved");
	if (IS_ERR(task)) {
		result->bytes = PTR_ERR(task);
		return;
	}
	/* For the signal, however early the reader ends */
	get_task_struct(task);
	wake_up_process(task);
	complete_all(&start);

	wait_for_completion(&memory_taken);
	starved_until = 0;
	if (!wait_for_completion_timeout(&reader.done, patience * HZ)) {
		starved_until = 1;
		send_sig(SIGKILL, task, 1);
		if (!wait_for_completion_timeout(&reader.done, patience * HZ))
			starved_until = 2;
	}
	put_task_struct(task);
	give_memory_back();
	if (starved_until == 2)
		wait_for_completion(&reader.done);
	*result = reader.result;
	starved_bytes = result->bytes;
}

static void serve_tasks(const struct request *request, struct result *result)
{
	struct completion start;
	struct task_struct *task;
	struct reader *readers;
	unsigned int count, i;

	readers = kcalloc(request->tasks, sizeof(*readers), GFP_KERNEL);
	if (!readers) {
		result->bytes = -ENOMEM;
		return;
	}

	init_completion(&start);
	for (count = 0; count < request->tasks; count++) {
		readers[count].request = request;
		readers[count].start = &start;
		init_completion(&readers[count].done);
		task = kthread_run(reader_main, &readers[count],
				   "kernel_rw/%u", count);
		if (IS_ERR(task))
			break;
	}
	complete_all(&start);
	for (i = 0; i < count; i++)
		wait_for_completion(&readers[i].done);

	*result = readers[0].result;
	for (i = 1; i < count; i++) {
		if (readers[i].result.bytes != result->bytes ||
		    readers[i].result.crc != result->crc)
			result->bytes = -EILSEQ;
	}
	if (count < request->tasks)
		result->bytes = PTR_ERR(task);
	kfree(readers);
}

static bool is_valid(const struct request *request, const char *verb)
{
	if (!request->write && strcmp(verb, "read"))
		return false;
	/* Of one file there can be only one writer that is checked */
	if (request->tasks < 1 || request->tasks > (request->write ? 1 : MAX_TASKS))
		return false;

	if (!strcmp(request->kind, "vmalloc") || !strcmp(request->kind, "kmalloc"))
		return request->length <= MAX_LENGTH;
	if (!strcmp(request->kind, "stack"))
		return request->length <= STACK_LENGTH;
	/* There is one image for all */
	return !strcmp(request->kind, "image") && request->tasks == 1 &&
		request->length <= IMAGE_LENGTH;
}

static int run_set(const char *value, const struct kernel_param *kp)
{
	struct request *request;
	char verb[8];
	int ret = 0;

	request = kzalloc(sizeof(*request), GFP_KERNEL);
	if (!request)
		return -ENOMEM;

	request->tasks = 1;
	if (sscanf(value, "%7s %255s %lld %lu %lu %15s %u", verb, request->path,
		   &request->offset, &request->length, &request->segment,
		   request->kind, &request->tasks) < 6) {
		ret = -EINVAL;
		goto out;
	}
	request->write = !strcmp(verb, "write");
	if (!is_valid(request, verb)) {
		ret = -EINVAL;
		goto out;
	}

	mutex_lock(&lock);
	memset(&last, 0, sizeof(last));
	if (leave >= 0)
		serve_starved(request, &last);
	else if (request->tasks > 1)
		serve_tasks(request, &last);
	else
		serve(request, &last);
	mutex_unlock(&lock);
out:
	kfree(request);
	return ret;
}

static int result_get(char *buffer, const struct kernel_param *kp)
{
	int length;

	mutex_lock(&lock);
	length = sysfs_emit(buffer, "%zd %08x %llu %llu %llu\n", last.bytes,
			    last.crc, last.ns, last.start, last.end);
	mutex_unlock(&lock);
	return length;
}

static int starved_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%zd %d\n", starved_bytes, starved_until);
}

static const struct kernel_param_ops starved_ops = { .get = starved_get };
static const struct kernel_param_ops run_ops = { .set = run_set };
static const struct kernel_param_ops result_ops = { .get = result_get };

module_param_cb(run, &run_ops, NULL, 0200);
MODULE_PARM_DESC(run, "read|write PATH OFFSET LENGTH SEGMENT vmalloc|kmalloc|image|stack [TASKS]");
module_param_cb(result, &result_ops, NULL, 0444);
MODULE_PARM_DESC(result, "bytes, CRC-32, time and cycles of the last run");

module_param_cb(starved, &starved_ops, NULL, 0444);
MODULE_PARM_DESC(starved, "bytes and end of the last call that was left little memory");

static void exit_at_eoi(void *unused)
{
	/* Without KVM there is no such register, and no need for it */
	wrmsrl_safe(MSR_KVM_PV_EOI_EN, 0);
}

static int __init kernel_rw_init(void)
{
	if (!pv_eoi)
		on_each_cpu(exit_at_eoi, NULL, 1);
	return 0;
}
module_init(kernel_rw_init);

static void __exit kernel_rw_exit(void)
{
}
module_exit(kernel_rw_exit);

MODULE_DESCRIPTION("Reads and writes files from kernel buffers");
MODULE_LICENSE("GPL");
