/* What becomes of connect(2) and sendmsg(2): refused, let through, or turned to the proxy or the forwarder. */
#pragma once
#include "identity.h"
#include "peers.h"

enum way { REFUSE, DIRECT, TURN };

/* What the caller asked for; `turn_port` is where it goes if the way is TURN. */
struct ask {
	__u32 address[4];
	__u16 port;	 /* network order */
	__u16 turn_port; /* network order */
	__u32 protocol;
	__u32 family; /* of the socket, not of the address */
};

/* The socket, if this task may use it at all; NULL: counted, refuse.
 * bpf_get_netns_cookie: from 5.7; socket storage in sock_addr: from 5.8. */
static __always_inline struct socket *admit(struct bpf_sock_addr *ctx, const struct config *config)
{
	struct bpf_sock *sk = ctx->sk;
	struct socket *socket;
	__u64 job;

	if (!config) {
		count(REFUSED_NO_CONFIG);
		return NULL;
	}
	if (config->deny_all) {
		count(REFUSED_DENY_ALL);
		return NULL;
	}
	if (bpf_get_netns_cookie(ctx) != config->host_netns) {
		count(REFUSED_NETNS);
		return NULL;
	}
	job = job_of_task();
	if (!job) {
		count(REFUSED_NO_JOB);
		return NULL;
	}
	socket = sk ? bpf_sk_storage_get(&sockets, sk, NULL, 0) : NULL;
	if (!socket || !socket->record.socket_job) {
		count(REFUSED_UNKNOWN_SOCKET);
		return NULL;
	}
	if (socket->record.socket_job != job) {
		count(REFUSED_FOREIGN_SOCKET);
		return NULL;
	}
	return socket;
}

/* Writes down who asks and for what. */
static __always_inline bool note(struct bpf_sock_addr *ctx, struct socket *socket, const struct ask *ask)
{
	struct record *record = &socket->record;

	record->cookie = bpf_get_socket_cookie(ctx);
	record->netns = bpf_get_netns_cookie(ctx);
	record->task_job = record->socket_job; /* admit() has compared them */
	__builtin_memcpy(record->address, ask->address, sizeof(record->address));
	record->port = ask->port;
	record->family = ask->family;
	record->protocol = ask->protocol;
	record->turned = 1;
	if (record_task(record))
		return true;
	record->turned = 0;
	count(FAILED_TASK);
	return false;
}

static __always_inline bool same_job(struct bpf_sock_addr *ctx, struct socket *socket, const struct ask *ask)
{
	struct bpf_sock *sk = ctx->sk;
	struct key to = {};

	if (!sk)
		return false;
	__builtin_memcpy(to.proxy, ask->address, sizeof(to.proxy));
	to.proxy_port = ask->port;
	to.protocol = ask->protocol;
	if (ask->protocol == IPPROTO_UDP) { /* the receiver may be connected to this very socket */
		__u32 bound = sk->src_ip4;

		to.client_port = bpf_htons(sk->src_port);
		to.client[3] = is_mapped(ask->address) && bound ? bound : ask->address[3];
	}
	return peer_is_of_job(ctx, &to, socket->record.socket_job);
}

static __always_inline enum way steer_udp(struct bpf_sock_addr *ctx, const struct config *config,
					  struct socket *socket, struct ask *ask)
{
	if (ask->port == bpf_htons(DNS_PORT)) {
		if (!note(ctx, socket, ask))
			return REFUSE;
		ask->turn_port = config->dns_port;
		count(DNS_TURNED);
		return TURN;
	}
	if (is_loopback(ask->address) && same_job(ctx, socket, ask)) {
		count(LOOPBACK_DIRECT);
		return DIRECT;
	}
	count(REFUSED_UDP);
	return REFUSE;
}

static __always_inline enum way steer_tcp(struct bpf_sock_addr *ctx, const struct config *config,
					  struct socket *socket, struct ask *ask)
{
	if (is_loopback(ask->address)) {
		if (ask->port == config->proxy_port || ask->port == config->dns_port) {
			count(REFUSED_OWN_PORT);
			return REFUSE;
		}
		if (same_job(ctx, socket, ask)) {
			socket->record.turned = 0;
			count(LOOPBACK_DIRECT);
			return DIRECT;
		}
	}
	if (!note(ctx, socket, ask))
		return REFUSE;
	ask->turn_port = config->proxy_port;
	count(TCP_TURNED);
	return TURN;
}

/* A socket bound to a device would send what is turned to loopback out of that device. */
static __always_inline bool unbind_device(struct bpf_sock_addr *ctx, bool may_set)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 lo = bpf_htonl(0x6c6f0000); /* "lo": a literal would be a map of its own */

	if (!sk || sk->bound_dev_if == 0 || sk->bound_dev_if == LOOPBACK_INTERFACE)
		return true;
	/* bpf_setsockopt: connect programs have it from 5.8, sendmsg programs do not */
	if (may_set && !bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, &lo, 3))
		return true;
	count(REFUSED_DEVICE);
	return false;
}

static __always_inline enum way steer_connect(struct bpf_sock_addr *ctx, struct ask *ask)
{
	struct config *config = configuration();
	struct socket *socket = admit(ctx, config);
	enum way way;

	if (!socket || !config)
		return REFUSE;
	make_definite(ask->address);
	if (ask->protocol == IPPROTO_TCP) {
		way = steer_tcp(ctx, config, socket, ask);
	} else if (ask->protocol == IPPROTO_UDP) {
		way = steer_udp(ctx, config, socket, ask);
		if (way == DIRECT)
			socket->record.turned = 0;
	} else {
		count(REFUSED_PROTOCOL);
		return REFUSE;
	}
	return way == REFUSE || unbind_device(ctx, true) ? way : REFUSE;
}

/* send(2) on an IPv6 socket that is connected to a v4-mapped address comes by as sendmsg(2) to that address: here,
 * to the forwarder, if that is where connect(2) was turned. */
static __always_inline bool is_turned_already(struct bpf_sock_addr *ctx, const struct config *config,
					      const struct socket *socket, const struct ask *ask)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && sk->family == AF_INET6 && socket->record.turned && (__u16)sk->dst_port == config->dns_port &&
	       ask->port == config->dns_port && is_mapped(ask->address) && is_ours(ask->address);
}

static __always_inline enum way steer_sendmsg(struct bpf_sock_addr *ctx, struct ask *ask)
{
	struct config *config = configuration();
	struct socket *socket = admit(ctx, config);

	if (!socket || !config || !unbind_device(ctx, false))
		return REFUSE;
	make_definite(ask->address);
	if (ask->protocol != IPPROTO_UDP) {
		count(REFUSED_PROTOCOL);
		return REFUSE;
	}
	if (is_turned_already(ctx, config, socket, ask))
		return DIRECT;
	return steer_udp(ctx, config, socket, ask);
}

/* For getpeername(2) and recvmsg(2): the record, if what the kernel would show is one of our own listeners. */
static __always_inline struct record *shown(struct bpf_sock_addr *ctx, const __u32 address[4], __u16 port)
{
	struct bpf_sock *sk = ctx->sk;
	struct config *config = configuration();
	struct socket *socket;
	struct record *record;

	if (!sk || !config || !is_ours(address))
		return NULL;
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (!socket || !socket->record.turned)
		return NULL;
	record = &socket->record;
	if (port != (record->protocol == IPPROTO_UDP ? config->dns_port : config->proxy_port))
		return NULL;
	return is_mapped(record->address) == is_mapped(address) ? record : NULL;
}
