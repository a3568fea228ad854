// SPDX-License-Identifier: GPL-2.0
/*
 * A module whose file has any size one asks for. Most of the file is a payload
 * of pseudo-random bytes; the loaded module answers with a checksum that it
 * computes over the payload as it lies in memory:
 *
 *   /sys/module/payload/parameters/length   bytes of payload
 *   /sys/module/payload/parameters/crc32    CRC-32 (IEEE 802.3), eight hex digits
 *
 * The compiled file is a template: make-module appends the payload behind
 * everything else and enters its length in the section header and in
 * payload_length, so that the last byte of the file is the last byte of the
 * payload. A loader that loses or repeats a byte anywhere is found out.
 */
#include <linux/crc32.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

/* One byte here; make-module moves the section and sets its length. */
static const u8 payload[1] __used __section(".payload") __aligned(1) = { 0 };

/* Entered by make-module. In a section of its own so that it is easily found. */
static volatile u64 payload_length __used __section(".payload_length") = 1;

static int length_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%llu\n", payload_length);
}

/* Computed at each read: what counts is what is in memory now. */
static int crc32_get(char *buffer, const struct kernel_param *kp)
{
	const u8 *start = payload;

	OPTIMIZER_HIDE_VAR(start);
	return sysfs_emit(buffer, "%08x\n",
			  ~crc32_le(~0U, start, payload_length));
}

static const struct kernel_param_ops length_ops = { .get = length_get };
static const struct kernel_param_ops crc32_ops = { .get = crc32_get };

module_param_cb(length, &length_ops, NULL, 0444);
MODULE_PARM_DESC(length, "bytes of payload");
module_param_cb(crc32, &crc32_ops, NULL, 0444);
MODULE_PARM_DESC(crc32, "CRC-32 of the payload, computed at each read");

static int __init payload_init(void)
{
	pr_info("payload: %llu bytes\n", payload_length);
	return 0;
}
module_init(payload_init);

static void __exit payload_exit(void)
{
}
module_exit(payload_exit);

MODULE_DESCRIPTION("Module file of a chosen size with a checked payload");
MODULE_LICENSE("GPL");
