/* Entries of the `flows` map live as long as the socket that they tell of: otherwise another process could take
 * over the tuple of a closed connection, and with it the identity. */
#pragma once
#include "maps.h"

static __always_inline void forget_flow(struct socket *socket)
{
	struct key key = socket->key;

	if (!key.netns)
		return;
	socket->key.netns = 0;
	if (!bpf_map_delete_elem(&flows, &key))
		count(FLOW_REMOVED);
}

static __always_inline bool same_key(const struct key *a, const struct key *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4] && x[5] == y[5];
}

static __always_inline bool write_flow(struct socket *socket, const struct key *key)
{
	bool again = same_key(&socket->key, key);

	if (!again)
		forget_flow(socket);
	if (bpf_map_update_elem(&flows, key, &socket->record, BPF_ANY)) {
		count(FAILED_FLOW);
		return false;
	}
	if (!again) {
		socket->key = *key;
		count(FLOW_WRITTEN);
	}
	return true;
}
