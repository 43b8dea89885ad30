"""What becomes of traffic when something of ours fails: it waits or fails, and never goes on without us.

client       a job that makes one request at a time, when told, and says what came of it
test_killed  SIGKILL of each process under traffic
test_short   no room on the disk, no descriptors, too many connections
test_change  policy reloaded under way, or broken; a secret's source that dies; a record that stalls
"""
