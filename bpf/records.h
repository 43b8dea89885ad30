/* Layouts shared with user space: `appliance/attest/layouts.py` and `appliance/kernel/layouts.py`.
 * All padding is explicit. Addresses are 16-byte IPv6 in network order, IPv4 as ::ffff:a.b.c.d. */
#pragma once
#include <linux/types.h>
#include "consts.h"

/* A connection as the proxy sees it: accept()'s peer is `client`, getsockname() is `proxy`. */
struct key {
	__u64 netns; /* cookie of the network namespace */
	__u32 client[4];
	__u32 proxy[4];
	__u16 client_port; /* network order */
	__u16 proxy_port;  /* network order */
	__u8 protocol;
	__u8 padding[3];
};
_Static_assert(sizeof(struct key) == 48, "struct key");

/* Who connects, and whereto: known at connect(2), before the first packet. */
struct record {
	__u64 cookie;
	__u64 netns;
	__u64 socket_job;
	__u64 task_job;
	__u64 connect_ns;
	/* from here to `gid`: what names one program in one process (SocketRecord.process_key) */
	__u64 task_cgroup;
	__u64 start_ns;
	__u64 exe_inode;
	__u32 exe_device;
	__u32 pid;
	__u32 uid;
	__u32 gid;
	__u32 tid;
	__u32 parent;
	__u32 address[4]; /* what was asked for */
	__u16 port;	  /* network order */
	__u8 family;
	__u8 protocol;
	__u32 turned; /* 1: the destination was replaced by ours */
	char comm[COMM_SIZE];
	char exe_name[EXE_NAME_SIZE];
};
_Static_assert(sizeof(struct record) == 192, "struct record");

/* What is kept with each governed socket. */
struct socket {
	struct record record; /* socket_job is set at creation, the rest at connect(2) or sendmsg(2) */
	struct key key;	      /* of its entry in `flows`; netns 0: it has none */
};
_Static_assert(sizeof(struct socket) == 240, "struct socket");

struct config {
	__u64 host_netns; /* cookie; 0: not configured, all is refused */
	__u16 proxy_port; /* network order */
	__u16 dns_port;	  /* network order */
	__u32 deny_all;
};
_Static_assert(sizeof(struct config) == 16, "struct config");

/* A job's root cgroup. The programs only ask whether it is there; the rest survives a restart of ours here. */
struct job {
	__u32 managed; /* 1: made by job_create */
	__u32 launched_uid;
	char name[JOB_NAME_SIZE];
	char label[LABEL_SIZE];
};
_Static_assert(sizeof(struct job) == 104, "struct job");
