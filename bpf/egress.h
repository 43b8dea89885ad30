/* The second layer: what a governed socket sends leaves by loopback only, to us or to its own job. */
#pragma once
#include "flows.h"
#include "peers.h"

/* The packet's own tuple (TCP and UDP have their ports in the same place). cgroup_skb sees the packet from its
 * network header on, before fragmentation. */
static __always_inline bool read_packet(struct __sk_buff *skb, struct key *key, __u8 protocol)
{
	__u16 ports[2];
	__u32 offset;
	__u8 first, next;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return false;
	if (first >> 4 == 4) {
		key->client[2] = key->proxy[2] = MAPPED;
		offset = (first & 15) * 4;
		if (bpf_skb_load_bytes(skb, 9, &next, 1) || bpf_skb_load_bytes(skb, 12, &key->client[3], 4) ||
		    bpf_skb_load_bytes(skb, 16, &key->proxy[3], 4))
			return false;
	} else if (first >> 4 == 6) {
		offset = 40; /* extension headers are not let through */
		if (bpf_skb_load_bytes(skb, 6, &next, 1) || bpf_skb_load_bytes(skb, 8, key->client, 16) ||
		    bpf_skb_load_bytes(skb, 24, key->proxy, 16))
			return false;
	} else {
		return false;
	}
	if (next != protocol || bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
		return false;
	key->client_port = ports[0];
	key->proxy_port = ports[1];
	key->protocol = protocol;
	return true;
}

/* A connected UDP socket has no port of its own at connect(2): its flow is written when it sends. */
static __always_inline int udp_leaves(struct __sk_buff *skb, struct socket *socket, const struct config *config)
{
	struct key key = {};

	if (!read_packet(skb, &key, IPPROTO_UDP))
		return refuse(DROPPED_PACKET);
	if (is_ours(key.proxy) && key.proxy_port == config->dns_port) {
		if (!socket->record.turned)
			return refuse(DROPPED_FOREIGN_PEER);
		key.netns = socket->record.netns;
		return write_flow(socket, &key);
	}
	return peer_is_of_job(skb, &key, socket->record.socket_job) ? 1 : refuse(DROPPED_FOREIGN_PEER);
}

/* connect(2) was let through because the listener was of the same job: is it still, now that the SYN goes out? */
static __always_inline int syn_leaves(struct __sk_buff *skb, struct socket *socket)
{
	struct key key = {};

	if (socket->record.turned)
		return 1;
	if (!read_packet(skb, &key, IPPROTO_TCP))
		return refuse(DROPPED_PACKET);
	return peer_is_of_job(skb, &key, socket->record.socket_job) ? 1 : refuse(DROPPED_FOREIGN_PEER);
}
