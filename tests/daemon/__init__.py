"""The four processes and their supervisor, looked at from outside while they run: /proc, signals, systemd's socket.

processes    finds them, reads their status and memory
test_rights  what each may and may not do
test_end     what is left when they end, in each way
"""
