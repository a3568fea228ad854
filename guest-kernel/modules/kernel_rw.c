// SPDX-License-Identifier: GPL-2.0
/*
 * Reads and writes files from kernel buffers of every kind, in one call and of
 * any length, which is what module loading, firmware loading and core dumps do
 * for some lengths only. Driven by the tests of the virtiofs bounce buffer:
 *
 *   echo "read PATH OFFSET LENGTH SEGMENT BUFFER" >/sys/module/kernel_rw/parameters/run
 *   cat /sys/module/kernel_rw/parameters/result
 *
 * The first word is read or write. LENGTH bytes are handed over as kvec
 * segments of SEGMENT bytes (0: one). BUFFER is where the bytes are: vmalloc,
 * kmalloc, image (static data of this module) or stack. The result is
 *
 *   BYTES CRC32 NANOSECONDS
 *
 * BYTES is what the call returned, a negative errno if it failed. CRC32 is over
 * those bytes; for a write they are a pattern that differs from page to page.
 * NANOSECONDS is the time of the call alone.
 */
#include <linux/crc32.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#define MAX_LENGTH	(256UL << 20)
#define IMAGE_LENGTH	(128UL << 10)
#define STACK_LENGTH	512UL

struct request {
	bool write;
	char path[256];
	loff_t offset;
	unsigned long length;
	unsigned long segment;
	char kind[16];
};

static u8 image[IMAGE_LENGTH];
static DEFINE_MUTEX(lock);
static ssize_t result_bytes;
static u32 result_crc;
static u64 result_ns;

static void fill(u8 *buffer, unsigned long length)
{
	u32 word = 0x9e3779b9;
	unsigned long i;

	for (i = 0; i < length; i++) {
		if (i % sizeof(word) == 0) {
			word ^= word << 13;
			word ^= word >> 17;
			word ^= word << 5;
		}
		buffer[i] = word >> (i % sizeof(word) * 8);
	}
}

static ssize_t transfer(const struct request *request, u8 *buffer)
{
	unsigned long segment = request->segment ?: request->length;
	unsigned long count, i;
	struct iov_iter iter;
	struct file *file;
	struct kvec *vec;
	loff_t pos = request->offset;
	ssize_t bytes;
	u64 start;

	count = segment ? DIV_ROUND_UP(request->length, segment) : 1;
	vec = kvmalloc_array(count, sizeof(*vec), GFP_KERNEL);
	if (!vec)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		vec[i].iov_base = buffer + i * segment;
		vec[i].iov_len = min(segment, request->length - i * segment);
	}

	if (request->write)
		fill(buffer, request->length);

	file = filp_open(request->path, request->write ? O_WRONLY | O_CREAT :
			 O_RDONLY, 0644);
	if (IS_ERR(file)) {
		kvfree(vec);
		return PTR_ERR(file);
	}

	iov_iter_kvec(&iter, request->write ? ITER_SOURCE : ITER_DEST, vec,
		      count, request->length);
	start = ktime_get_ns();
	if (request->write) {
		file_start_write(file);
		bytes = vfs_iter_write(file, &iter, &pos, 0);
		file_end_write(file);
	} else {
		bytes = vfs_iter_read(file, &iter, &pos, 0);
	}
	result_ns = ktime_get_ns() - start;
	if (bytes > 0)
		result_crc = ~crc32_le(~0U, buffer, bytes);

	filp_close(file, NULL);
	kvfree(vec);
	return bytes;
}

static noinline ssize_t transfer_on_stack(const struct request *request)
{
	u8 buffer[STACK_LENGTH];

	return transfer(request, buffer);
}

static ssize_t serve(const struct request *request)
{
	u8 *buffer;
	ssize_t bytes;

	if (!strcmp(request->kind, "stack"))
		return request->length <= STACK_LENGTH ?
			transfer_on_stack(request) : -EINVAL;
	if (!strcmp(request->kind, "image"))
		return request->length <= IMAGE_LENGTH ?
			transfer(request, image) : -EINVAL;

	if (!strcmp(request->kind, "vmalloc"))
		buffer = vmalloc(max(request->length, 1UL));
	else if (!strcmp(request->kind, "kmalloc"))
		buffer = kmalloc(max(request->length, 1UL),
				 GFP_KERNEL | __GFP_NOWARN);
	else
		return -EINVAL;
	if (!buffer)
		return -ENOMEM;

	bytes = transfer(request, buffer);
	kvfree(buffer);
	return bytes;
}

static int run_set(const char *value, const struct kernel_param *kp)
{
	struct request *request;
	char verb[8];
	int ret = 0;

	request = kzalloc(sizeof(*request), GFP_KERNEL);
	if (!request)
		return -ENOMEM;

	if (sscanf(value, "%7s %255s %lld %lu %lu %15s", verb, request->path,
		   &request->offset, &request->length, &request->segment,
		   request->kind) != 6 ||
	    request->length > MAX_LENGTH) {
		ret = -EINVAL;
		goto out;
	}
	request->write = !strcmp(verb, "write");
	if (!request->write && strcmp(verb, "read")) {
		ret = -EINVAL;
		goto out;
	}

	mutex_lock(&lock);
	result_crc = 0;
	result_ns = 0;
	result_bytes = serve(request);
	mutex_unlock(&lock);
out:
	kfree(request);
	return ret;
}

static int result_get(char *buffer, const struct kernel_param *kp)
{
	int length;

	mutex_lock(&lock);
	length = sysfs_emit(buffer, "%zd %08x %llu\n", result_bytes, result_crc,
			    result_ns);
	mutex_unlock(&lock);
	return length;
}

static const struct kernel_param_ops run_ops = { .set = run_set };
static const struct kernel_param_ops result_ops = { .get = result_get };

module_param_cb(run, &run_ops, NULL, 0200);
MODULE_PARM_DESC(run, "read|write PATH OFFSET LENGTH SEGMENT vmalloc|kmalloc|image|stack");
module_param_cb(result, &result_ops, NULL, 0444);
MODULE_PARM_DESC(result, "bytes and CRC-32 of the last run");

static int __init kernel_rw_init(void)
{
	return 0;
}
module_init(kernel_rw_init);

static void __exit kernel_rw_exit(void)
{
}
module_exit(kernel_rw_exit);

MODULE_DESCRIPTION("Reads and writes files from kernel buffers");
MODULE_LICENSE("GPL");
