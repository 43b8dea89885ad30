/* Who is the current task: its job, and what is recorded of it. */
#pragma once
#include <bpf/bpf_core_read.h>
#include "maps.h"

/* CO-RE views: only the members that are read, found by name in the running kernel's BTF. */
#define CO_RE __attribute__((preserve_access_index))
struct qstr {
	const unsigned char *name;
} CO_RE;
struct super_block {
	unsigned int s_dev;
} CO_RE;
struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} CO_RE;
struct dentry {
	struct qstr d_name;
} CO_RE;
struct path {
	struct dentry *dentry;
} CO_RE;
struct file {
	struct path f_path;
	struct inode *f_inode;
} CO_RE;
struct mm_struct {
	struct file *exe_file;
} CO_RE;
struct task_struct {
	__u64 start_boottime; /* real_start_time before 5.5 */
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	int tgid;
	char comm[COMM_SIZE];
} CO_RE;

/* The cgroup id of the job that the task is in: its nearest registered ancestor; 0: in none.
 * bpf_get_current_ancestor_cgroup_id: sock_addr and cgroup_sock programs have it from 5.7. */
static __always_inline __u64 job_of_task(void)
{
	__u64 job = 0;

	for (int level = 1; level <= CGROUP_LEVELS; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);

		if (!id)
			break;
		if (bpf_map_lookup_elem(&jobs, &id))
			job = id;
	}
	return job;
}

static __always_inline void record_exe(struct record *record, struct task_struct *leader)
{
	struct file *exe = BPF_CORE_READ(leader, mm, exe_file);
	struct inode *inode = BPF_CORE_READ(exe, f_inode);

	record->exe_inode = BPF_CORE_READ(inode, i_ino);
	record->exe_device = BPF_CORE_READ(inode, i_sb, s_dev);
	record->exe_name[0] = 0;
	if (exe)
		bpf_probe_read_kernel_str(record->exe_name, sizeof(record->exe_name),
					  BPF_CORE_READ(exe, f_path.dentry, d_name.name));
}

/* Everything but cookie, netns, jobs and destination. False if the task could not be read.
 * bpf_get_current_task and probe_read in sock_addr programs: from 5.11, with CAP_PERFMON. */
static __always_inline bool record_task(struct record *record)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	__u64 ids = bpf_get_current_pid_tgid();
	__u64 owner = bpf_get_current_uid_gid();

	record->connect_ns = bpf_ktime_get_ns();
	record->task_cgroup = bpf_get_current_cgroup_id();
	record->pid = ids >> 32;
	record->tid = (__u32)ids;
	record->uid = (__u32)owner;
	record->gid = owner >> 32;
	/* of the leader: io_uring's workers have names and start times of their own */
	record->start_ns = BPF_CORE_READ(leader, start_boottime);
	record->parent = BPF_CORE_READ(leader, real_parent, tgid);
	record_exe(record, leader);
	if (bpf_core_read(record->comm, sizeof(record->comm), &leader->comm))
		return false;
	return record->start_ns != 0 && record->pid != 0;
}
