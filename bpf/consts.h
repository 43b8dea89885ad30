/* Constants of the kernel's interface that its user-space headers do not give together, and our counters. */
#pragma once

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define SOL_SOCKET 1
#define SO_BINDTODEVICE 25

#define LOOPBACK_INTERFACE 1 /* LOOPBACK_IFINDEX of <net/flow.h>: lo is the first link of every namespace */
#define DNS_PORT 53
#define CGROUP_LEVELS 24 /* depth below the cgroup2 root at which a job's root is still found */
#define FLOWS 65536      /* connections that wait for, or have, their proxy */
#define JOBS 4096

#define COMM_SIZE 16
#define EXE_NAME_SIZE 64
#define JOB_NAME_SIZE 32
#define LABEL_SIZE 64

/* What is counted. `appliance/kernel/counters.py` has the names in words; a test holds the two together. */
enum counter {
	/* what was done */
	TCP_TURNED,	  /* connect(2) turned to the proxy */
	DNS_TURNED,	  /* UDP to port 53 turned to the forwarder */
	LOOPBACK_DIRECT,  /* loopback to a socket of the same job, let through as it is */
	FLOW_WRITTEN,
	FLOW_REMOVED,
	/* what was refused, with EPERM */
	REFUSED_NO_CONFIG,	/* the hooks are attached, but nobody has configured them */
	REFUSED_DENY_ALL,
	REFUSED_NETNS,		/* the socket is not of the host's network namespace */
	REFUSED_NO_JOB,		/* the task is in no registered job */
	REFUSED_UNKNOWN_SOCKET, /* made before the hooks were attached, or by the kernel */
	REFUSED_FOREIGN_SOCKET, /* made in another job */
	REFUSED_SOCKET_KIND,	/* neither TCP nor UDP */
	REFUSED_PROTOCOL,	/* the same, found at connect(2) */
	REFUSED_OWN_PORT,	/* straight to the proxy's or the forwarder's port */
	REFUSED_BIND,		/* bind(2) to one of these ports */
	REFUSED_UDP,		/* UDP that is neither DNS nor loopback within the job */
	REFUSED_DEVICE,		/* bound to a device, and cannot be bound to lo instead */
	/* what was dropped on its way out */
	DROPPED_NO_CONFIG,
	DROPPED_DENY_ALL,
	DROPPED_INTERFACE,	/* not by way of loopback */
	DROPPED_UNKNOWN_SOCKET, /* for example connected before the hooks were attached */
	DROPPED_PACKET,		/* not a plain TCP or UDP packet of IPv4 or IPv6 */
	DROPPED_FOREIGN_PEER,	/* loopback, but the receiver is not of the same job */
	/* what failed; each of these refuses or drops as well */
	FAILED_STORAGE,
	FAILED_TASK,
	FAILED_FLOW,
	FAILED_CALLBACK,
	COUNTERS,
};
