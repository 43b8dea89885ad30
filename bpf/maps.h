/* The maps, all pinned by the loader, and the one way to count. */
#pragma once
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include "records.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, JOBS);
	__type(key, __u64); /* cgroup id of the job's root */
	__type(value, struct job);
} jobs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct key);
	__type(value, struct record);
} flows SEC(".maps");

/* BPF_F_CLONE: what accept(2) returns is of the listener's job. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32); /* enum counter */
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum counter what)
{
	__u32 index = what;
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		(*value)++;
}

static __always_inline int refuse(enum counter why)
{
	count(why);
	return 0;
}

/* NULL until user space has configured us. */
static __always_inline struct config *configuration(void)
{
	__u32 zero = 0;
	struct config *found = bpf_map_lookup_elem(&config, &zero);

	return found && found->host_netns ? found : NULL;
}
