/* Is the receiver of a loopback packet a socket of the same job? */
#pragma once
#include "address.h"
#include "maps.h"

/* `source` may be zero where it is not known yet. bpf_sk_lookup_*: sock_addr and cgroup_skb have them from 5.1;
 * the storage of the socket that was found can be read (from 5.2), so no map of ports is needed. */
static __always_inline bool peer_is_of_job(void *ctx, const struct key *to, __u64 job)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *peer;
	struct socket *socket;
	__u32 size;
	bool same;

	if (is_mapped(to->proxy)) {
		tuple.ipv4.saddr = to->client[3];
		tuple.ipv4.daddr = to->proxy[3];
		tuple.ipv4.sport = to->client_port;
		tuple.ipv4.dport = to->proxy_port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, to->client, sizeof(to->client));
		__builtin_memcpy(tuple.ipv6.daddr, to->proxy, sizeof(to->proxy));
		tuple.ipv6.sport = to->client_port;
		tuple.ipv6.dport = to->proxy_port;
		size = sizeof(tuple.ipv6);
	}
	if (to->protocol == IPPROTO_TCP)
		peer = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		peer = bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!peer)
		return false;
	socket = bpf_sk_storage_get(&sockets, peer, NULL, 0);
	same = socket && job && socket->record.socket_job == job;
	bpf_sk_release(peer);
	return same;
}
