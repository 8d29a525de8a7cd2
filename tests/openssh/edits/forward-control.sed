# PermitOpen, PermitListen and AllowTcpForwarding of sshd_config. What stays is the options before a key.
/^	# PermitOpen via sshd_config that doesn't match/,/^	# permitopen keys option/d
/^lperm_tests  *\(local\|remote\|no\) /d
/^# Usage: rperm_tests/,$d
