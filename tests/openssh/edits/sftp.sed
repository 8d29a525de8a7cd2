# 5 bytes at a time: a million requests and answers for all of ssh-agent.
/^SFTPCMDFILE=/i truncate -s 64K $DATA
