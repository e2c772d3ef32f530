"""What the plays under tests/ share: servers that are started and ended, what mail clients are told,
a count of what held. Python's standard library only; nothing here sleeps: a wait is for a notice, a
line, an octet or the end of a process, with a deadline.
"""
