// SPDX-License-Identifier: MIT
/* The hooks. Attached to cgroups, they follow the cgroup in which a *socket was created*, not the one that its user
 * is in now: so each socket remembers its job (sock_create), and every use is compared with the job of the task.
 *
 *   sock_create         TCP and UDP only; the socket learns its job
 *   bind                not our ports
 *   connect, sendmsg    refused, let through to the same job, or turned to us, with a record of who asked
 *   sockops             the record goes to `flows` when the source port is known, and leaves it with the connection
 *   egress              the same for UDP; nothing leaves except by loopback, to us or to the same job
 *   getpeername, recvmsg  show what was asked for
 *
 * Whatever fails, refuses. LIMITS: programs that need no inet socket (AF_PACKET, AF_VSOCK, AF_XDP) are not seen
 * here; nor are sockets that were made outside of every governed cgroup and handed in.
 */
#include "egress.h"
#include "steer.h"

#define ASK4(ctx)                                                                                                      \
	{                                                                                                              \
		.address = { 0, 0, MAPPED, (ctx)->user_ip4 }, .port = (ctx)->user_port, .protocol = (ctx)->protocol,   \
		.family = (ctx)->family                                                                                \
	}
#define ASK6(ctx)                                                                                                      \
	{                                                                                                              \
		.address = { (ctx)->user_ip6[0], (ctx)->user_ip6[1], (ctx)->user_ip6[2], (ctx)->user_ip6[3] },         \
		.port = (ctx)->user_port, .protocol = (ctx)->protocol, .family = (ctx)->family                         \
	}

static __always_inline void show4(struct bpf_sock_addr *ctx, const __u32 address[4], __u16 port)
{
	ctx->user_ip4 = address[3];
	ctx->user_port = port;
}

static __always_inline void show6(struct bpf_sock_addr *ctx, const __u32 address[4], __u16 port)
{
	ctx->user_ip6[0] = address[0];
	ctx->user_ip6[1] = address[1];
	ctx->user_ip6[2] = address[2];
	ctx->user_ip6[3] = address[3];
	ctx->user_port = port;
}

static __always_inline int go4(struct bpf_sock_addr *ctx, enum way way, struct ask *ask)
{
	if (way == TURN) {
		ask->address[3] = LOOPBACK4;
		ask->port = ask->turn_port;
	}
	show4(ctx, ask->address, ask->port);
	return way != REFUSE;
}

static __always_inline int go6(struct bpf_sock_addr *ctx, enum way way, struct ask *ask)
{
	if (way == TURN) {
		bool mapped = is_mapped(ask->address);

		ask->address[0] = ask->address[1] = 0;
		ask->address[2] = mapped ? MAPPED : 0;
		ask->address[3] = mapped ? LOOPBACK4 : LOOPBACK6_WORD3;
		ask->port = ask->turn_port;
	}
	show6(ctx, ask->address, ask->port);
	return way != REFUSE;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	struct ask ask = ASK4(ctx);

	return go4(ctx, steer_connect(ctx, &ask), &ask);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	struct ask ask = ASK6(ctx);

	return go6(ctx, steer_connect(ctx, &ask), &ask);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx) /* also for v4-mapped destinations of IPv6 sockets */
{
	struct ask ask = ASK4(ctx);

	return go4(ctx, steer_sendmsg(ctx, &ask), &ask);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct ask ask = ASK6(ctx);

	return go6(ctx, steer_sendmsg(ctx, &ask), &ask);
}

/* getpeername and recvmsg programs cannot refuse: the verifier wants 1. */
static __always_inline int show_asked4(struct bpf_sock_addr *ctx)
{
	struct ask ask = ASK4(ctx);
	struct record *record = shown(ctx, ask.address, ask.port);

	if (record)
		show4(ctx, record->address, record->port);
	return 1;
}

static __always_inline int show_asked6(struct bpf_sock_addr *ctx)
{
	struct ask ask = ASK6(ctx);
	struct record *record = shown(ctx, ask.address, ask.port);

	if (record)
		show6(ctx, record->address, record->port);
	return 1;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return show_asked4(ctx);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return show_asked6(ctx);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return show_asked4(ctx);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return show_asked6(ctx);
}

/* Nobody who is governed takes our place while we are away. */
static __always_inline int may_bind(__u16 port)
{
	struct config *config = configuration();

	if (!config)
		return refuse(REFUSED_NO_CONFIG);
	return port == config->proxy_port || port == config->dns_port ? refuse(REFUSED_BIND) : 1;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	return may_bind(ctx->user_port);
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	return may_bind(ctx->user_port);
}

SEC("cgroup/sock_create")
int sock_create(struct bpf_sock *sk) /* storage for cgroup_sock programs: from 5.12 */
{
	bool tcp = sk->type == SOCK_STREAM && sk->protocol == IPPROTO_TCP;
	bool udp = sk->type == SOCK_DGRAM && sk->protocol == IPPROTO_UDP;
	struct socket *socket;
	__u64 job;

	if ((sk->family != AF_INET && sk->family != AF_INET6) || !(tcp || udp))
		return refuse(REFUSED_SOCKET_KIND);
	job = job_of_task();
	if (!job)
		return refuse(REFUSED_NO_JOB);
	socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket)
		return refuse(FAILED_STORAGE);
	socket->record.socket_job = job;
	return 1;
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *sk) /* from 5.9; UDP has no other end */
{
	struct socket *socket;

	if (sk->protocol != IPPROTO_UDP)
		return 1;
	socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
	if (socket)
		forget_flow(socket);
	return 1;
}

static __always_inline void flow_begins(struct bpf_sock_ops *ctx, struct socket *socket)
{
	struct key key = {
		.netns = socket->record.netns,
		.client = { ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3] },
		.proxy = { ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3] },
		.client_port = bpf_htons(ctx->local_port),	      /* host order in the context */
		.proxy_port = bpf_htons(bpf_ntohl(ctx->remote_port)), /* network order, in 32 bits */
		.protocol = IPPROTO_TCP,
	};

	if (ctx->family == AF_INET || is_mapped(key.proxy)) {
		key.client[0] = key.client[1] = key.proxy[0] = key.proxy[1] = 0;
		key.client[2] = key.proxy[2] = MAPPED;
		key.client[3] = ctx->local_ip4;
		key.proxy[3] = ctx->remote_ip4;
	}
	/* without the callback at its end the entry would outlive the connection: then rather none */
	if (bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		count(FAILED_CALLBACK);
	else
		write_flow(socket, &key);
}

SEC("sockops")
int socket_operation(struct bpf_sock_ops *ctx)
{
	__u32 op = ctx->op;
	struct bpf_sock *sk = ctx->sk;
	struct socket *socket;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	socket = sk ? bpf_sk_storage_get(&sockets, sk, NULL, 0) : NULL;
	if (!socket)
		return 1;
	if (op == BPF_SOCK_OPS_STATE_CB) {
		if (ctx->args[1] == BPF_TCP_CLOSE)
			forget_flow(socket);
	} else if (socket->record.turned) {
		flow_begins(ctx, socket);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	struct config *config = configuration();
	struct bpf_sock *sk = skb->sk;
	struct socket *socket;

	if (!config)
		return refuse(DROPPED_NO_CONFIG);
	if (config->deny_all)
		return refuse(DROPPED_DENY_ALL);
	if (skb->ifindex != LOOPBACK_INTERFACE)
		return refuse(DROPPED_INTERFACE);
	sk = sk ? bpf_sk_fullsock(sk) : NULL; /* of a SYN-ACK: the listener */
	socket = sk ? bpf_sk_storage_get(&sockets, sk, NULL, 0) : NULL;
	if (!sk || !socket || !socket->record.socket_job)
		return refuse(DROPPED_UNKNOWN_SOCKET);
	if (sk->protocol == IPPROTO_UDP)
		return udp_leaves(skb, socket, config);
	return sk->state == BPF_TCP_SYN_SENT ? syn_leaves(skb, socket) : 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
